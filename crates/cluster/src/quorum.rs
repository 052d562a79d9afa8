//! The quorum as its files tell it: `quorum-state`, the voters, and whether a directory is ours.
//!
//! This node is the only voter of its quorum or it does not start: taking a directory whose quorum
//! has other voters would split the brain. The epoch grows at each start, by [`next_state`], and
//! the first record of each epoch names the leader (the broker writes it).

use std::fmt::Write as _;

use model::{NodeId, Uuid};

use crate::feature::{METADATA_VERSION_MAX, METADATA_VERSION_MIN};
use crate::json::{self, Quoted, Value};
use crate::{Error, MetadataImage};

/// The file of the metadata partition that holds [`QuorumState`].
pub const QUORUM_STATE_FILE: &str = "quorum-state";
/// The name of the first snapshot: it stands for no record and names the voters.
pub const BOOTSTRAP_SNAPSHOT_FILE: &str = "00000000000000000000-0000000000.checkpoint";

const NONE: NodeId = NodeId(-1);

/// What a voter must not forget: whom it follows or voted for, and in which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    /// The leader of the epoch.
    pub leader_id: Option<NodeId>,
    /// The epoch.
    pub leader_epoch: i32,
    /// Whom this voter gave its vote in the epoch.
    pub voted_id: Option<NodeId>,
    /// The directory of the one who got the vote; zero without one, or in version 0.
    pub voted_directory_id: Uuid,
    /// The voters of a static quorum (version 0); `None` where the log names them.
    pub static_voters: Option<Vec<NodeId>>,
}

impl QuorumState {
    /// The text of the file.
    #[must_use]
    pub fn encode(&self) -> String {
        let leader = self.leader_id.unwrap_or(NONE);
        let voted = self.voted_id.unwrap_or(NONE);
        let epoch = self.leader_epoch;
        let Some(voters) = &self.static_voters else {
            let directory = self.voted_directory_id.to_string();
            return format!(
                "{{\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
                 \"votedDirectoryId\":{},\"data_version\":1}}",
                Quoted(&directory)
            );
        };
        let mut list = String::new();
        for voter in voters {
            let comma = if list.is_empty() { "" } else { "," };
            write!(list, "{comma}{{\"voterId\":{voter}}}").expect("a String takes all text");
        }
        format!(
            "{{\"clusterId\":\"\",\"leaderId\":{leader},\"leaderEpoch\":{epoch},\
             \"votedId\":{voted},\"appliedOffset\":0,\"currentVoters\":[{list}],\
             \"data_version\":0}}"
        )
    }

    /// Reads the text of the file, version 0 or 1; `None` if it is anything else.
    #[must_use]
    pub fn decode(text: &str) -> Option<QuorumState> {
        let state = json::parse(text)?;
        let number = |name: &str| state.field(name).and_then(Value::number);
        let small = |name: &str| number(name).and_then(|number| i32::try_from(number).ok());
        let node = |name: &str| small(name).map(|id| (id >= 0).then_some(NodeId(id)));
        let directory = || state.field("votedDirectoryId")?.text()?.parse().ok();
        let (voted_directory_id, static_voters) = match number("data_version")? {
            0 => (Uuid::ZERO, Some(voters(state.field("currentVoters"))?)),
            1 => (directory()?, None),
            _ => return None,
        };
        Some(QuorumState {
            leader_id: node("leaderId")?,
            leader_epoch: small("leaderEpoch").filter(|epoch| *epoch >= 0)?,
            voted_id: node("votedId")?,
            voted_directory_id,
            static_voters,
        })
    }
}

/// The ids in `currentVoters`; it may be missing or null.
fn voters(value: Option<&Value>) -> Option<Vec<NodeId>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(voters)) => {
            let id = |voter: &Value| i32::try_from(voter.field("voterId")?.number()?).ok();
            voters.iter().map(|voter| id(voter).map(NodeId)).collect()
        }
        Some(Value::Number(_) | Value::Text(_) | Value::Boolean(_) | Value::Object(_)) => None,
    }
}

/// The state to write, and sync, before this node leads again: a new epoch, led by it. The
/// epoch also exceeds that of the last batch of the log, in case the file was lost.
///
/// # Errors
/// When epochs have run out.
pub fn next_state(
    before: Option<&QuorumState>,
    last_epoch_of_log: i32,
    node: NodeId,
) -> Result<QuorumState, Error> {
    let last = before.map_or(0, |state| state.leader_epoch).max(last_epoch_of_log);
    let leader_epoch = last
        .checked_add(1)
        .ok_or_else(|| Error::Damaged("the quorum's epoch is at its end".to_owned()))?;
    Ok(QuorumState {
        leader_id: Some(node),
        leader_epoch,
        voted_id: None,
        voted_directory_id: Uuid::ZERO,
        static_voters: before.and_then(|state| state.static_voters.clone()),
    })
}

/// A voter by its id and its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    /// The node.
    pub id: NodeId,
    /// The directory that it votes with; zero where the record names none.
    pub directory_id: Uuid,
}

/// What a directory says of the quorum that its metadata belongs to.
#[derive(Clone, Debug)]
pub struct DirectoryClaim<'a> {
    /// This node's id, as configured.
    pub node: NodeId,
    /// `node.id` of meta.properties.
    pub directory_node: NodeId,
    /// `directory.id` of meta.properties.
    pub directory_id: Uuid,
    /// The voters of the last Voters record in the snapshot and log, committed or not: it counts
    /// from when it is appended.
    pub voters: Option<&'a [Voter]>,
    /// quorum-state, if there is one.
    pub quorum_state: Option<&'a QuorumState>,
    /// What its snapshot and log say.
    pub metadata: &'a MetadataImage,
}

/// Whether this node may take the directory: only if its quorum is exactly this node, its records
/// are ones that are known here, no other broker belongs to it and no other log directory.
///
/// # Errors
/// [`Error::ForeignDirectory`] says in one line why not.
pub fn may_take_directory(claim: &DirectoryClaim<'_>) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::ForeignDirectory(why));
    let node = claim.node;
    if claim.directory_node != node {
        return refuse(format!(
            "the directory belongs to node.id {} and this is node.id {node}",
            claim.directory_node
        ));
    }
    let static_voters = claim.quorum_state.and_then(|state| state.static_voters.as_deref());
    match (claim.voters, static_voters) {
        (Some([only]), _) if only.id == node => {
            let names_other =
                only.directory_id != Uuid::ZERO && only.directory_id != claim.directory_id;
            if names_other {
                return refuse(format!(
                    "the only voter is node {node} with directory {}, and this is directory {}",
                    only.directory_id, claim.directory_id
                ));
            }
        }
        (Some(voters), _) => {
            return refuse(format!(
                "the voters of its quorum are {} and not node {node} alone",
                listed(voters.iter().map(|voter| voter.id))
            ));
        }
        (None, Some([only])) if *only == node => {}
        (None, Some(voters)) => {
            return refuse(format!(
                "the static voters of its quorum are {} and not node {node} alone",
                listed(voters.iter().copied())
            ));
        }
        (None, None) => {
            return refuse("it names no voters: its metadata belongs to another node".to_owned());
        }
    }
    match claim.metadata.metadata_version() {
        METADATA_VERSION_MIN..=METADATA_VERSION_MAX => {}
        0 => return refuse("it names no metadata.version".to_owned()),
        level => {
            return refuse(format!(
                "its metadata.version is {level}, and {METADATA_VERSION_MIN} to \
                 {METADATA_VERSION_MAX} are known"
            ));
        }
    }
    is_alone(claim).map_or(Ok(()), refuse)
}

/// Why the directory is not all there is of its cluster.
fn is_alone(claim: &DirectoryClaim<'_>) -> Option<String> {
    let (node, brokers) = (claim.node, claim.metadata.brokers());
    if brokers.keys().any(|id| *id != node) {
        let ids = listed(brokers.keys().copied());
        return Some(format!("the brokers of its cluster are {ids} and not node {node} alone"));
    }
    match brokers.get(&node) {
        Some(broker) if broker.log_dirs.iter().any(|id| *id != claim.directory_id) => {
            Some(format!(
                "node {node} has {} log directories, and one is known here",
                broker.log_dirs.len()
            ))
        }
        None if claim.metadata.has_controller(node) => {
            Some(format!("node {node} is a controller there and no broker"))
        }
        Some(_) | None => None,
    }
}

fn listed(ids: impl Iterator<Item = NodeId>) -> String {
    let mut ids: Vec<NodeId> = ids.collect();
    ids.sort_unstable();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("[{}]", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MetadataRecord, RegisterBroker, RegisterController};
    use model::Offset;

    const V1: &str = "{\"leaderId\":1,\"leaderEpoch\":3,\"votedId\":-1,\
        \"votedDirectoryId\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"data_version\":1}";
    const V0: &str = "{\"clusterId\":\"\",\"leaderId\":-1,\"leaderEpoch\":7,\"votedId\":2,\
        \"appliedOffset\":0,\"currentVoters\":[{\"voterId\":1},{\"voterId\":2}],\
        \"data_version\":0}";

    #[test]
    fn quorum_state_is_apache_kafkas_text() {
        let v1 = QuorumState::decode(V1).unwrap();
        assert_eq!(v1.leader_id, Some(NodeId(1)));
        assert_eq!((v1.leader_epoch, v1.voted_id, &v1.static_voters), (3, None, &None));
        assert_eq!(v1.encode(), V1);
        let v0 = QuorumState::decode(V0).unwrap();
        assert_eq!((v0.leader_id, v0.voted_id), (None, Some(NodeId(2))));
        assert_eq!(v0.static_voters, Some(vec![NodeId(1), NodeId(2)]));
        assert_eq!(v0.encode(), V0);
        for text in ["", "{}", "[]", "{\"data_version\":2}", &V1.replace("3", "-3"), &V1[1..]] {
            assert_eq!(QuorumState::decode(text), None, "{text}");
        }
    }

    #[test]
    fn each_start_is_a_higher_epoch() {
        let node = NodeId(1);
        assert_eq!(next_state(None, 0, node).unwrap().leader_epoch, 1);
        let state = QuorumState::decode(V1).unwrap();
        assert_eq!(next_state(Some(&state), 3, node).unwrap().leader_epoch, 4);
        assert_eq!(next_state(Some(&state), 9, node).unwrap().leader_epoch, 10);
        assert!(next_state(None, i32::MAX, node).is_err());
    }

    const OURS: Uuid = Uuid([7; 16]);

    fn level(feature_level: i16) -> MetadataRecord {
        MetadataRecord::FeatureLevel { name: "metadata.version".to_owned(), feature_level }
    }

    fn judge(
        voters: Option<&[Voter]>,
        state: Option<&QuorumState>,
        records: &[MetadataRecord],
        expected: &str,
    ) {
        let metadata = MetadataImage::from_snapshot(records, Offset(9)).unwrap();
        let result = may_take_directory(&DirectoryClaim {
            node: NodeId(1),
            directory_node: NodeId(1),
            directory_id: OURS,
            voters,
            quorum_state: state,
            metadata: &metadata,
        });
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(expected), "{message}");
        assert_eq!(message.is_empty(), expected.is_empty(), "{message}");
        assert!(!message.contains('\n'));
    }

    #[test]
    fn a_directory_of_a_larger_cluster_is_refused() {
        let controller = || {
            MetadataRecord::RegisterController(RegisterController {
                controller_id: NodeId(1),
                incarnation_id: OURS,
                end_points: Vec::new(),
                features: Vec::new(),
            })
        };
        let broker = |id: i32, log_dirs: &[Uuid]| {
            MetadataRecord::RegisterBroker(RegisterBroker {
                broker_id: NodeId(id),
                incarnation_id: OURS,
                broker_epoch: 3,
                end_points: Vec::new(),
                features: Vec::new(),
                rack: None,
                fenced: false,
                in_controlled_shutdown: false,
                log_dirs: log_dirs.to_vec(),
                cordoned_log_dirs: None,
            })
        };
        let check = |records: &[MetadataRecord], expected: &str| {
            let records = [&[level(33)], records].concat();
            judge(Some(&[Voter { id: NodeId(1), directory_id: OURS }]), None, &records, expected);
        };
        check(&[], "");
        check(&[controller(), broker(1, &[OURS])], "");
        check(&[controller()], "controller there and no broker");
        check(&[controller(), broker(2, &[OURS])], "the brokers of its cluster are [2]");
        check(&[broker(1, &[OURS]), broker(3, &[])], "[1, 3]");
        check(&[broker(1, &[OURS, Uuid([8; 16])])], "2 log directories");
    }

    #[test]
    fn only_the_sole_voter_takes_a_directory() {
        let directory_id = OURS;
        let ours = Voter { id: NodeId(1), directory_id };
        let other = Voter { id: NodeId(2), directory_id: Uuid::from_random(3, 4) };
        let state = |voters: &[i32]| QuorumState {
            leader_id: None,
            leader_epoch: 1,
            voted_id: None,
            voted_directory_id: Uuid::ZERO,
            static_voters: Some(voters.iter().copied().map(NodeId).collect()),
        };
        type Claimed<'a> = Option<&'a [Voter]>;
        let check = |voters: Claimed<'_>,
                     state: Option<&QuorumState>,
                     version: Option<i16>,
                     expected: &str| {
            let records = version.map(level);
            judge(voters, state, records.as_slice(), expected);
        };
        check(Some(&[ours]), None, Some(33), "");
        check(Some(&[Voter { directory_id: Uuid::ZERO, ..ours }]), None, Some(23), "");
        check(None, Some(&state(&[1])), Some(33), "");
        check(Some(&[ours, other]), None, Some(33), "[1, 2]");
        check(Some(&[other]), None, Some(33), "[2]");
        check(Some(&[]), None, Some(33), "[]");
        check(Some(&[Voter { id: NodeId(1), ..other }]), None, Some(33), "directory");
        check(Some(&[other]), Some(&state(&[1])), Some(33), "[2]");
        check(None, Some(&state(&[1, 2])), Some(33), "static");
        check(None, None, Some(33), "no voters");
        check(Some(&[ours]), None, Some(34), "34");
        check(Some(&[ours]), None, Some(22), "22");
        check(Some(&[ours]), None, None, "metadata.version");
    }
}
