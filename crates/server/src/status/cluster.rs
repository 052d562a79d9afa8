//! What any Kafka cluster tells: brokers, topics, groups and how far behind they are.

use client::{AutoCreate, Cluster};
use runtime::Runtime;
use serde_json::{Value, json};

use super::{counted, node::Identity, row};
use crate::{group, table::Table};

/// Groups whose lag is asked for: each costs a few requests.
const GROUPS_ASKED_MAX: usize = 100;
/// Groups that are shown, those with the largest lag.
const LAGS_SHOWN: usize = 10;

/// How a cluster is.
pub(super) struct ClusterStatus {
    id: Option<String>,
    controller: i32,
    /// Each with its id, its host and its port.
    brokers: Vec<(i32, String, i32)>,
    topics: usize,
    partitions: usize,
    /// Partitions without a leader.
    leaderless: usize,
    groups: usize,
    /// The largest first.
    pub(super) lags: Vec<GroupLag>,
}

pub(super) struct GroupLag {
    group: String,
    state: String,
    lag: i64,
}

/// # Errors
/// The connections', and the brokers'.
pub(super) async fn look(runtime: &Runtime, cluster: &Cluster) -> client::Result<ClusterStatus> {
    let metadata = Box::pin(async { cluster.any().await?.metadata(None, AutoCreate::Never).await });
    let metadata = metadata.await?;
    let groups = Box::pin(group::all(runtime, cluster)).await?;
    let mut lags = Vec::new();
    for listed in groups.iter().take(GROUPS_ASKED_MAX) {
        let standing = Box::pin(group::standing(runtime, cluster, &listed.group_id)).await?;
        let behind = standing.iter().filter_map(|one| Some((one.end?.0 - one.committed.0).max(0)));
        let lag = behind.fold(0, i64::saturating_add);
        lags.push(GroupLag { group: listed.group_id.clone(), state: listed.state.clone(), lag });
    }
    lags.sort_by(|one, other| other.lag.cmp(&one.lag).then_with(|| one.group.cmp(&other.group)));
    lags.truncate(LAGS_SHOWN);
    let leaders = || metadata.topics.iter().flat_map(|topic| &topic.leaders);
    let brokers = metadata.brokers.iter();
    Ok(ClusterStatus {
        id: metadata.cluster_id.clone(),
        controller: metadata.controller_id,
        brokers: brokers.map(|one| (one.node_id, one.host.clone(), one.port)).collect(),
        topics: metadata.topics.len(),
        partitions: leaders().count(),
        leaderless: leaders().filter(|leader| **leader < 0).count(),
        groups: groups.len(),
        lags,
    })
}

impl ClusterStatus {
    /// Whether a broker is one of its.
    pub(super) fn has(&self, identity: &Identity) -> bool {
        self.id.as_ref() == Some(&identity.cluster_id)
    }

    pub(super) fn json(&self) -> Value {
        let brokers = self.brokers.iter().map(|(id, host, port)| {
            json!({ "id": id, "host": host, "port": port, "controller": *id == self.controller })
        });
        let lags = self
            .lags
            .iter()
            .map(|one| json!({ "group": one.group, "state": one.state, "lag": one.lag }));
        json!({
            "cluster_id": self.id,
            "brokers": brokers.collect::<Vec<_>>(),
            "topics": self.topics,
            "partitions": self.partitions,
            "leaderless_partitions": self.leaderless,
            "groups": self.groups,
            "largest_lags": lags.collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let brokers: Vec<String> = self
            .brokers
            .iter()
            .map(|(id, host, port)| {
                let controller = if *id == self.controller { " (controller)" } else { "" };
                format!("{id} at {host}:{port}{controller}")
            })
            .collect();
        let leaders = match self.leaderless {
            0 => "all with a leader".to_owned(),
            count => format!("{count} without a leader"),
        };
        let topics = counted(self.topics, "topic", "topics");
        let partitions = counted(self.partitions, "partition", "partitions");
        let asked = match self.groups {
            count if count > GROUPS_ASKED_MAX => {
                format!("{count} groups, the first {GROUPS_ASKED_MAX} asked for their lag")
            }
            count => counted(count, "group", "groups"),
        };
        [
            row("cluster", self.id.as_deref().unwrap_or("-")),
            row("brokers", &brokers.join(", ")),
            row("topics", &format!("{topics}, {partitions}, {leaders}")),
            row("groups", &asked),
        ]
        .concat()
    }
}

pub(super) fn lags_table(lags: &[GroupLag]) -> Table {
    let mut table = Table::new(&["group", "state", "lag"]);
    for one in lags {
        table.push([one.group.clone().into(), one.state.clone().into(), one.lag.into()]);
    }
    table
}
