//! What a client may do, as Metadata, DescribeGroups and DescribeCluster tell it: a bit for each of
//! Kafka's operations. While there is no authorizer, everybody may do all that there is.

/// Nobody asked.
pub(super) const NOT_ASKED: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

const OF_TOPICS: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
const OF_GROUPS: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
const OF_CLUSTERS: i32 = CREATE
    | ALTER
    | DESCRIBE
    | CLUSTER_ACTION
    | DESCRIBE_CONFIGS
    | ALTER_CONFIGS
    | IDEMPOTENT_WRITE;

/// What a client may do with a topic.
pub(super) fn of_topic(is_asked: bool) -> i32 {
    if is_asked { OF_TOPICS } else { NOT_ASKED }
}

/// What a client may do with a group.
pub(super) fn of_group(is_asked: bool) -> i32 {
    if is_asked { OF_GROUPS } else { NOT_ASKED }
}

/// What a client may do with the cluster.
pub(super) fn of_cluster(is_asked: bool) -> i32 {
    if is_asked { OF_CLUSTERS } else { NOT_ASKED }
}
