//! Every API of Apache Kafka 4.4.0: facts of its schemas.

/// What an API is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    Clients,
    ExactlyOnce,
    ConsumerGroups,
    ShareGroups,
    StreamsGroups,
    Security,
    Cluster,
}

impl Area {
    pub(crate) const ALL: [Area; 7] = [
        Area::Clients,
        Area::ExactlyOnce,
        Area::ConsumerGroups,
        Area::ShareGroups,
        Area::StreamsGroups,
        Area::Security,
        Area::Cluster,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Area::Clients => "clients and admin tools",
            Area::ExactlyOnce => "transactions",
            Area::ConsumerGroups => "consumer groups of KIP-848",
            Area::ShareGroups => "share groups (KIP-932)",
            Area::StreamsGroups => "streams groups (KIP-1071)",
            Area::Security => "security and quotas",
            Area::Cluster => "clusters of several nodes",
        }
    }
}

/// An API and the versions that Apache Kafka serves.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max: i16,
    pub(crate) area: Area,
}

const fn api(key: i16, name: &'static str, min: i16, max: i16, area: Area) -> Api {
    Api { key, name, min, max, area }
}

/// By key.
pub(crate) const APIS: &[Api] = &[
    api(0, "Produce", 3, 13, Area::Clients),
    api(1, "Fetch", 4, 18, Area::Clients),
    api(2, "ListOffsets", 1, 11, Area::Clients),
    api(3, "Metadata", 0, 13, Area::Clients),
    api(8, "OffsetCommit", 2, 10, Area::Clients),
    api(9, "OffsetFetch", 1, 10, Area::Clients),
    api(10, "FindCoordinator", 0, 6, Area::Clients),
    api(11, "JoinGroup", 0, 9, Area::Clients),
    api(12, "Heartbeat", 0, 4, Area::Clients),
    api(13, "LeaveGroup", 0, 5, Area::Clients),
    api(14, "SyncGroup", 0, 5, Area::Clients),
    api(15, "DescribeGroups", 0, 6, Area::Clients),
    api(16, "ListGroups", 0, 5, Area::Clients),
    api(17, "SaslHandshake", 0, 1, Area::Security),
    api(18, "ApiVersions", 0, 5, Area::Clients),
    api(19, "CreateTopics", 2, 7, Area::Clients),
    api(20, "DeleteTopics", 1, 6, Area::Clients),
    api(21, "DeleteRecords", 0, 2, Area::Clients),
    api(22, "InitProducerId", 0, 5, Area::Clients),
    api(23, "OffsetForLeaderEpoch", 2, 4, Area::Clients),
    api(24, "AddPartitionsToTxn", 0, 5, Area::ExactlyOnce),
    api(25, "AddOffsetsToTxn", 0, 4, Area::ExactlyOnce),
    api(26, "EndTxn", 0, 5, Area::ExactlyOnce),
    api(27, "WriteTxnMarkers", 1, 2, Area::ExactlyOnce),
    api(28, "TxnOffsetCommit", 0, 6, Area::ExactlyOnce),
    api(29, "DescribeAcls", 1, 3, Area::Security),
    api(30, "CreateAcls", 1, 3, Area::Security),
    api(31, "DeleteAcls", 1, 3, Area::Security),
    api(32, "DescribeConfigs", 1, 4, Area::Clients),
    api(33, "AlterConfigs", 0, 2, Area::Clients),
    api(34, "AlterReplicaLogDirs", 1, 2, Area::Cluster),
    api(35, "DescribeLogDirs", 1, 5, Area::Clients),
    api(36, "SaslAuthenticate", 0, 2, Area::Security),
    api(37, "CreatePartitions", 0, 3, Area::Clients),
    api(38, "CreateDelegationToken", 1, 3, Area::Security),
    api(39, "RenewDelegationToken", 1, 2, Area::Security),
    api(40, "ExpireDelegationToken", 1, 2, Area::Security),
    api(41, "DescribeDelegationToken", 1, 3, Area::Security),
    api(42, "DeleteGroups", 0, 3, Area::Clients),
    api(43, "ElectLeaders", 0, 2, Area::Cluster),
    api(44, "IncrementalAlterConfigs", 0, 1, Area::Clients),
    api(45, "AlterPartitionReassignments", 0, 1, Area::Cluster),
    api(46, "ListPartitionReassignments", 0, 0, Area::Cluster),
    api(47, "OffsetDelete", 0, 0, Area::Clients),
    api(48, "DescribeClientQuotas", 0, 1, Area::Security),
    api(49, "AlterClientQuotas", 0, 1, Area::Security),
    api(50, "DescribeUserScramCredentials", 0, 0, Area::Security),
    api(51, "AlterUserScramCredentials", 0, 0, Area::Security),
    api(52, "Vote", 0, 2, Area::Cluster),
    api(53, "BeginQuorumEpoch", 0, 1, Area::Cluster),
    api(54, "EndQuorumEpoch", 0, 1, Area::Cluster),
    api(55, "DescribeQuorum", 0, 2, Area::Cluster),
    api(56, "AlterPartition", 2, 3, Area::Cluster),
    api(57, "UpdateFeatures", 0, 2, Area::Cluster),
    api(58, "Envelope", 0, 0, Area::Cluster),
    api(59, "FetchSnapshot", 0, 1, Area::Cluster),
    api(60, "DescribeCluster", 0, 2, Area::Clients),
    api(61, "DescribeProducers", 0, 0, Area::ExactlyOnce),
    api(62, "BrokerRegistration", 0, 4, Area::Cluster),
    api(63, "BrokerHeartbeat", 0, 2, Area::Cluster),
    api(64, "UnregisterBroker", 0, 0, Area::Cluster),
    api(65, "DescribeTransactions", 0, 0, Area::ExactlyOnce),
    api(66, "ListTransactions", 0, 2, Area::ExactlyOnce),
    api(67, "AllocateProducerIds", 0, 0, Area::Cluster),
    api(68, "ConsumerGroupHeartbeat", 0, 1, Area::ConsumerGroups),
    api(69, "ConsumerGroupDescribe", 0, 1, Area::ConsumerGroups),
    api(70, "ControllerRegistration", 0, 0, Area::Cluster),
    api(71, "GetTelemetrySubscriptions", 0, 0, Area::Clients),
    api(72, "PushTelemetry", 0, 0, Area::Clients),
    api(73, "AssignReplicasToDirs", 0, 0, Area::Cluster),
    api(74, "ListConfigResources", 0, 1, Area::Clients),
    api(75, "DescribeTopicPartitions", 0, 0, Area::Clients),
    api(76, "ShareGroupHeartbeat", 1, 1, Area::ShareGroups),
    api(77, "ShareGroupDescribe", 1, 1, Area::ShareGroups),
    api(78, "ShareFetch", 1, 2, Area::ShareGroups),
    api(79, "ShareAcknowledge", 1, 2, Area::ShareGroups),
    api(80, "AddRaftVoter", 0, 1, Area::Cluster),
    api(81, "RemoveRaftVoter", 0, 0, Area::Cluster),
    api(82, "UpdateRaftVoter", 0, 0, Area::Cluster),
    api(83, "InitializeShareGroupState", 0, 0, Area::ShareGroups),
    api(84, "ReadShareGroupState", 0, 0, Area::ShareGroups),
    api(85, "WriteShareGroupState", 0, 1, Area::ShareGroups),
    api(86, "DeleteShareGroupState", 0, 0, Area::ShareGroups),
    api(87, "ReadShareGroupStateSummary", 0, 1, Area::ShareGroups),
    api(88, "StreamsGroupHeartbeat", 0, 1, Area::StreamsGroups),
    api(89, "StreamsGroupDescribe", 0, 1, Area::StreamsGroups),
    api(90, "DescribeShareGroupOffsets", 0, 1, Area::ShareGroups),
    api(91, "AlterShareGroupOffsets", 0, 0, Area::ShareGroups),
    api(92, "DeleteShareGroupOffsets", 0, 0, Area::ShareGroups),
    api(93, "StreamsGroupTopologyDescriptionUpdate", 0, 0, Area::StreamsGroups),
    api(94, "UnregisterController", 0, 0, Area::Cluster),
];
