use model::{NodeId, Offset, PartitionId, ProducerId, TopicPartition, Uuid};

use super::*;
use crate::Delta;
use crate::record::{ConfigResource, EndPoint, ResourceType};

const NODE: NodeId = NodeId(1);
const DIRECTORY: Uuid = Uuid([9; 16]);

fn start(incarnation: u64) -> BrokerStart {
    let listener = |name: &str, port| EndPoint {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        security_protocol: 0,
    };
    BrokerStart {
        node: NODE,
        incarnation_id: Uuid::from_random(incarnation, 0),
        log_dirs: vec![DIRECTORY],
        listeners: vec![listener("PLAINTEXT", 9092)],
        rack: None,
        controller_listeners: vec![listener("CONTROLLER", 9093)],
    }
}

/// A controller, and the image that its records make for those who replay them.
struct Fixture {
    controller: Controller,
    image: MetadataImage,
}

impl Fixture {
    fn new() -> Fixture {
        let mut image = MetadataImage::new();
        image.apply(Offset(3), &bootstrap_log()).unwrap();
        let defaults = Defaults { partition_count: 1, replication_factor: 3 };
        let controller = Controller::new(defaults, image.clone());
        let mut fixture = Fixture { controller, image };
        fixture.start(1);
        fixture
    }

    fn start(&mut self, incarnation: u64) -> Delta {
        let next = self.image.next_offset();
        let decision = self.controller.start_broker(&start(incarnation), next.0);
        let delta = self.replay(&decision.records);
        assert_eq!(self.image.brokers()[&NODE].epoch, decision.answer);
        let at = usize::try_from(decision.answer - next.0).unwrap();
        assert!(matches!(decision.records[at], MetadataRecord::RegisterBroker(_)));
        delta
    }

    fn replay(&mut self, records: &[MetadataRecord]) -> Delta {
        let delta = self.image.apply(self.image.next_offset(), records).unwrap();
        assert_eq!(self.image.to_records(), self.controller.image().to_records());
        delta
    }

    fn create(&mut self, topics: &[NewTopic]) -> Vec<Result<CreatedTopic, Error>> {
        let before = self.image.to_records();
        let checked = self.controller.create_topics(topics, Intent::Validate);
        assert!(checked.records.is_empty());
        assert_eq!(self.controller.image().to_records(), before);
        let decision = self.controller.create_topics(topics, Intent::Apply);
        assert_eq!(decision.answer, checked.answer);
        self.replay(&decision.records);
        decision.answer.into_iter().map(|(_, result)| result).collect()
    }
}

fn new_topic(name: &str, number: u64) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        topic_id: Uuid::from_random(number, number),
        partition_count: -1,
        replication_factor: -1,
        assignments: vec![],
        configs: vec![],
    }
}

fn kind<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::InvalidTopic(_)) => "topic",
        Err(Error::TopicExists(_)) => "exists",
        Err(Error::UnknownTopic(_)) => "unknown",
        Err(Error::UnknownTopicId(_)) => "unknown id",
        Err(Error::InvalidPartitions(_)) => "partitions",
        Err(Error::InvalidReplicationFactor(_)) => "replication",
        Err(Error::InvalidReplicaAssignment(_)) => "assignment",
        Err(Error::InvalidConfig(_)) => "config",
        Err(Error::InvalidRequest(_)) => "request",
        Err(Error::InvalidFeatureLevel(_)) => "feature",
        Err(Error::UnknownBroker(_)) => "broker",
        Err(Error::PolicyViolation(_)) => "policy",
        Err(Error::StaleBrokerEpoch(_)) => "epoch",
        Err(Error::ProducerIdsExhausted) => "exhausted",
        Err(Error::Damaged(_)) => "damaged",
        Err(Error::Storage(_)) => "storage",
        Err(Error::Stopping) => "stopping",
        Err(Error::ForeignDirectory(_)) => "foreign",
    }
}

#[test]
fn registration_is_written_as_apache_kafkas_controller_writes_it() {
    let fixture = Fixture::new();
    let broker = &fixture.image.brokers()[&NODE];
    assert!(broker.is_active());
    assert_eq!(broker.cordoned_log_dirs, Some(vec![]));
    assert_eq!(broker.log_dirs, [DIRECTORY]);
    assert_eq!(fixture.image.controllers()[&NODE].end_points[0].port, 9093);
    assert_eq!(fixture.image.metadata_version(), 33);
    let mut again = Controller::new(fixture.controller.defaults, fixture.image.clone());
    let records = again.start_broker(&start(2), fixture.image.next_offset().0).records;
    let versions: Vec<u16> = records.iter().map(|record| record.version(33)).collect();
    assert_eq!(versions, [0, 4, 3, 0]);
}

#[test]
fn defaults_stand_for_minus_one_and_replicas_are_brought_down_to_the_cluster() {
    let mut fixture = Fixture::new();
    let results = fixture.create(&[
        new_topic("a", 1),
        NewTopic { partition_count: 3, replication_factor: 1, ..new_topic("b", 2) },
    ]);
    let [a, b] = results.as_slice() else { panic!("{results:?}") };
    let a = a.as_ref().unwrap();
    assert_eq!((a.partition_count, a.replication_factor), (1, 1));
    assert_eq!(b.as_ref().unwrap().partition_count, 3);
    let topic = fixture.image.topic_by_name("b").unwrap();
    assert_eq!(topic.id, Uuid::from_random(2, 2));
    assert_eq!(topic.partitions.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 1, 2]);
    for partition in topic.partitions.values() {
        assert_eq!(partition.leader, Some(NODE));
        assert_eq!(partition.isr, [NODE]);
        assert_eq!(partition.directories, [DIRECTORY]);
        assert_eq!((partition.leader_epoch.0, partition.partition_epoch), (0, 0));
    }
}

#[test]
fn topics_that_cannot_be_are_refused() {
    let assigned = |assignments: &[(i32, &[i32])]| NewTopic {
        assignments: assignments
            .iter()
            .map(|(id, nodes)| (PartitionId(*id), nodes.iter().copied().map(NodeId).collect()))
            .collect(),
        ..new_topic("t", 1)
    };
    let config = |name: &str, value: Option<&str>| NewTopic {
        configs: vec![(name.to_owned(), value.map(str::to_owned))],
        ..new_topic("t", 1)
    };
    let lag = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    let lags = NewTopic {
        configs: vec![lag("min.compaction.lag.ms", "10"), lag("max.compaction.lag.ms", "5")],
        ..new_topic("t", 1)
    };
    let cases = [
        (new_topic("", 1), "topic"),
        (new_topic("a b", 1), "topic"),
        (new_topic("__cluster_metadata", 1), "request"),
        (new_topic("there", 1), "exists"),
        (new_topic("x_y", 1), "topic"),
        (new_topic("x.y.", 1), "ok"),
        (NewTopic { partition_count: 0, ..new_topic("t", 1) }, "partitions"),
        (NewTopic { partition_count: -2, ..new_topic("t", 1) }, "partitions"),
        (NewTopic { partition_count: 10_000, ..new_topic("t", 1) }, "ok"),
        (NewTopic { partition_count: 10_001, ..new_topic("t", 1) }, "policy"),
        (NewTopic { partition_count: i32::MAX, ..new_topic("t", 1) }, "policy"),
        (NewTopic { replication_factor: 0, ..new_topic("t", 1) }, "replication"),
        (NewTopic { replication_factor: -2, ..new_topic("t", 1) }, "replication"),
        (NewTopic { replication_factor: 2, ..new_topic("t", 1) }, "replication"),
        (config("retention.ms", Some("1")), "ok"),
        (config("retention.ms", None), "config"),
        (config("retention.ms", Some("soon")), "config"),
        (config("no.such", Some("1")), "config"),
        (config("max.compaction.lag.ms", Some("5")), "ok"),
        (lags, "config"),
        (config("remote.storage.enable", Some("TRUE")), "config"),
        (config("remote.storage.enable", Some("false")), "ok"),
        (assigned(&[(0, &[1]), (1, &[1])]), "ok"),
        (assigned(&[(1, &[1]), (0, &[1])]), "ok"),
        (assigned(&[(0, &[1]), (0, &[1])]), "assignment"),
        (assigned(&[(1, &[1])]), "assignment"),
        (assigned(&[(-1, &[1])]), "assignment"),
        (assigned(&[(0, &[])]), "assignment"),
        (assigned(&[(0, &[2])]), "assignment"),
        (assigned(&[(0, &[1, 1])]), "assignment"),
        (NewTopic { partition_count: 1, ..assigned(&[(0, &[1])]) }, "request"),
        (NewTopic { replication_factor: 1, ..assigned(&[(0, &[1])]) }, "request"),
    ];
    for (topic, expected) in cases {
        let mut fixture = Fixture::new();
        fixture.create(&[new_topic("there", 8), new_topic("x.y", 9)]);
        let results = fixture.create(std::slice::from_ref(&topic));
        let name = topic.name.as_str();
        assert_eq!(kind(&results[0]), expected, "{name} {:?}", results[0]);
        let is_there = fixture.image.topic_by_name(name).is_some();
        assert_eq!(is_there, expected == "ok" || expected == "exists");
    }
}

#[test]
fn topics_of_one_request_are_judged_together() {
    let mut fixture = Fixture::new();
    let half = |name, number| NewTopic { partition_count: 5_001, ..new_topic(name, number) };
    let results = fixture.create(&[half("a", 1), half("b", 2)]);
    assert_eq!(results.iter().map(kind).collect::<Vec<_>>(), ["policy", "policy"]);
    let results = fixture.create(&[
        new_topic("a", 1),
        new_topic("twice", 2),
        new_topic("twice", 3),
        new_topic("c.d", 4),
        new_topic("c_d", 5),
    ]);
    assert_eq!(results.iter().map(kind).collect::<Vec<_>>(), ["ok", "request", "ok", "topic"]);
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let mut fixture = Fixture::new();
    fixture
        .create(&["a", "b", "c", "d"].map(|name| new_topic(name, u64::from(name.as_bytes()[0]))));
    let id = |name: &str| {
        let number = u64::from(name.as_bytes()[0]);
        TopicName::Id(Uuid::from_random(number, number))
    };
    let name = |name: &str| TopicName::Name(name.to_owned());
    let both = TopicName::Both("d".to_owned(), Uuid::from_random(1, 1));
    let nothing = TopicName::Id(Uuid::ZERO);
    let request = [
        name("a"),
        id("b"),
        name("x"),
        id("y"),
        name("c"),
        id("c"),
        name("d"),
        name("d"),
        both,
        nothing,
    ];
    let decision = fixture.controller.delete_topics(&request);
    let kinds: Vec<_> = decision.answer.iter().map(|(_, result)| kind(result)).collect();
    assert_eq!(
        kinds,
        ["ok", "ok", "unknown", "unknown id", "request", "request", "request", "request",]
    );
    let delta = fixture.replay(&decision.records);
    assert_eq!(delta.topics_removed.len(), 2);
    assert_eq!(fixture.image.topic_count(), 2);
}

#[test]
fn partitions_are_only_added() {
    let mut fixture = Fixture::new();
    fixture.create(&[NewTopic { partition_count: 2, ..new_topic("a", 1) }]);
    let grow = |name: &str, total_count, assignments: Option<&[&[i32]]>| NewPartitions {
        name: name.to_owned(),
        total_count,
        assignments: assignments.map(|all| {
            all.iter().map(|nodes| nodes.iter().copied().map(NodeId).collect()).collect()
        }),
    };
    let cases = [
        (grow("a", 2, None), "partitions"),
        (grow("a", 1, None), "partitions"),
        (grow("a", i32::MIN, None), "partitions"),
        (grow("x", 3, None), "unknown"),
        (grow("a", i32::MAX, None), "policy"),
        (grow("a", 4, Some(&[&[1]])), "assignment"),
        (grow("a", 3, Some(&[&[2]])), "assignment"),
        (grow("a", 4, None), "ok"),
        (grow("a", 5, Some(&[&[1]])), "ok"),
    ];
    for (request, expected) in cases {
        let request = [request];
        let checked = fixture.controller.create_partitions(&request, Intent::Validate);
        let decision = fixture.controller.create_partitions(&request, Intent::Apply);
        assert_eq!(checked.answer, decision.answer);
        assert_eq!(kind(&decision.answer[0].1), expected, "{request:?}");
        fixture.replay(&decision.records);
    }
    let topic = fixture.image.topic_by_name("a").unwrap();
    assert_eq!(topic.partitions.keys().map(|id| id.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn settings_are_altered_one_by_one_or_as_a_whole() {
    use AlterMode::{Full, Incremental};
    use ConfigOperation::{Append, Delete, Set, Subtract};
    let set = |value: &str| Set(value.to_owned());
    let words = |value: &str| value.to_owned();
    type Case<'a> = (AlterMode, &'a str, ConfigOperation, &'a str, &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 12] = [
        (
            Incremental,
            "max.message.bytes",
            set("7"),
            "ok",
            &[("max.message.bytes", "7"), ("retention.ms", "5")],
        ),
        (Incremental, "retention.ms", Delete, "ok", &[]),
        (Incremental, "segment.ms", Delete, "ok", &[("retention.ms", "5")]),
        (Incremental, "retention.ms", set("-9"), "config", &[("retention.ms", "5")]),
        (Incremental, "no.such", Delete, "ok", &[("retention.ms", "5")]),
        (Incremental, "retention.ms", Append(words("7")), "config", &[("retention.ms", "5")]),
        (
            Incremental,
            "cleanup.policy",
            Append(words("compact")),
            "ok",
            &[("cleanup.policy", "delete,compact"), ("retention.ms", "5")],
        ),
        (
            Incremental,
            "cleanup.policy",
            Append(words("delete")),
            "ok",
            &[("cleanup.policy", "delete"), ("retention.ms", "5")],
        ),
        (
            Incremental,
            "leader.replication.throttled.replicas",
            Subtract(words("0:1")),
            "ok",
            &[("leader.replication.throttled.replicas", ""), ("retention.ms", "5")],
        ),
        (
            Incremental,
            "cleanup.policy",
            Append(words("delete,")),
            "ok",
            &[("cleanup.policy", "delete"), ("retention.ms", "5")],
        ),
        (Full, "max.message.bytes", set("7"), "ok", &[("max.message.bytes", "7")]),
        (Full, "max.message.bytes", set("-7"), "config", &[("retention.ms", "5")]),
    ];
    for (mode, name, operation, expected, after) in cases {
        let mut fixture = Fixture::new();
        let configs = vec![("retention.ms".to_owned(), Some("5".to_owned()))];
        fixture.create(&[NewTopic { configs, ..new_topic("a", 1) }]);
        let resource = ConfigResource::topic("a");
        let change = ConfigChange {
            resource: resource.clone(),
            operations: vec![(name.to_owned(), operation.clone())],
        };
        let decision = fixture.controller.alter_configs(&[change], mode, Intent::Apply);
        assert_eq!(kind(&decision.answer[0].1), expected, "{name} {operation:?}");
        fixture.replay(&decision.records);
        assert_eq!(fixture.image.configs(&resource).collect::<Vec<_>>(), after, "{operation:?}");
    }
}

#[test]
fn settings_of_brokers_are_altered_for_one_or_all() {
    use ConfigOperation::{Append, Delete, Set};
    let set = |value: &str| Set(value.to_owned());
    let (one, all) = (ConfigResource::broker(NODE), ConfigResource::all_brokers());
    let other = ConfigResource::broker(NodeId(7));
    let cases = [
        (&one, "log.retention.ms", set("5"), "ok"),
        (&all, "log.retention.ms", set("5"), "ok"),
        (&one, "num.io.threads", set("5"), "ok"),
        (&one, "log.cleanup.policy", Append("compact".to_owned()), "ok"),
        (&one, "no.such", Delete, "ok"),
        (&one, "no.such", set("5"), "config"),
        (&one, "num.io.threads", Append("5".to_owned()), "config"),
        (&one, "num.partitions", set("5"), "request"),
        (&one, "log.retention.ms", set("x"), "request"),
        // The broker's own bounds are wider than those of topics.
        (&one, "log.retention.ms", set("-5"), "request"),
        (&one, "ssl.keystore.location", set("/a"), "request"),
        (&one, "listeners", set("PLAINTEXT://:1"), "request"),
        (&all, "listeners", set("PLAINTEXT://:1"), "request"),
        (&other, "log.retention.ms", set("5"), "request"),
    ];
    for (resource, name, operation, expected) in cases {
        let mut fixture = Fixture::new();
        let operations = vec![(name.to_owned(), operation.clone())];
        let change = ConfigChange { resource: resource.clone(), operations };
        let decision = fixture.controller.alter_configs(
            std::slice::from_ref(&change),
            AlterMode::Incremental,
            Intent::Apply,
        );
        assert_eq!(kind(&decision.answer[0].1), expected, "{change:?}");
        fixture.replay(&decision.records);
        let is_set = expected == "ok" && operation != Delete;
        assert_eq!(fixture.image.configs(resource).count(), usize::from(is_set), "{change:?}");
    }
    let mut fixture = Fixture::new();
    let resource = ConfigResource { resource_type: ResourceType(64), name: "other".to_owned() };
    let change = ConfigChange { resource, operations: Vec::new() };
    let decision = fixture.controller.alter_configs(&[change], AlterMode::Full, Intent::Apply);
    assert_eq!(kind(&decision.answer[0].1), "request");
}

#[test]
fn of_several_errors_the_one_that_apache_kafka_tells_is_told() {
    use ConfigOperation::{Set, Subtract};
    let of = |kind, name: &str| ConfigResource { resource_type: kind, name: name.to_owned() };
    let set = |value: &str| Set(value.to_owned());
    type Asked<'a> = &'a [(&'a str, ConfigOperation)];
    let cases: [(ConfigResource, Asked<'_>, &str); 9] = [
        // A setting that cannot be altered before one that is not known, whatever their order.
        (ConfigResource::all_brokers(), &[("broker.id", set("1")), ("nope", set("x"))], "request"),
        (ConfigResource::broker(NODE), &[("nope", set("x")), ("zookeeper", set("x"))], "config"),
        (ConfigResource::broker(NODE), &[("a", set("x")), ("log.dirs", set("/x"))], "request"),
        // What cannot be done to a setting before whose it is; whose it is before what it is.
        (of(ResourceType::TOPIC, ""), &[("retention.ms", Subtract("-1".to_owned()))], "config"),
        (of(ResourceType::TOPIC, ""), &[("retention.ms", set("x"))], "request"),
        (of(ResourceType::TOPIC, ""), &[("nope", set("x"))], "request"),
        (of(ResourceType::TOPIC, "a"), &[("nope", set("x"))], "config"),
        (of(ResourceType::GROUP, ""), &[("nope", set("x"))], "request"),
        // A name that is none before a value that is none.
        (
            of(ResourceType::CLIENT_METRICS, "m"),
            &[("interval.ms", set("x")), ("nope", set("1"))],
            "request",
        ),
    ];
    for (resource, operations, expected) in cases {
        let operations = operations.iter().map(|(name, one)| ((*name).to_owned(), one.clone()));
        let change = ConfigChange { resource, operations: operations.collect() };
        let mut fixture = Fixture::new();
        let changes = std::slice::from_ref(&change);
        let decision =
            fixture.controller.alter_configs(changes, AlterMode::Incremental, Intent::Apply);
        assert_eq!(kind(&decision.answer[0].1), expected, "{change:?}");
        assert_eq!(decision.records, [], "{change:?}");
    }
}

#[test]
fn leader_epochs_grow_at_each_start_clean_or_not() {
    let mut fixture = Fixture::new();
    fixture.create(&[NewTopic { partition_count: 2, ..new_topic("a", 1) }]);
    let key = TopicPartition { topic: Uuid::from_random(1, 1), partition: PartitionId(1) };
    let epochs = |image: &MetadataImage| {
        let partition = image.partition(key).unwrap();
        (partition.leader, partition.leader_epoch.0, partition.partition_epoch)
    };
    assert_eq!(fixture.start(2).partitions.len(), 2);
    assert_eq!(epochs(&fixture.image), (Some(NODE), 1, 1));

    let epoch = fixture.image.brokers()[&NODE].epoch;
    assert_eq!(kind(&fixture.controller.stop_broker(NODE, epoch - 1)), "epoch");
    let decision = fixture.controller.stop_broker(NODE, epoch).unwrap();
    fixture.replay(&decision.records);
    assert_eq!(epochs(&fixture.image), (None, 2, 2));
    assert!(!fixture.image.brokers()[&NODE].is_active());
    assert_eq!(kind(&fixture.create(&[new_topic("b", 2)])[0]), "replication");

    fixture.start(3);
    assert_eq!(epochs(&fixture.image), (Some(NODE), 3, 3));
    assert!(fixture.image.brokers()[&NODE].is_active());
}

#[test]
fn partitions_left_by_apache_kafka_are_led_again() {
    let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    /// Replicas, ISR and eligible replicas, and whether node 1 is to lead.
    type Case<'a> = (&'a [i32], &'a [i32], &'a [i32], bool);
    let cases: [Case<'_>; 7] = [
        (&[1], &[1], &[], true),
        (&[1], &[], &[1], true),
        (&[1], &[], &[], true),
        (&[1, 2], &[1, 2], &[], true),
        (&[1, 2], &[2], &[1], true),
        (&[1, 2], &[2], &[], false),
        (&[2], &[2], &[], false),
    ];
    for (replicas, isr, eligible, leads) in cases {
        let mut fixture = Fixture::new();
        fixture.create(&[new_topic("a", 1)]);
        let key = TopicPartition { topic: Uuid::from_random(1, 1), partition: PartitionId(0) };
        let mut change = crate::record::PartitionChange::of(key.topic, key.partition);
        change.leader = Some(crate::record::NO_LEADER);
        change.replicas = Some(nodes(replicas));
        change.isr = Some(nodes(isr));
        change.eligible_leader_replicas = Some(nodes(eligible));
        change.leader_recovery_state = Some(LeaderRecoveryState::Recovering);
        let records = [MetadataRecord::PartitionChange(change)];
        fixture.image.apply(fixture.image.next_offset(), &records).unwrap();
        fixture.controller = Controller::new(fixture.controller.defaults, fixture.image.clone());
        fixture.start(2);
        let partition = fixture.image.partition(key).unwrap();
        assert_eq!(partition.leader, leads.then_some(NODE), "{replicas:?} {isr:?} {eligible:?}");
        if leads {
            assert_eq!(partition.isr, [NODE]);
            assert_eq!(partition.eligible_leader_replicas, []);
            assert_eq!(partition.leader_recovery_state, LeaderRecoveryState::Recovered);
            assert_eq!(partition.leader_epoch.0, 2);
        }
    }
}

#[test]
fn a_transaction_cut_off_by_a_crash_is_aborted_at_the_next_start() {
    let mut fixture = Fixture::new();
    let begun = [
        MetadataRecord::BeginTransaction { name: None },
        MetadataRecord::Topic { name: "half".to_owned(), topic_id: Uuid::from_random(5, 5) },
    ];
    fixture.image.apply(fixture.image.next_offset(), &begun).unwrap();
    fixture.controller = Controller::new(fixture.controller.defaults, fixture.image.clone());
    fixture.start(2);
    assert!(fixture.image.topic_by_name("half").is_none());
    assert!(fixture.image.brokers()[&NODE].is_active());
}

#[test]
fn producer_ids_are_given_out_once() {
    let mut fixture = Fixture::new();
    let epoch = fixture.image.brokers()[&NODE].epoch;
    assert_eq!(kind(&fixture.controller.allocate_producer_ids(NODE, epoch + 1)), "epoch");
    assert_eq!(kind(&fixture.controller.allocate_producer_ids(NodeId(2), epoch)), "epoch");
    for block in 0..3 {
        let decision = fixture.controller.allocate_producer_ids(NODE, epoch).unwrap();
        fixture.replay(&decision.records);
        assert_eq!(decision.answer.first, ProducerId(block * PRODUCER_ID_BLOCK_COUNT));
    }
    let last = MetadataRecord::ProducerIds {
        broker_id: NODE,
        broker_epoch: epoch,
        next_producer_id: ProducerId(i64::MAX - 999),
    };
    fixture.image.apply(fixture.image.next_offset(), &[last]).unwrap();
    fixture.controller = Controller::new(fixture.controller.defaults, fixture.image.clone());
    assert_eq!(kind(&fixture.controller.allocate_producer_ids(NODE, epoch)), "exhausted");
}
