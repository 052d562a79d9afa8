//! Readers of committed records, for `--transactions`, and the last look at all transactions.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use client::{Connection, Error};
use model::{
    ErrorCode, Offset,
    record_batch::{ControlType, RecordBatch, batches},
};
use wire::{
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
};

use super::{
    clients::Workload,
    ledger::Ledger,
    tellers::{LEDGER, PARTITIONS, Teller},
};

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// The offset behind the last that may be read.
const LATEST: i64 = -1;
/// How often it is looked whether all transactions have ended.
const LOOKS_MAX: u32 = 100;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Committed records, and the offset to go on from.
type Read = (Vec<(i64, Rc<str>)>, i64);

impl Workload {
    /// Follows a partition of the ledger from its first record.
    pub(crate) async fn audit(self, ledger: Rc<RefCell<Ledger>>, partition: i32) {
        let client = self.client(&format!("auditor-{partition}"));
        let mut from = 0;
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            match read_committed(&connection, partition, from, 20).await {
                Ok((records, next)) => {
                    self.operation();
                    for (offset, value) in records {
                        let complaint = ledger.borrow_mut().note_read(partition, offset, &value);
                        complaint.into_iter().for_each(|complaint| self.complain(complaint));
                    }
                    from = next;
                }
                Err(error) => {
                    self.refuse_nonsense("audit", error);
                    client.disconnect();
                    self.pause().await;
                }
            }
        }
    }

    /// Reads all that is committed, and compares.
    pub(crate) async fn check_ledger(&self, ledger: &Rc<RefCell<Ledger>>, tellers: usize) {
        let mut read = BTreeMap::new();
        for partition in 0..PARTITIONS {
            match self.read_ledger(partition).await {
                Ok(records) => drop(read.insert(partition, records)),
                Err(complaint) => return self.complain(complaint),
            }
        }
        let mut offsets = BTreeMap::new();
        for index in 0..tellers {
            offsets.insert(index, self.ledger_offset(&Teller::group(index)).await);
        }
        for complaint in ledger.borrow().check(&read, &offsets) {
            self.complain(complaint);
        }
    }

    async fn read_ledger(&self, partition: i32) -> Result<Vec<(i64, Rc<str>)>, String> {
        let client = self.client("ledger");
        let (mut all, mut from, mut looks) = (Vec::new(), 0, 0);
        loop {
            let connection = self.connect(&client).await;
            let ends = async {
                let stable = end_of(&connection, partition, READ_COMMITTED).await?;
                Ok((stable, end_of(&connection, partition, READ_UNCOMMITTED).await?))
            };
            let looked = match ends.await {
                Ok((stable, end)) if stable == end && from >= end => return Ok(all),
                Ok((stable, end)) if stable < end => {
                    looks += 1;
                    if looks > LOOKS_MAX {
                        return Err(format!("ledger {partition}: open at {stable} of {end}"));
                    }
                    self.runtime.sleep(LOOK_PAUSE).await;
                    continue;
                }
                Ok(_) => read_committed(&connection, partition, from, 0).await,
                Err(error) => Err(error),
            };
            match looked {
                Ok((records, next)) => {
                    self.history.borrow_mut().counts.last_looks += 1;
                    all.extend(records);
                    from = next;
                }
                Err(error) => {
                    self.refuse_nonsense("the last look at the ledger", error);
                    client.disconnect();
                    self.pause().await;
                }
            }
        }
    }

    async fn ledger_offset(&self, group: &str) -> i64 {
        let client = self.client("ledger");
        let asked = [(LEDGER.to_owned(), vec![0])].into();
        loop {
            let connection = self.connect(&client).await;
            match connection.committed_offsets(group, &asked).await {
                Ok(found) => {
                    let found = found.get(&(LEDGER.to_owned(), 0));
                    return found.map_or(-1, |offset| offset.0);
                }
                Err(error) => {
                    self.refuse_nonsense("OffsetFetch", error);
                    client.disconnect();
                    self.pause().await;
                }
            }
        }
    }
}

async fn end_of(connection: &Connection, partition: i32, isolation: i8) -> Result<i64, Error> {
    let partition = ListOffsetsPartition {
        partition_index: partition,
        current_leader_epoch: -1,
        timestamp: LATEST,
    };
    let topic = ListOffsetsTopic { name: LEDGER, partitions: vec![partition] };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let partition = response.topics.iter().flat_map(|topic| &topic.partitions).next();
    let partition = partition.ok_or(Error::Nonsense("an empty answer"))?;
    Error::check(partition.error_code)?;
    Ok(partition.offset)
}

/// Fetches committed records from an offset on, as Kafka's consumers do: those of transactions that
/// the broker says were aborted are dropped.
async fn read_committed(
    connection: &Connection,
    partition: i32,
    from: i64,
    max_wait_ms: i32,
) -> Result<Read, Error> {
    let asked = FetchPartition {
        partition,
        fetch_offset: from,
        partition_max_bytes: 8 << 10,
        ..Default::default()
    };
    let topic = FetchTopic { topic: LEDGER, partitions: vec![asked], ..Default::default() };
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: READ_COMMITTED,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    Error::check(response.error_code)?;
    let data = response.responses.iter().flat_map(|topic| &topic.partitions).next();
    let data = data.ok_or(Error::Nonsense("an empty answer"))?;
    Error::check(data.error_code)?;
    let aborted = data.aborted_transactions.as_deref().unwrap_or_default();
    let mut aborted: Vec<(i64, i64)> =
        aborted.iter().map(|one| (one.first_offset, one.producer_id)).collect();
    aborted.sort_unstable_by(|one, other| other.cmp(one));
    let bytes = data.records.as_ref().and_then(wire::Records::as_borrowed).unwrap_or_default();
    let mut dropped: BTreeSet<i64> = BTreeSet::new();
    let (mut records, mut next) = (Vec::new(), from);
    for batch in batches(bytes) {
        let Ok(batch) = batch else { break };
        batch.verify_crc()?;
        let producer = batch.producer_id().0;
        let last = batch.last_offset().0;
        while let Some((_, producer)) = aborted.pop_if(|(first, _)| *first <= last) {
            dropped.insert(producer);
        }
        next = next.max(batch.next_offset().0);
        if batch.is_control() {
            if is_abort(&batch)? {
                dropped.remove(&producer);
            }
            continue;
        }
        if batch.is_transactional() && dropped.contains(&producer) {
            continue;
        }
        for record in batch.records() {
            let record = record?;
            let offset = batch.offset_of(&record);
            let value = record.value.map(String::from_utf8_lossy).unwrap_or_default();
            if offset >= Offset(from) {
                records.push((offset.0, Rc::from(value.as_ref())));
            }
        }
    }
    if next == from && !bytes.is_empty() {
        return Err(Error::Refused(ErrorCode::CorruptMessage));
    }
    Ok((records, next))
}

fn is_abort(batch: &RecordBatch<'_>) -> Result<bool, Error> {
    let record = batch.records().next().ok_or(Error::Nonsense("an empty marker"))??;
    let end = record.key.and_then(ControlType::from_key);
    Ok(end == Some(ControlType::Abort))
}
