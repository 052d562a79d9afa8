//! Requests of the classic protocol that wait for a consumer group's write, kept by value. When the
//! write is done the group may be one of the other protocol, so everything is kept that either needs.

use bytes::Bytes;
use model::{ErrorCode, Uuid};
use wire::heartbeat_request::HeartbeatRequest;
use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};

use crate::actions::{Caller, Token};
use crate::response::{Join, Leave, Response, Sync};

/// A request with who asks.
#[derive(Debug)]
pub struct ClassicCall {
    token: Token,
    version: i16,
    client_id: String,
    client_host: String,
    random: Uuid,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Join(JoinCall),
    Sync(SyncCall),
    Heartbeat { member_id: String, instance_id: Option<String>, generation: i32 },
    Leave(Vec<(String, Option<String>)>),
}

#[derive(Debug)]
struct JoinCall {
    member_id: String,
    instance_id: Option<String>,
    protocol_type: String,
    protocols: Vec<(String, Bytes)>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
}

#[derive(Debug)]
struct SyncCall {
    member_id: String,
    instance_id: Option<String>,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    assignments: Vec<(String, Bytes)>,
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub enum ClassicRequest<'a> {
    /// JoinGroup.
    Join(&'a JoinGroupRequest<'a>),
    /// SyncGroup.
    Sync(&'a SyncGroupRequest<'a>),
    /// Heartbeat.
    Heartbeat(&'a HeartbeatRequest<'a>),
    /// LeaveGroup: the members' ids and static names.
    Leave(&'a [(&'a str, Option<&'a str>)]),
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

impl ClassicCall {
    /// Keeps a request.
    pub fn keep(caller: &Caller<'_>, request: ClassicRequest<'_>) -> ClassicCall {
        let body = match request {
            ClassicRequest::Join(join) => Body::Join(JoinCall {
                member_id: join.member_id.to_owned(),
                instance_id: owned(join.group_instance_id),
                protocol_type: join.protocol_type.to_owned(),
                protocols: join
                    .protocols
                    .iter()
                    .map(|one| (one.name.to_owned(), Bytes::copy_from_slice(one.metadata)))
                    .collect(),
                session_timeout_ms: join.session_timeout_ms,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
            }),
            ClassicRequest::Sync(sync) => Body::Sync(SyncCall {
                member_id: sync.member_id.to_owned(),
                instance_id: owned(sync.group_instance_id),
                generation: sync.generation_id,
                protocol_type: owned(sync.protocol_type),
                protocol: owned(sync.protocol_name),
                assignments: sync
                    .assignments
                    .iter()
                    .map(|one| (one.member_id.to_owned(), Bytes::copy_from_slice(one.assignment)))
                    .collect(),
            }),
            ClassicRequest::Heartbeat(beat) => Body::Heartbeat {
                member_id: beat.member_id.to_owned(),
                instance_id: owned(beat.group_instance_id),
                generation: beat.generation_id,
            },
            ClassicRequest::Leave(members) => Body::Leave(
                members.iter().map(|(id, name)| ((*id).to_owned(), owned(*name))).collect(),
            ),
        };
        ClassicCall {
            token: caller.token,
            version: caller.version,
            client_id: caller.client_id.to_owned(),
            client_host: caller.client_host.to_owned(),
            random: caller.random,
            body,
        }
    }

    /// The answer to one who waits in vain.
    pub fn refused(&self, error: ErrorCode) -> (Token, Response) {
        let response = match &self.body {
            Body::Join(join) => Response::Join(Join::failed(error, &join.member_id)),
            Body::Sync(_) => Response::Sync(Sync::failed(error)),
            Body::Heartbeat { .. } => Response::Heartbeat(error),
            Body::Leave(_) => Response::Leave(Leave { error, members: Vec::new() }),
        };
        (self.token, response)
    }

    /// Gives the request back as it came.
    pub fn resume(&self, group_id: &str, run: impl FnOnce(&Caller<'_>, ClassicRequest<'_>)) {
        let caller = Caller {
            token: self.token,
            version: self.version,
            client_id: &self.client_id,
            client_host: &self.client_host,
            random: self.random,
        };
        match &self.body {
            Body::Join(join) => {
                let protocols = join.protocols.iter();
                let protocols =
                    protocols.map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata });
                let request = JoinGroupRequest {
                    group_id,
                    session_timeout_ms: join.session_timeout_ms,
                    rebalance_timeout_ms: join.rebalance_timeout_ms,
                    member_id: &join.member_id,
                    group_instance_id: join.instance_id.as_deref(),
                    protocol_type: &join.protocol_type,
                    protocols: protocols.collect(),
                    ..JoinGroupRequest::default()
                };
                run(&caller, ClassicRequest::Join(&request));
            }
            Body::Sync(sync) => {
                let assignments = sync.assignments.iter();
                let assignments = assignments.map(|(member_id, assignment)| {
                    SyncGroupRequestAssignment { member_id, assignment }
                });
                let request = SyncGroupRequest {
                    group_id,
                    generation_id: sync.generation,
                    member_id: &sync.member_id,
                    group_instance_id: sync.instance_id.as_deref(),
                    protocol_type: sync.protocol_type.as_deref(),
                    protocol_name: sync.protocol.as_deref(),
                    assignments: assignments.collect(),
                };
                run(&caller, ClassicRequest::Sync(&request));
            }
            Body::Heartbeat { member_id, instance_id, generation } => {
                let request = HeartbeatRequest {
                    group_id,
                    generation_id: *generation,
                    member_id,
                    group_instance_id: instance_id.as_deref(),
                };
                run(&caller, ClassicRequest::Heartbeat(&request));
            }
            Body::Leave(members) => {
                let members: Vec<(&str, Option<&str>)> =
                    members.iter().map(|(id, name)| (id.as_str(), name.as_deref())).collect();
                run(&caller, ClassicRequest::Leave(&members));
            }
        }
    }
}
