use model::{LeaderEpoch, NodeId, Offset, PartitionId, ProducerId, TopicPartition, Uuid};

use super::*;
use crate::record::{
    BrokerRegistrationChange, NO_LEADER, PartitionChange, PartitionRecord, RegisterBroker,
};

fn id(number: u64) -> Uuid {
    Uuid::from_random(number, number)
}

fn topic(name: &str, number: u64) -> MetadataRecord {
    MetadataRecord::Topic { name: name.to_owned(), topic_id: id(number) }
}

fn partition(number: u64, partition: i32) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRecord {
        topic_id: id(number),
        partition_id: PartitionId(partition),
        replicas: vec![NodeId(1)],
        isr: vec![NodeId(1)],
        removing_replicas: vec![],
        adding_replicas: vec![],
        leader: NodeId(1),
        leader_recovery_state: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        directories: vec![id(100)],
        eligible_leader_replicas: vec![],
        last_known_elr: vec![],
    })
}

fn change(number: u64, partition: i32) -> PartitionChange {
    PartitionChange::of(id(number), PartitionId(partition))
}

fn config(name: &str, setting: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::Config {
        resource: ConfigResource::topic(name),
        name: setting.to_owned(),
        value: value.map(str::to_owned),
    }
}

fn broker(epoch: i64) -> MetadataRecord {
    MetadataRecord::RegisterBroker(RegisterBroker {
        broker_id: NodeId(1),
        incarnation_id: id(7),
        broker_epoch: epoch,
        end_points: vec![],
        features: feature::supported(),
        rack: Some("r".to_owned()),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: vec![id(100)],
        cordoned_log_dirs: None,
    })
}

fn begin() -> MetadataRecord {
    MetadataRecord::BeginTransaction { name: None }
}

fn abort() -> MetadataRecord {
    MetadataRecord::AbortTransaction { reason: None }
}

fn image_of(records: &[MetadataRecord]) -> Result<(MetadataImage, Delta), Error> {
    let mut image = MetadataImage::new();
    let delta = image.apply(Offset(0), records)?;
    Ok((image, delta))
}

#[test]
fn epochs_grow_as_the_changes_say() {
    let with_leader = |leader| PartitionChange { leader: Some(leader), ..change(1, 0) };
    let cases = [
        (change(1, 0), 0, Some(NodeId(1))),
        (PartitionChange { isr: Some(vec![]), ..change(1, 0) }, 0, Some(NodeId(1))),
        (with_leader(NodeId(1)), 1, Some(NodeId(1))),
        (with_leader(NODE_TWO), 1, Some(NODE_TWO)),
        (with_leader(NO_LEADER), 1, None),
    ];
    for (change, leader_epoch, leader) in cases {
        let record = MetadataRecord::PartitionChange(change.clone());
        let (image, _) = image_of(&[topic("a", 1), partition(1, 0), record]).unwrap();
        let key = TopicPartition { topic: id(1), partition: PartitionId(0) };
        let partition = image.partition(key).unwrap();
        assert_eq!(partition.leader_epoch, LeaderEpoch(leader_epoch), "{change:?}");
        assert_eq!((partition.partition_epoch, partition.leader), (1, leader), "{change:?}");
        assert_eq!(partition.isr.is_empty(), change.isr.is_some());
    }
}

const NODE_TWO: NodeId = NodeId(2);

#[test]
fn half_a_transaction_is_never_seen() {
    let mut image = MetadataImage::new();
    let delta = image.apply(Offset(0), &[begin(), topic("a", 1), partition(1, 0)]).unwrap();
    assert!(delta.is_empty() && image.is_in_transaction());
    assert!(image.topic_by_name("a").is_none());

    let mut aborted = image.clone();
    assert!(aborted.apply(Offset(3), &[abort()]).unwrap().is_empty());
    assert!(aborted.topic_by_name("a").is_none() && !aborted.is_in_transaction());
    let created = aborted.apply(Offset(4), &[topic("a", 2)]).unwrap();
    assert!(created.topics_created.contains(&id(2)));

    let delta = image.apply(Offset(3), &[MetadataRecord::EndTransaction, topic("b", 2)]).unwrap();
    assert_eq!(delta.topics_created, [id(1), id(2)].into_iter().collect());
    assert_eq!(image.topic_by_name("a").unwrap().partitions.len(), 1);
    assert_eq!(image.next_offset(), Offset(5));
}

#[test]
fn what_cannot_be_is_damage() {
    let unfence = |epoch| {
        let change = BrokerRegistrationChange::of(NodeId(1), epoch);
        MetadataRecord::BrokerRegistrationChange(change)
    };
    let cases = [
        vec![partition(1, 0)],
        vec![topic("a", 1), partition(1, -1)],
        vec![topic("a", 1), topic("a", 2)],
        vec![topic("a", 1), topic("b", 1)],
        vec![MetadataRecord::RemoveTopic { topic_id: id(1) }],
        vec![topic("a", 1), MetadataRecord::PartitionChange(change(1, 0))],
        vec![unfence(5)],
        vec![broker(4), unfence(5)],
        vec![MetadataRecord::UnregisterBroker { broker_id: NodeId(1), broker_epoch: 1 }],
        vec![begin(), begin()],
        vec![abort()],
        vec![MetadataRecord::EndTransaction],
        vec![MetadataRecord::ClearElr { topic_name: "a".to_owned() }],
    ];
    for records in cases {
        assert!(matches!(image_of(&records), Err(Error::Damaged(_))), "{records:?}");
    }
    let (mut image, _) = image_of(&[topic("a", 1)]).unwrap();
    assert!(matches!(image.apply(Offset(0), &[topic("b", 2)]), Err(Error::Damaged(_))));
    assert!(MetadataImage::from_snapshot(&[begin()], Offset(0)).is_err());
}

#[test]
fn an_epoch_at_its_end_is_damage() {
    let MetadataRecord::Partition(mut last) = partition(1, 0) else { unreachable!() };
    last.leader_epoch = LeaderEpoch(i32::MAX);
    let change = PartitionChange { leader: Some(NodeId(1)), ..change(1, 0) };
    let records =
        [topic("a", 1), MetadataRecord::Partition(last), MetadataRecord::PartitionChange(change)];
    assert!(matches!(image_of(&records), Err(Error::Damaged(_))));
}

#[test]
fn delta_names_what_changed_and_nothing_else() {
    let (mut image, delta) = image_of(&[
        topic("a", 1),
        config("a", "retention.ms", Some("5")),
        partition(1, 0),
        partition(1, 1),
        topic("short-lived", 2),
        config("short-lived", "retention.ms", Some("5")),
        partition(2, 0),
        MetadataRecord::RemoveTopic { topic_id: id(2) },
    ])
    .unwrap();
    assert_eq!(delta.topics_created, [id(1)].into_iter().collect());
    assert!(delta.topics_removed.is_empty());
    assert_eq!(delta.partitions.len(), 2);
    assert_eq!(delta.configs, [ConfigResource::topic("a")].into_iter().collect());

    let delta = image
        .apply(Offset(8), &[broker(8), MetadataRecord::RemoveTopic { topic_id: id(1) }])
        .unwrap();
    assert_eq!(delta.topics_removed[&id(1)].name, "a");
    assert_eq!(delta.topics_removed[&id(1)].partitions.len(), 2);
    assert!(delta.partitions.is_empty() && delta.configs.is_empty());
    assert_eq!(delta.brokers, [NodeId(1)].into_iter().collect());
    assert_eq!(image.configs(&ConfigResource::topic("a")).count(), 0);
    assert_eq!(image.topic_count(), 0);
}

#[test]
fn a_settings_record_without_value_is_the_default_again() {
    let (mut image, _) = image_of(&[topic("a", 1), config("a", "x", Some("1"))]).unwrap();
    let resource = ConfigResource::topic("a");
    assert_eq!(image.configs(&resource).collect::<Vec<_>>(), [("x", "1")]);
    image.apply(Offset(2), &[config("a", "x", None), config("a", "y", None)]).unwrap();
    assert_eq!(image.configs(&resource).count(), 0);
}

#[test]
fn a_snapshot_makes_the_same_image() {
    let level = |name: &str, feature_level| MetadataRecord::FeatureLevel {
        name: name.to_owned(),
        feature_level,
    };
    let mut unfence = BrokerRegistrationChange::of(NodeId(1), 4);
    unfence.fenced = Some(false);
    unfence.cordoned_log_dirs = Some(vec![]);
    let lead = PartitionChange { leader: Some(NO_LEADER), isr: Some(vec![]), ..change(1, 1) };
    let (image, _) = image_of(&[
        level("group.version", 1),
        level(feature::METADATA_VERSION, 33),
        level("share.version", 2),
        level("share.version", 0),
        broker(4),
        MetadataRecord::BrokerRegistrationChange(unfence),
        topic("b", 1),
        config("b", "retention.ms", Some("5")),
        partition(1, 0),
        partition(1, 1),
        MetadataRecord::PartitionChange(lead),
        topic("a", 2),
        partition(2, 0),
        MetadataRecord::ProducerIds {
            broker_id: NodeId(1),
            broker_epoch: 4,
            next_producer_id: ProducerId(3000),
        },
        MetadataRecord::Other { api_key: 18, version: 0, bytes: vec![1, 2, 3] },
        MetadataRecord::NoOp,
    ])
    .unwrap();
    let records = image.to_records();
    assert_eq!(records[0], level(feature::METADATA_VERSION, 33));
    let again = MetadataImage::from_snapshot(&records, image.next_offset()).unwrap();
    assert_eq!(again.to_records(), records);
    assert_eq!(again.next_offset(), Offset(16));
    assert_eq!(again.next_producer_id(), ProducerId(3000));
    assert_eq!(again.features().len(), 2);
    assert_eq!(again.brokers(), image.brokers());
    let names: Vec<_> = again.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(again.topic(id(1)), image.topic(id(1)));
}
