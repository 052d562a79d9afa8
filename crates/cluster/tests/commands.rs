//! Random commands to the controller, with crashes that lose what was not committed.
//!
//! The log is what was committed: replaying it, or a snapshot of it, gives the image that those
//! who followed it have. Ids are never given out twice, epochs never go back.

use std::collections::{BTreeMap, BTreeSet};

use cluster::controller::{
    AlterMode, BrokerStart, ConfigChange, ConfigOperation, Controller, Defaults, Intent,
    NewPartitions, NewTopic, TopicName, bootstrap_log,
};
use cluster::record::ConfigResource;
use cluster::{MetadataImage, MetadataRecord};
use model::{NodeId, Offset, Uuid};
use proptest::prelude::*;

const NODE: NodeId = NodeId(1);
const DEFAULTS: Defaults = Defaults { partition_count: 1, replication_factor: 1 };

#[derive(Clone, Debug)]
enum Step {
    Create(u8, i32),
    Delete(u8),
    Grow(u8, i32),
    Configure(u8, i64),
    ProducerIds,
    /// What was decided is in the log.
    Commit,
    /// What was decided and not committed never happened.
    AppendFails,
    /// The process dies and starts again, after a clean stop or not.
    Restart {
        is_clean: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..5_u8;
    prop_oneof![
        6 => (topic.clone(), -2..6_i32).prop_map(|(topic, count)| Step::Create(topic, count)),
        3 => topic.clone().prop_map(Step::Delete),
        3 => (topic.clone(), 0..9_i32).prop_map(|(topic, count)| Step::Grow(topic, count)),
        3 => (topic, -2..3_i64).prop_map(|(topic, value)| Step::Configure(topic, value)),
        2 => Just(Step::ProducerIds),
        6 => Just(Step::Commit),
        1 => Just(Step::AppendFails),
        2 => any::<bool>().prop_map(|is_clean| Step::Restart { is_clean }),
    ]
}

struct World {
    controller: Controller,
    /// Decided and not yet committed.
    decided: Vec<Vec<MetadataRecord>>,
    log: Vec<(Offset, Vec<MetadataRecord>)>,
    committed: MetadataImage,
    broker_epoch: i64,
    next_id: u64,
    topic_ids: BTreeSet<Uuid>,
    producer_ids: BTreeSet<i64>,
    /// Producer ids that are durable when what was decided before them is.
    undurable_producer_ids: Vec<i64>,
    leader_epochs: BTreeMap<(Uuid, i32), i32>,
}

impl World {
    fn new() -> World {
        let mut world = World {
            controller: Controller::new(DEFAULTS, MetadataImage::new()),
            decided: vec![bootstrap_log()],
            log: Vec::new(),
            committed: MetadataImage::new(),
            broker_epoch: -1,
            next_id: 0,
            topic_ids: BTreeSet::new(),
            producer_ids: BTreeSet::new(),
            undurable_producer_ids: Vec::new(),
            leader_epochs: BTreeMap::new(),
        };
        world.commit();
        world.start();
        world
    }

    fn id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid::from_random(self.next_id, self.next_id)
    }

    fn start(&mut self) {
        self.decided.clear();
        self.undurable_producer_ids.clear();
        self.controller = Controller::new(DEFAULTS, self.committed.clone());
        let start = BrokerStart {
            node: NODE,
            incarnation_id: self.id(),
            log_dirs: vec![Uuid([9; 16])],
            listeners: Vec::new(),
            rack: None,
            controller_listeners: Vec::new(),
        };
        let decision = self.controller.start_broker(&start, self.committed.next_offset().0);
        self.broker_epoch = decision.answer;
        self.decided.push(decision.records);
        self.commit();
    }

    fn run(&mut self, step: &Step) {
        let name = |topic: u8| format!("topic{topic}");
        match step {
            Step::Create(topic, partition_count) => {
                let topic_id = self.id();
                let topic = NewTopic {
                    name: name(*topic),
                    topic_id,
                    partition_count: *partition_count,
                    replication_factor: -1,
                    ..NewTopic::default()
                };
                let decision = self.controller.create_topics(&[topic], Intent::Apply);
                self.decided.push(decision.records);
            }
            Step::Delete(topic) => {
                let names = [TopicName::Name(name(*topic))];
                self.decided.push(self.controller.delete_topics(&names).records);
            }
            Step::Grow(topic, total_count) => {
                let topics = [NewPartitions {
                    name: name(*topic),
                    total_count: *total_count,
                    assignments: None,
                }];
                let decision = self.controller.create_partitions(&topics, Intent::Apply);
                self.decided.push(decision.records);
            }
            Step::Configure(topic, value) => {
                let setting = ("retention.ms".to_owned(), ConfigOperation::Set(value.to_string()));
                let changes = [ConfigChange {
                    resource: ConfigResource::topic(&name(*topic)),
                    operations: vec![setting],
                }];
                let mode = AlterMode::Incremental;
                let decision = self.controller.alter_configs(&changes, mode, Intent::Apply);
                self.decided.push(decision.records);
            }
            Step::ProducerIds => {
                let decision = self.controller.allocate_producer_ids(NODE, self.broker_epoch);
                let decision = decision.expect("the broker is registered");
                self.undurable_producer_ids.push(decision.answer.first.0);
                self.decided.push(decision.records);
            }
            Step::Commit => self.commit(),
            Step::AppendFails => {
                self.decided.clear();
                self.undurable_producer_ids.clear();
                self.controller = Controller::new(DEFAULTS, self.committed.clone());
            }
            Step::Restart { is_clean } => {
                if *is_clean {
                    self.commit();
                    let decision = self.controller.stop_broker(NODE, self.broker_epoch);
                    self.decided.push(decision.expect("the broker is registered").records);
                    self.commit();
                }
                self.start();
            }
        }
    }

    /// Everything that was decided is appended, committed and replayed by a follower.
    fn commit(&mut self) {
        for records in std::mem::take(&mut self.decided) {
            if records.is_empty() {
                continue;
            }
            let offset = self.committed.next_offset();
            let delta = self.committed.apply(offset, &records).expect("sound records");
            for id in delta.topics_created {
                assert!(self.topic_ids.insert(id), "a topic id is used twice");
            }
            self.log.push((offset, records));
        }
        for first in self.undurable_producer_ids.drain(..) {
            assert!(self.producer_ids.insert(first), "producer ids are given out twice");
        }
        self.check();
    }

    fn check(&mut self) {
        for topic in self.committed.topics() {
            let numbers = topic.partitions.keys().map(|id| id.0);
            assert!(numbers.eq(0..i32::try_from(topic.partitions.len()).expect("a few")));
            for (id, partition) in &topic.partitions {
                let last = self.leader_epochs.entry((topic.id, id.0)).or_insert(0);
                assert!(partition.leader_epoch.0 >= *last, "a leader epoch went back");
                *last = partition.leader_epoch.0;
            }
        }
    }

    fn settle(&mut self) {
        self.commit();
        let expected = self.committed.to_records();
        assert_eq!(self.controller.image().to_records(), expected);
        let mut replayed = MetadataImage::new();
        for (offset, records) in &self.log {
            replayed.apply(*offset, records).expect("sound records");
        }
        assert_eq!(replayed.to_records(), expected);
        let next = self.committed.next_offset();
        let loaded = MetadataImage::from_snapshot(&expected, next).expect("sound records");
        assert_eq!(loaded.to_records(), expected);
        for topic in self.committed.topics() {
            assert!(topic.partitions.values().all(|partition| partition.leader == Some(NODE)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_the_metadata(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        world.settle();
    }
}
