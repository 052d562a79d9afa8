//! One consumer: its partitions, read from whoever leads them.
//!
//! Cost a fetch: one send, one receive; a batch: its CRC; a record that is timed: a walk over it.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::atomic::Ordering, time::Duration};

use client::{AutoCreate, Cluster, Connection, Error, Fetched, OffsetSpec, Position};
use model::{
    ErrorCode, Offset,
    compression::decompress,
    record_batch::{BatchError, Compression, HEADER_BYTES, RecordBatch, Records, batches},
};
use runtime::{
    Instant, TaskQueue,
    local::{Oneshot, oneshot},
};

use super::{
    tally::Tally,
    worker::{ERROR_PAUSE, LOOK_PERIOD, Worker},
    workload::{Consumption, Role, STAMP_BYTES},
};

/// What a batch may take when it is decompressed: more than any broker takes in one.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// One consumer.
pub(super) struct Consumer {
    cluster: Rc<Cluster>,
    topic: String,
    consumption: Consumption,
    partitions: Rc<RefCell<BTreeMap<i32, Progress>>>,
    /// Whether it ends when it has read what was there.
    until_end: bool,
}

/// How far it is with a partition.
#[derive(Clone, Copy, Debug)]
struct Progress {
    next: Offset,
    /// What was there at the start.
    end: Offset,
    first: Offset,
}

/// One time, by the clock and from the start of the run.
#[derive(Clone, Copy)]
struct Moment {
    now: Instant,
    of_run: Duration,
}

/// Whether to go on with the same leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ended,
    LookAgain,
}

impl Consumer {
    /// Finds the partitions of consumer `number` of `count`, and where it begins.
    pub(super) async fn prepare(
        cluster: Cluster,
        topic: String,
        consumption: Consumption,
        (number, count): (u32, u32),
        until_end: bool,
    ) -> client::Result<Consumer> {
        let metadata = cluster.refresh(&[&topic], AutoCreate::Never).await?;
        let total = metadata.topics.first().map_or(0, |topic| topic.leaders.len());
        let mut partitions = BTreeMap::new();
        for partition in 0..i32::try_from(total).unwrap_or(i32::MAX) {
            if partition.unsigned_abs() % count != number {
                continue;
            }
            let leader = cluster.leader(&topic, partition).await?;
            let there = |offset: Option<Offset>| offset.unwrap_or(Offset::ZERO);
            let end = there(leader.list_offset(&topic, partition, OffsetSpec::Latest).await?);
            let first = there(leader.list_offset(&topic, partition, OffsetSpec::Earliest).await?);
            let next = match consumption.role {
                Role::Tail => end,
                Role::Everything | Role::CatchUp => first,
            };
            partitions.insert(partition, Progress { next, end, first });
        }
        let cluster = Rc::new(cluster);
        let partitions = Rc::new(RefCell::new(partitions));
        Ok(Consumer { cluster, topic, consumption, partitions, until_end })
    }

    /// Reads until the run is over, or everything is read if that is the end.
    pub(super) async fn run(self, worker: Rc<Worker>) {
        let run = &worker.run;
        let backlog = self.consumption.backlog_bytes;
        while run.produced_bytes.load(Ordering::Relaxed) < backlog && !run.is_over() {
            worker.runtime.sleep(LOOK_PERIOD).await;
        }
        let consumer = Rc::new(self);
        while !run.is_over() && !consumer.has_ended() {
            let readers: Vec<Oneshot<Outcome>> = consumer
                .by_leader()
                .into_iter()
                .map(|(leader, partitions)| {
                    let (sender, ended) = oneshot();
                    let (consumer, worker) = (Rc::clone(&consumer), Rc::clone(&worker));
                    worker.runtime.clone().spawn("perf fetch", TaskQueue::Foreground, async move {
                        sender.send(consumer.follow(&worker, leader, &partitions).await);
                    });
                    ended
                })
                .collect();
            let mut look_again = readers.is_empty() && !consumer.partitions.borrow().is_empty();
            for reader in readers {
                look_again |= reader.receive().await == Some(Outcome::LookAgain);
            }
            if look_again && !run.is_over() {
                worker.runtime.sleep(ERROR_PAUSE).await;
                if let Err(error) =
                    consumer.cluster.refresh(&[&consumer.topic], AutoCreate::Never).await
                {
                    worker.tally.borrow_mut().failed(error.to_string(), 1);
                }
            } else if consumer.partitions.borrow().is_empty() {
                return;
            }
        }
    }

    fn has_ended(&self) -> bool {
        let partitions = self.partitions.borrow();
        self.until_end && partitions.values().all(|progress| progress.next >= progress.end)
    }

    fn by_leader(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in self.partitions.borrow().keys() {
            if let Some(leader) = self.cluster.leader_of(&self.topic, *partition) {
                leaders.entry(leader).or_default().push(*partition);
            }
        }
        leaders
    }

    /// Reads these partitions from one broker.
    async fn follow(&self, worker: &Worker, leader: i32, partitions: &[i32]) -> Outcome {
        let connection = match self.cluster.broker(leader).await {
            Ok(connection) => connection,
            Err(error) => {
                worker.tally.borrow_mut().failed(error.to_string(), 1);
                return Outcome::LookAgain;
            }
        };
        while !worker.run.is_over() {
            let positions = self.positions(partitions);
            if positions.is_empty() {
                return Outcome::Ended;
            }
            match connection.fetch(&positions, self.consumption.fetch).await {
                Ok(fetched) => {
                    let now = worker.runtime.now();
                    for part in &fetched {
                        let taken = self.take(worker, part, now);
                        if let Err(error) = self.settle(&connection, part, taken).await {
                            worker.tally.borrow_mut().failed(error.to_string(), 1);
                            return Outcome::LookAgain;
                        }
                    }
                }
                Err(error) => {
                    worker.tally.borrow_mut().failed(error.to_string(), 1);
                    return Outcome::LookAgain;
                }
            }
        }
        Outcome::Ended
    }

    /// Where to read on; who catches up begins anew where all is read.
    fn positions(&self, partitions: &[i32]) -> Vec<Position> {
        let mut progress = self.partitions.borrow_mut();
        let mut positions = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let Some(progress) = progress.get_mut(partition) else { continue };
            if progress.next >= progress.end {
                match self.consumption.role {
                    Role::CatchUp if progress.end > progress.first => {
                        progress.next = progress.first
                    }
                    _ if self.until_end => continue,
                    Role::Tail | Role::Everything | Role::CatchUp => {}
                }
            }
            let (topic, offset) = (self.topic.clone(), progress.next);
            positions.push(Position { topic, partition: *partition, offset });
        }
        positions
    }

    /// Counts what came, and says where to read on.
    fn take(&self, worker: &Worker, part: &Fetched, now: Instant) -> Result<Offset, Error> {
        if part.error_code != ErrorCode::None {
            return Err(Error::Refused(part.error_code));
        }
        let progress = self.partitions.borrow();
        let progress = progress.get(&part.partition).ok_or(Error::Nonsense("not asked for"))?;
        let timed = match self.consumption.role {
            Role::Tail => Some(worker.run.run_id),
            Role::Everything | Role::CatchUp => None,
        };
        let mut next = progress.next;
        for batch in batches(&part.records) {
            let batch = match batch {
                // A batch that did not fit is cut: the next fetch brings it.
                Err(BatchError::Truncated { .. }) => break,
                batch => batch?,
            };
            batch.verify_crc()?;
            if !batch.is_control() && batch.next_offset() > next {
                let at = Moment { now, of_run: now.since(worker.start) };
                count(&mut worker.tally.borrow_mut(), &batch, timed, at)?;
            }
            next = next.max(batch.next_offset());
        }
        Ok(next)
    }

    /// Notes where to read on; where the position is not there any more it begins at the first.
    async fn settle(
        &self,
        connection: &Connection,
        part: &Fetched,
        taken: Result<Offset, Error>,
    ) -> client::Result<()> {
        let next = match taken {
            Ok(next) => next,
            Err(Error::Refused(ErrorCode::OffsetOutOfRange)) => {
                let first =
                    connection.list_offset(&self.topic, part.partition, OffsetSpec::Earliest);
                first.await?.unwrap_or(Offset::ZERO)
            }
            Err(error) => return Err(error),
        };
        if let Some(progress) = self.partitions.borrow_mut().get_mut(&part.partition) {
            progress.next = next;
            // Who catches up reads the more, the more there is.
            if self.consumption.role == Role::CatchUp {
                progress.end = progress.end.max(part.high_watermark);
                progress.first = progress.first.max(part.log_start_offset);
            }
        }
        Ok(())
    }
}

/// Counts a batch; its records are looked at only if they can be timed.
fn count(
    tally: &mut Tally,
    batch: &RecordBatch<'_>,
    run_id: Option<u64>,
    Moment { now, of_run }: Moment,
) -> Result<(), Error> {
    let records = u64::try_from(batch.record_count()).unwrap_or(0);
    tally.consumed.add(records, batch.size() as u64, of_run);
    let Some(run_id) = run_id else { return Ok(()) };
    let compression = batch.compression();
    if compression == Compression::None {
        for record in batch.records() {
            time(tally, record?.value, run_id, now);
        }
        return Ok(());
    }
    let packed = &batch.bytes()[HEADER_BYTES..];
    let plain = decompress(compression, packed, DECOMPRESSED_BYTES_MAX)
        .map_err(|_| Error::Nonsense("a batch that cannot be decompressed"))?;
    for record in Records::of_decompressed(&plain, batch.record_count()) {
        time(tally, record?.value, run_id, now);
    }
    Ok(())
}

/// Records how long ago the record was due, if this run made it.
fn time(tally: &mut Tally, value: Option<&[u8]>, run_id: u64, now: Instant) {
    let Some(stamp) = value.and_then(<[u8]>::first_chunk::<STAMP_BYTES>) else { return };
    let (whose, due) = stamp.split_at(8);
    if whose == run_id.to_be_bytes() {
        let due = u64::from_be_bytes(due.try_into().expect("half of a stamp"));
        tally.end_to_end.record(now.since(Instant(due)), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_of_this_run_are_timed() {
        let now = Instant(5_000_000);
        let stamp = |run_id: u64, due: u64| [run_id.to_be_bytes(), due.to_be_bytes()].concat();
        for (value, expected) in [
            (Some([stamp(7, 1_000_000), b"and a tail".to_vec()].concat()), 1),
            (Some(stamp(7, 1_000_000)), 1),
            (Some(stamp(8, 1_000_000)), 0),
            (Some(stamp(7, 1_000_000)[..15].to_vec()), 0),
            (Some(Vec::new()), 0),
            (None, 0),
        ] {
            let mut tally = Tally::default();
            time(&mut tally, value.as_deref(), 7, now);
            assert_eq!(tally.end_to_end.count(), expected, "{value:?}");
        }
        let mut tally = Tally::default();
        time(&mut tally, Some(&stamp(7, 1_000_000)), 7, now);
        assert!((tally.end_to_end.max_ms() - 4.0).abs() < 0.01);
    }
}
