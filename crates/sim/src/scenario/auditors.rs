//! Readers of committed records, for `--transactions`, and the last look at all transactions.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use checker::history::{Action, Kind, Polled};
use client::{CommittedOffset, Connection, Error, FetchOptions, Isolation, OffsetSpec, Position};
use model::{ErrorCode, Offset};

use super::{
    clients::Workload,
    ledger::Ledger,
    tellers::{LEDGER, PARTITIONS, Teller},
    told::{self, Told},
};

/// How long a fetch waits for records.
const WAIT: Duration = Duration::from_millis(20);
/// How often it is looked whether all transactions have ended.
const LOOKS_MAX: u32 = 100;
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Committed records, and the offset to go on from.
type Read = (Vec<(i64, Rc<str>)>, i64);

impl Workload {
    /// Follows a partition of the ledger from its first record.
    pub(crate) async fn audit(self, ledger: Rc<RefCell<Ledger>>, told: Told, partition: i32) {
        let client = self.client(&format!("auditor-{partition}"));
        let mut from = 0;
        let process = told::AUDITORS + u64::from(partition.unsigned_abs());
        told.assigned(process, partition);
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            told.note(process, Kind::Invoke, Action::Poll(Polled::default()));
            let read = read_committed(&connection, partition, from, WAIT).await;
            let records = read.as_ref().ok().map(|(records, _)| records.as_slice());
            told.polled(process, partition, records);
            match read {
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
    pub(crate) async fn check_ledger(
        &self,
        ledger: &Rc<RefCell<Ledger>>,
        told: &Told,
        tellers: usize,
    ) {
        told.note(0, Kind::Info, Action::Final);
        let mut read = BTreeMap::new();
        for partition in 0..PARTITIONS {
            match self.read_ledger(partition).await {
                Ok(records) => {
                    told.note(told::LAST, Kind::Invoke, Action::Poll(Polled::default()));
                    told.polled(told::LAST, partition, Some(&records));
                    read.insert(partition, records);
                }
                Err(complaint) => return self.complain(complaint),
            }
        }
        let mut offsets = BTreeMap::new();
        for index in 0..tellers {
            let found = self.ledger_offset(&Teller::group(index)).await;
            told.offset_fetched(&Teller::group(index), found.as_ref());
            offsets.insert(index, found.map_or(-1, |found| found.offset.0));
        }
        for complaint in ledger.borrow().check(&read, &offsets).into_iter().chain(told.judge()) {
            self.complain(complaint);
        }
    }

    async fn read_ledger(&self, partition: i32) -> Result<Vec<(i64, Rc<str>)>, String> {
        let client = self.client("ledger");
        let (mut all, mut from, mut looks) = (Vec::new(), 0, 0);
        loop {
            let connection = self.connect(&client).await;
            let ends = async {
                let stable = end_of(&connection, partition, OffsetSpec::LastStable).await?;
                Ok((stable, end_of(&connection, partition, OffsetSpec::Latest).await?))
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
                Ok(_) => read_committed(&connection, partition, from, Duration::ZERO).await,
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

    async fn ledger_offset(&self, group: &str) -> Option<CommittedOffset> {
        let client = self.client("ledger");
        let asked = [(LEDGER.to_owned(), vec![0])].into();
        loop {
            let connection = self.connect(&client).await;
            match connection.committed_offsets(group, Some(&asked)).await {
                Ok(found) => {
                    return found.get(&(LEDGER.to_owned(), 0)).cloned();
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

async fn end_of(connection: &Connection, partition: i32, spec: OffsetSpec) -> Result<i64, Error> {
    let end = connection.list_offset(LEDGER, partition, spec).await?;
    end.map(|end| end.0).ok_or(Error::Nonsense("a log without an end"))
}

/// Fetches committed records from an offset on.
async fn read_committed(
    connection: &Connection,
    partition: i32,
    from: i64,
    max_wait: Duration,
) -> Result<Read, Error> {
    let from = Offset(from);
    let position = Position { topic: LEDGER.to_owned(), partition, offset: from };
    let options = FetchOptions {
        max_wait,
        partition_max_bytes: 8 << 10,
        isolation: Isolation::Committed,
        ..FetchOptions::default()
    };
    let fetched = connection.fetch(&[position], options).await?;
    let fetched = fetched.first().ok_or(Error::Nonsense("an empty answer"))?;
    Error::check(fetched.error_code.code())?;
    let (records, next) = fetched.records_from(from)?;
    if next == from && !fetched.records.is_empty() {
        return Err(Error::Refused(ErrorCode::CorruptMessage));
    }
    let text = |value: &[u8]| Rc::from(String::from_utf8_lossy(value).as_ref());
    let read = records
        .into_iter()
        .map(|record| (record.offset.0, text(record.value.as_deref().unwrap_or_default())));
    Ok((read.collect(), next.0))
}
