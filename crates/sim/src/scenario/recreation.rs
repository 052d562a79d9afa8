//! A topic that is deleted and made again while somebody writes to it: what belonged to the one
//! before is never seen in the next.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use client::{Acks, Client, Error, FetchOptions, NewTopic, OffsetSpec, Position, ProducerState};
use model::{ErrorCode, Offset, TimestampMs, record_batch::NewRecord};
use runtime::{TaskQueue, local::oneshot};

use super::{clients::Workload, topics::TIMEOUT};
use crate::Rng;

const TOPIC: &str = "again";
/// How long a topic lives, at most.
const LIFE_MS_MAX: u64 = 200;

/// The records that one of the topics has acknowledged, by their offsets.
type Acked = Rc<RefCell<BTreeMap<i64, String>>>;

impl Workload {
    pub(crate) async fn recreate(self, count: u64, mut rng: Rng) {
        let client = self.client("recreator");
        let new = NewTopic {
            name: TOPIC,
            partition_count: 1,
            replication_factor: 1,
            configs: &[("internal.segment.bytes", "4096")],
        };
        let mut earlier: BTreeMap<String, u64> = BTreeMap::new();
        for number in 0..count {
            Box::pin(self.create_topic(&client, &new)).await;
            let acked = Acked::default();
            let is_over = Rc::new(std::cell::Cell::new(false));
            let (sender, ended) = oneshot();
            let writer = self.clone().write(number, Rc::clone(&acked), Rc::clone(&is_over));
            self.runtime.spawn("writer", TaskQueue::Foreground, async move {
                writer.await;
                sender.send(());
            });
            self.runtime.sleep(Duration::from_millis(rng.below(LIFE_MS_MAX))).await;
            let before = acked.borrow().clone();
            let log = Box::pin(self.read_topic(&client)).await;
            for (offset, value) in &before {
                if log.get(offset) != Some(value) {
                    let there = log.get(offset);
                    self.complain(format!("{TOPIC} {number}: {value} at {offset}, now {there:?}"));
                }
            }
            for value in log.values() {
                if let Some(of) = earlier.get(value).filter(|of| **of != number) {
                    self.complain(format!("{TOPIC} {number}: {value} belongs to number {of}"));
                }
            }
            earlier.extend(before.into_values().chain(log.into_values()).map(|v| (v, number)));
            // It is deleted while it is written to.
            Box::pin(self.delete_topic(&client, TOPIC)).await;
            is_over.set(true);
            ended.receive().await.expect("the writer ends");
            earlier.extend(acked.take().into_values().map(|value| (value, number)));
            Box::pin(self.check_topic(&client, TOPIC, false)).await;
            self.history.borrow_mut().counts.recreations += 1;
        }
        self.done();
    }

    /// Writes until it is told to stop, a record at a time.
    async fn write(self, number: u64, acked: Acked, is_over: Rc<std::cell::Cell<bool>>) {
        let client = self.client("writer");
        let mut record = 0;
        while !is_over.get() {
            let value = format!("{number}-{record}");
            record += 1;
            let timestamp = TimestampMs(self.runtime.wall_clock_ms());
            let new = NewRecord { timestamp, value: Some(value.as_bytes()), ..Default::default() };
            let batch = ProducerState::plain().batch(TOPIC, 0, &[new]);
            let connection = self.connect(&client).await;
            let batches = std::slice::from_ref(&batch);
            let outcome = match connection.produce(batches, Acks::All, TIMEOUT).await {
                Ok(results) => results.into_iter().next().unwrap_or(Err(Error::Closed)),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(produced) => {
                    self.operation();
                    let offset = produced.base_offset.map(|offset| (offset.0, value));
                    acked.borrow_mut().extend(offset);
                }
                Err(Error::Refused(ErrorCode::UnknownTopicOrPartition)) => {
                    self.runtime.sleep(Duration::from_millis(1)).await;
                }
                Err(error) => {
                    self.refuse_nonsense("writing", error);
                    self.pause().await;
                }
            }
        }
    }

    async fn read_topic(&self, client: &Client) -> BTreeMap<i64, String> {
        let mut log = BTreeMap::new();
        let mut position = Position { topic: TOPIC.to_owned(), partition: 0, offset: Offset(0) };
        loop {
            match self.read_topic_on(client, &mut position, &mut log).await {
                Ok(()) => return log,
                Err(error) => {
                    self.refuse_nonsense("reading", error);
                    self.pause().await;
                }
            }
        }
    }

    async fn read_topic_on(
        &self,
        client: &Client,
        position: &mut Position,
        log: &mut BTreeMap<i64, String>,
    ) -> Result<(), Error> {
        let connection = self.connect(client).await;
        let end = connection.list_offset(TOPIC, 0, OffsetSpec::Latest).await?;
        while Some(position.offset) < end {
            let options = FetchOptions::default();
            let fetched = connection.fetch(std::slice::from_ref(position), options).await?;
            let fetched = fetched.first().ok_or(Error::Nonsense("an empty answer"))?;
            Error::check(fetched.error_code.code())?;
            let (records, next) = fetched.records_from(position.offset)?;
            for record in records {
                let value = record.value.as_deref().unwrap_or_default();
                log.insert(record.offset.0, String::from_utf8_lossy(value).into_owned());
            }
            position.offset = next;
        }
        Ok(())
    }
}
