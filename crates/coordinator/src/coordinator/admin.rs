//! ListGroups, DescribeGroups, DeleteGroups.

use std::rc::Rc;

use bytes::Bytes;
use model::collections::BTreeMap;
use model::{ErrorCode, Offset};
use wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use wire::list_groups_response::ListedGroup;

use super::{Effect, GroupCoordinator};
use crate::actions::{Actions, Caller, Now, Token, WriteError};
use crate::group::{Group, State};
use crate::records;
use crate::response::Response;

/// The types of groups, as ListGroups names them.
const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";
/// The first version of DescribeGroups with an error for groups that are not there.
const NOT_FOUND_FROM: i16 = 6;

/// Which groups ListGroups is to show; an empty list lets every group pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// In one of these states, however they are written.
    pub states: Vec<String>,
    /// Of one of these types, however they are written.
    pub types: Vec<String>,
}

/// A group as ListGroups has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What kind of group this is; empty for offsets alone.
    pub protocol_type: String,
    /// Where it stands.
    pub state: &'static str,
    /// Which protocol its members speak.
    pub group_type: &'static str,
}

impl GroupListing {
    /// As the protocol has it.
    #[must_use]
    pub fn to_wire(&self) -> ListedGroup<'_> {
        ListedGroup {
            group_id: &self.group_id,
            protocol_type: &self.protocol_type,
            group_state: self.state,
            group_type: self.group_type,
        }
    }
}

/// A group as DescribeGroups has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Whether it failed.
    pub error: ErrorCode,
    /// What there is to say about that.
    pub error_message: Option<String>,
    /// Its id.
    pub group_id: String,
    /// Where it stands.
    pub state: &'static str,
    /// What kind of group this is.
    pub protocol_type: String,
    /// What the members agreed on, while it is stable.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// What it said of itself, while the group is stable.
    pub metadata: Bytes,
    /// What it is to do.
    pub assignment: Bytes,
}

impl GroupDescription {
    /// A group that cannot be described.
    #[must_use]
    pub fn failed(group_id: &str, error: ErrorCode) -> GroupDescription {
        GroupDescription {
            error,
            error_message: None,
            group_id: group_id.to_owned(),
            state: "",
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }

    /// As a version of the protocol has it.
    #[must_use]
    pub fn to_wire(&self, version: i16) -> DescribedGroup<'_> {
        let is_missing = self.error == ErrorCode::GroupIdNotFound;
        let hides_error = is_missing && version < NOT_FOUND_FROM;
        let error = if hides_error { ErrorCode::None } else { self.error };
        let members = self.members.iter().map(|member| DescribedGroupMember {
            member_id: &member.member_id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            member_metadata: &member.metadata,
            member_assignment: &member.assignment,
        });
        DescribedGroup {
            error_code: error.code(),
            error_message: self.error_message.as_deref(),
            group_id: &self.group_id,
            group_state: self.state,
            protocol_type: &self.protocol_type,
            protocol_data: &self.protocol,
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }
}

/// How far a group is, for whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPositions {
    /// Its id.
    pub group_id: String,
    /// How many members it has.
    pub member_count: usize,
    /// What it has durably committed, by topic and partition.
    pub committed: Vec<(String, i32, Offset)>,
}

impl GroupCoordinator {
    /// How far every group is.
    #[must_use]
    pub fn positions(&self) -> Vec<GroupPositions> {
        let groups = self.groups.values().map(|group| GroupPositions {
            group_id: group.id.as_ref().to_owned(),
            member_count: match &group.consumer {
                Some(consumer) => consumer.members().len(),
                None => group.members.len(),
            },
            committed: group
                .offsets
                .durable()
                .map(|(topic, partition, offset)| {
                    (topic.to_owned(), partition, Offset(offset.offset))
                })
                .collect(),
        });
        groups.collect()
    }

    /// The groups that pass the filter.
    #[must_use]
    pub fn list_groups(&self, filter: &GroupFilter) -> Vec<GroupListing> {
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let type_of = |group: &Group| if group.consumer.is_some() { CONSUMER } else { CLASSIC };
        let groups = self.groups.values();
        let listed = groups.filter(|group| {
            passes(&filter.types, type_of(group)) && passes(&filter.states, group.state_name())
        });
        listed
            .map(|group| GroupListing {
                group_id: group.id.as_ref().to_owned(),
                protocol_type: match &group.consumer {
                    Some(_) => CONSUMER.to_owned(),
                    None => group.protocol_type.clone().unwrap_or_default(),
                },
                state: group.state_name(),
                group_type: type_of(group),
            })
            .collect()
    }

    /// A group with its members. One that is not there is Dead.
    #[must_use]
    pub fn describe_group(&self, group_id: &str) -> GroupDescription {
        match self.groups.get(group_id) {
            Some(group) if group.consumer.is_none() => describe(group),
            found => GroupDescription {
                error_message: Some(match found {
                    Some(_) => format!("Group {group_id} is not a classic group."),
                    None => format!("Group {group_id} not found."),
                }),
                state: State::Dead.name(),
                ..GroupDescription::failed(group_id, ErrorCode::GroupIdNotFound)
            },
        }
    }

    /// Deletes groups that have no members, and their offsets. The answer comes when that is
    /// durable; it holds the groups that were given, in their order, each once.
    pub fn delete_groups(&mut self, caller: &Caller<'_>, group_ids: &[&str], now: Now) -> Actions {
        let mut results = Vec::<(String, ErrorCode)>::with_capacity(group_ids.len());
        let mut seen = BTreeMap::new();
        let mut groups = Vec::new();
        let mut records = Vec::new();
        for group_id in group_ids {
            if seen.insert(*group_id, ()).is_some() {
                continue;
            }
            let error = match self.groups.get_mut(*group_id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) => match group.state {
                    State::Dead => ErrorCode::GroupIdNotFound,
                    State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                        ErrorCode::NonEmptyGroup
                    }
                    State::Empty if !group.is_deserted() && group.consumer.is_some() => {
                        ErrorCode::NonEmptyGroup
                    }
                    State::Empty => {
                        let entries = group.offsets.entries();
                        records.extend(entries.map(|(topic, partition, _)| {
                            records::offset_tombstone(group_id, topic, partition)
                        }));
                        records.extend(group.tombstones());
                        group.enter(State::Dead, now.wall);
                        groups.push(group.id.clone());
                        ErrorCode::None
                    }
                },
            };
            results.push(((*group_id).to_owned(), error));
        }
        let mut turn = self.turn(now);
        if records.is_empty() {
            turn.answer(caller.token, Response::DeleteGroups(results));
        } else {
            let answer = Some((caller.token, results));
            turn.write(records, Effect::DeleteGroups { answer, groups });
        }
        turn.actions
    }

    pub(super) fn group_deletion_done(
        &mut self,
        answer: Option<(Token, Vec<(String, ErrorCode)>)>,
        groups: &[Rc<str>],
        result: Result<(), WriteError>,
        now: Now,
    ) -> Actions {
        for id in groups {
            match result {
                Ok(()) => {
                    self.overtake_group(id);
                    self.groups.remove(id);
                }
                Err(_) => {
                    let group = self.groups.get_mut(id).expect("a group that is deleted stays");
                    group.enter(State::Empty, now.wall);
                }
            }
        }
        let mut actions = Actions::default();
        if let Some((token, results)) = answer {
            let mut response = Response::DeleteGroups(results);
            if let Err(error) = result {
                response = response.failed(error.group_error());
            }
            actions.responses.push((token, response));
        }
        actions
    }
}

fn describe(group: &Group) -> GroupDescription {
    let is_stable = group.state == State::Stable;
    let protocol = group.protocol.as_deref().filter(|_| is_stable);
    let members = group.members.values().map(|member| MemberDescription {
        member_id: member.id.as_ref().to_owned(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: member.metadata(protocol),
        // Told in a rebalance, too, unlike the metadata.
        assignment: member.assignment.clone(),
    });
    GroupDescription {
        error: ErrorCode::None,
        error_message: None,
        group_id: group.id.as_ref().to_owned(),
        state: group.state.name(),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        protocol: protocol.unwrap_or_default().to_owned(),
        members: members.collect(),
    }
}
