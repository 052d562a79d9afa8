//! A member of a group. Its default assignors are eager; in a consumer group (KIP-848) partitions come and go one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::TryRecvError;
use std::sync::{Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use serde_json::json;

use crate::lines::{self, say, say_record};
use crate::{Outcome, POLL, TIMEOUT, config};

/// What the consumer has, kept here and not asked of it: librdkafka's main thread drops such a question without an answer
/// when the group has just ended, and who asks waits for good. A consumer that closes ends its group within microseconds of
/// the last revocation while it knows no coordinator, as behind a restart of the broker; it does not leave then either.
#[derive(Default)]
struct Rebalances {
    partitions: Mutex<BTreeSet<i32>>,
}

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |list: &TopicPartitionList| -> Vec<i32> {
            list.elements().iter().map(|one| one.partition()).collect()
        };
        match rebalance {
            Rebalance::Assign(list) => partitions.extend(of(list)),
            // Under an eager assignor these are all.
            Rebalance::Revoke(list) => of(list).iter().for_each(|one| {
                partitions.remove(one);
            }),
            Rebalance::Error(_) => {}
        }
        say(&json!({"event": "assigned", "partitions": *partitions}));
    }
}

pub(crate) fn run(bootstrap: &str, topic: &str, group: &str, protocol: &str) -> Outcome<()> {
    let mut config = config(bootstrap);
    config
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    config.set("group.protocol", protocol);
    if protocol == "classic" {
        config.set("heartbeat.interval.ms", "300");
    }
    let consumer: BaseConsumer<Rebalances> = config.create_with_context(Rebalances::default())?;
    consumer.subscribe(&[topic])?;
    let commands = lines::commands();
    let mut positions = BTreeMap::new();
    loop {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                positions.insert(message.partition(), message.offset() + 1);
                say_record(&message);
            }
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
        match commands.try_recv() {
            Ok(command) if lines::what(&command) == "commit" => {
                commit(&consumer, topic, &positions)?
            }
            Ok(_) | Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
    }
}

fn commit(
    consumer: &BaseConsumer<Rebalances>,
    topic: &str,
    positions: &BTreeMap<i32, i64>,
) -> Outcome<()> {
    let assignment = consumer.assignment()?;
    let mut read = TopicPartitionList::new();
    for one in assignment.elements() {
        if let Some(position) = positions.get(&one.partition()) {
            read.add_partition_offset(topic, one.partition(), Offset::Offset(*position))?;
        }
    }
    if read.count() > 0 {
        consumer.commit(&read, CommitMode::Sync)?;
    }
    let committed = consumer.committed_offsets(assignment, TIMEOUT)?;
    let offsets: BTreeMap<i32, Option<i64>> =
        committed.elements().iter().map(|one| (one.partition(), one.offset().to_raw())).collect();
    say(&json!({"event": "committed", "offsets": offsets}));
    Ok(())
}
