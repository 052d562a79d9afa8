//! What became of each transaction, and what readers of committed records may see of it.
//!
//! ```text
//!   Open --> Committing --> Committed        seen: from Committing on, and in the end all of it
//!     |          '--------> Doubtful         seen: all of it or nothing
//!     '----> Aborted                         never seen
//! ```

use std::{collections::BTreeMap, rc::Rc};

/// How far a transaction has come, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody has asked for its commit.
    Open,
    /// Somebody has, and has no answer yet.
    Committing,
    /// It was answered.
    Committed,
    /// Nobody will ever know the answer.
    Doubtful,
    /// Its abort was answered, or another producer has its transactional id.
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    fate: Fate,
    values: Vec<(i32, Rc<str>)>,
    /// Whose group's offset it commits, if it does.
    group: Option<usize>,
}

/// All transactions of a run, in the order in which they began; each client's in its own.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    transactions: Vec<Transaction>,
    by_value: BTreeMap<Rc<str>, usize>,
    seen: BTreeMap<(i32, i64), Rc<str>>,
}

impl Ledger {
    /// A transaction begins that will write these values; gives its number.
    pub(crate) fn begin(&mut self, values: Vec<(i32, Rc<str>)>, group: Option<usize>) -> usize {
        let number = self.transactions.len();
        for (_, value) in &values {
            self.by_value.insert(Rc::clone(value), number);
        }
        self.transactions.push(Transaction { fate: Fate::Open, values, group });
        number
    }

    pub(crate) fn set(&mut self, number: usize, fate: Fate) {
        self.transactions[number].fate = fate;
    }

    pub(crate) fn fate(&self, number: usize) -> Fate {
        self.transactions[number].fate
    }

    /// A reader of committed records saw this; says what is wrong with it.
    pub(crate) fn note_read(&mut self, partition: i32, offset: i64, value: &str) -> Option<String> {
        let Some((value, number)) = self.by_value.get_key_value(value) else {
            return Some(format!("ledger {partition} {offset}: {value} was never sent"));
        };
        let value = Rc::clone(value);
        let transaction = &self.transactions[*number];
        if !transaction.values.contains(&(partition, Rc::clone(&value))) {
            return Some(format!("ledger {partition} {offset}: {value} is another partition's"));
        }
        match transaction.fate {
            Fate::Open | Fate::Aborted => {
                let fate = transaction.fate;
                return Some(format!("ledger {partition} {offset}: {value} is seen, and {fate:?}"));
            }
            Fate::Committing | Fate::Committed | Fate::Doubtful => {}
        }
        let known = self.seen.entry((partition, offset)).or_insert_with(|| Rc::clone(&value));
        (*known != value)
            .then(|| format!("ledger {partition} {offset}: was {known} and is {value}"))
    }

    /// Compares all that is seen in the end, by partition, with what is to be; and the groups'
    /// offsets: one more than the number of the last committed transaction that had one.
    pub(crate) fn check(
        &self,
        read: &BTreeMap<i32, Vec<(i64, Rc<str>)>>,
        offsets: &BTreeMap<usize, i64>,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut counts: BTreeMap<Rc<str>, usize> = BTreeMap::new();
        for value in read.values().flatten().map(|(_, value)| value) {
            *counts.entry(Rc::clone(value)).or_default() += 1;
        }
        for (value, count) in counts.iter().filter(|(_, count)| **count > 1) {
            complaints.push(format!("ledger: {value} is there {count} times"));
        }
        let mut last: BTreeMap<usize, i64> = BTreeMap::new();
        for (number, transaction) in self.transactions.iter().enumerate() {
            let all = transaction.values.len();
            let there = transaction.values.iter().filter(|(_, value)| counts.contains_key(value));
            let there = there.count();
            let is_right = match transaction.fate {
                Fate::Committed => there == all,
                Fate::Open | Fate::Aborted => there == 0,
                Fate::Committing | Fate::Doubtful => there == 0 || there == all,
            };
            if !is_right {
                let (fate, first) = (transaction.fate, &transaction.values[0].1);
                complaints.push(format!("ledger: {there} of {all} of {first} are seen: {fate:?}"));
            }
            if let Some(group) = transaction.group.filter(|_| there > 0) {
                last.insert(group, i64::try_from(number).expect("few transactions") + 1);
            }
        }
        for (group, found) in offsets {
            let expected = last.get(group).copied().unwrap_or(-1);
            if expected != *found {
                complaints.push(format!("ledger: group {group} is at {found}, not {expected}"));
            }
        }
        for ((partition, offset), value) in &self.seen {
            let log = read.get(partition).map(Vec::as_slice).unwrap_or_default();
            let found = log.binary_search_by_key(offset, |(offset, _)| *offset);
            if found.is_ok_and(|at| log[at].1 == *value) {
                continue;
            }
            complaints.push(format!("ledger {partition} {offset}: {value} was seen, and is gone"));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(fates: &[Fate]) -> Ledger {
        let mut ledger = Ledger::default();
        for (number, fate) in fates.iter().enumerate() {
            let values = [0, 1].map(|partition| (partition, value(number, partition)));
            ledger.begin(values.to_vec(), Some(0));
            ledger.set(number, *fate);
        }
        ledger
    }

    fn value(number: usize, partition: i32) -> Rc<str> {
        format!("{number}-{partition}").into()
    }

    /// What is in both partitions, by number.
    fn read(zero: &[usize], one: &[usize]) -> BTreeMap<i32, Vec<(i64, Rc<str>)>> {
        let log = |numbers: &[usize], partition| {
            (0..).zip(numbers).map(|(offset, number)| (offset, value(*number, partition))).collect()
        };
        [(0, log(zero, 0)), (1, log(one, 1))].into_iter().collect()
    }

    #[test]
    fn a_transaction_is_seen_whole_or_not_at_all() {
        use Fate::{Aborted, Committed, Committing, Doubtful, Open};
        let at = |offset| [(0, offset)].into();
        let check = |fates: &[Fate], zero: &[usize], one: &[usize], offset| {
            ledger(fates).check(&read(zero, one), &at(offset)).len()
        };
        assert_eq!(check(&[Committed, Aborted, Open], &[0], &[0], 1), 0);
        assert_eq!(check(&[Committed], &[0], &[], 1), 1);
        assert_eq!(check(&[Committed], &[], &[], -1), 1);
        assert_eq!(check(&[Committed], &[0, 0], &[0], 1), 1);
        assert_eq!(check(&[Aborted], &[0], &[0], 1), 1);
        assert_eq!(check(&[Open], &[], &[0], 1), 1);
        for fate in [Committing, Doubtful] {
            assert_eq!(check(&[fate], &[0], &[0], 1), 0);
            assert_eq!(check(&[fate], &[], &[], -1), 0);
            assert_eq!(check(&[fate], &[0], &[], 1), 1);
        }
        // The offset goes with the records.
        assert_eq!(check(&[Committed, Doubtful], &[0, 1], &[0, 1], 1), 1);
        assert_eq!(check(&[Committed, Doubtful], &[0], &[0], 2), 1);
    }

    #[test]
    fn nothing_is_seen_before_its_commit_was_asked_for() {
        let mut ledger = ledger(&[Fate::Open, Fate::Committing, Fate::Aborted, Fate::Committed]);
        assert!(ledger.note_read(0, 0, "0-0").is_some());
        assert!(ledger.note_read(0, 1, "1-0").is_none());
        assert!(ledger.note_read(0, 2, "2-0").is_some());
        assert!(ledger.note_read(0, 3, "3-0").is_none());
        assert!(ledger.note_read(1, 3, "3-0").is_some());
        assert!(ledger.note_read(0, 3, "1-0").is_some());
        assert!(ledger.note_read(0, 4, "nothing").is_some());
        // What was seen stays.
        assert_eq!(ledger.check(&read(&[], &[]), &BTreeMap::new()).len(), 3);
    }
}
