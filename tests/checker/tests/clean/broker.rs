//! A broker without faults, of a few lines: logs with transactions and compaction, groups.

use std::collections::{BTreeMap, BTreeSet};

use checker::history::{Identity, Read};

/// What lies at an offset.
struct Entry {
    offset: i64,
    /// `None`: a marker.
    record: Option<(Option<String>, Option<String>)>,
    is_aborted: bool,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    next: i64,
    /// Offsets of transactions that have not ended, with the transaction.
    open: BTreeMap<i64, u64>,
}

#[derive(Default)]
pub struct Group {
    pub generation: i32,
    pub assigned: BTreeMap<u64, Vec<String>>,
}

/// All of its state.
#[derive(Default)]
pub struct Broker {
    logs: BTreeMap<String, Log>,
    pub group: Group,
    /// By group and partition.
    pub offsets: BTreeMap<(String, String), (i64, String)>,
    pub identities: BTreeMap<String, Identity>,
}

impl Broker {
    /// Appends a record, of a transaction if there is one.
    pub fn append(
        &mut self,
        partition: &str,
        value: Option<String>,
        key: Option<String>,
        transaction: Option<u64>,
    ) -> i64 {
        let log = self.logs.entry(partition.to_owned()).or_default();
        let offset = log.next;
        log.next += 1;
        log.entries.push(Entry { offset, record: Some((value, key)), is_aborted: false });
        if let Some(transaction) = transaction {
            log.open.insert(offset, transaction);
        }
        offset
    }

    /// Ends a transaction: its records are there or not, and a marker follows them.
    pub fn end(&mut self, transaction: u64, commits: bool) {
        for log in self.logs.values_mut() {
            let of = |(offset, its): (&i64, &u64)| (*its == transaction).then_some(*offset);
            let offsets: BTreeSet<i64> = log.open.iter().filter_map(of).collect();
            if offsets.is_empty() {
                continue;
            }
            log.open.retain(|offset, _| !offsets.contains(offset));
            for offset in offsets.iter().filter(|_| !commits) {
                let at = log.entries.partition_point(|entry| entry.offset < *offset);
                log.entries[at].is_aborted = true;
            }
            log.entries.push(Entry { offset: log.next, record: None, is_aborted: false });
            log.next += 1;
        }
    }

    /// Behind the last record.
    pub fn end_of(&self, partition: &str) -> i64 {
        self.logs.get(partition).map_or(0, |log| log.next)
    }

    /// Behind the last that readers of committed ones may see.
    pub fn stable(&self, partition: &str) -> i64 {
        let log = self.logs.get(partition);
        log.map_or(0, |log| log.open.keys().next().copied().unwrap_or(log.next))
    }

    /// Committed records, and where to go on.
    pub fn read(&self, partition: &str, from: i64, count: usize) -> (Vec<Read>, i64) {
        let Some(log) = self.logs.get(partition) else { return (Vec::new(), from) };
        let stable = self.stable(partition);
        let (mut reads, mut next) = (Vec::new(), from);
        let first = log.entries.partition_point(|entry| entry.offset < from);
        for entry in &log.entries[first..] {
            if entry.offset >= stable || reads.len() == count {
                break;
            }
            next = entry.offset + 1;
            if let Some((value, key)) = entry.record.as_ref().filter(|_| !entry.is_aborted) {
                let (value, key) = (value.clone(), key.clone());
                reads.push(Read { offset: entry.offset, value, key });
            }
        }
        (reads, next)
    }

    /// Removes what a later record of its key has replaced.
    pub fn compact(&mut self, partition: &str) {
        let Some(log) = self.logs.get_mut(partition) else { return };
        let mut last = BTreeMap::new();
        for entry in &log.entries {
            if let Some((_, Some(key))) = &entry.record {
                last.insert(key.clone(), entry.offset);
            }
        }
        log.entries.retain(|entry| match &entry.record {
            Some((_, Some(key))) => last[key] == entry.offset,
            Some((_, None)) | None => true,
        });
    }

    /// Gives a transactional id to the next who comes.
    pub fn take(&mut self, name: &str) -> Identity {
        let next = self.identities.len().try_into().expect("few");
        let identity = self.identities.entry(name.to_owned()).or_insert_with(|| Identity {
            transactional_id: Some(name.to_owned()),
            id: next,
            epoch: -1,
        });
        identity.epoch += 1;
        identity.clone()
    }

    /// A member joins or joins again: if it is at the group's generation already, that ends.
    pub fn join(&mut self, member: u64, generation: i32, partitions: &[String]) {
        if generation == self.group.generation || !self.group.assigned.contains_key(&member) {
            self.group.generation += 1;
            self.group.assigned.entry(member).or_default();
            let members = self.group.assigned.len();
            for (at, owned) in self.group.assigned.values_mut().enumerate() {
                *owned = partitions.iter().skip(at).step_by(members).cloned().collect();
            }
        }
    }
}
