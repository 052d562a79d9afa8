//! Topics of which only the last record of each key has to stay.
//!
//! A reader may pass over an offset where a later record of its key was sent, or where a tombstone
//! was whose time is over; over no other. When a tombstone has gone, so has all before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
};

use super::history::Partition;

struct Record {
    value: Rc<str>,
    key: Rc<str>,
    is_tombstone: bool,
}

/// The records with keys that were sent.
#[derive(Default)]
pub(crate) struct Keyed {
    acked: BTreeMap<Partition, BTreeMap<i64, Record>>,
    /// The last acknowledged offset of each key.
    newest: BTreeMap<(Partition, Rc<str>), i64>,
    /// How many records of a key have no known offset.
    pending: BTreeMap<(Partition, Rc<str>), u32>,
    tombstones: BTreeSet<(Partition, Rc<str>)>,
}

impl Keyed {
    pub(crate) fn note_sent(&mut self, partition: &Partition, key: &Rc<str>, is_tombstone: bool) {
        let place = (partition.clone(), Rc::clone(key));
        if is_tombstone {
            self.tombstones.insert(place.clone());
        }
        *self.pending.entry(place).or_default() += 1;
    }

    pub(crate) fn note_acked(
        &mut self,
        partition: &Partition,
        offset: i64,
        (value, key, is_tombstone): (Rc<str>, Rc<str>, bool),
    ) {
        let place = (partition.clone(), Rc::clone(&key));
        *self.pending.get_mut(&place).expect("sent before it is acknowledged") -= 1;
        let newest = self.newest.entry(place).or_insert(offset);
        *newest = (*newest).max(offset);
        let record = Record { value, key, is_tombstone };
        self.acked.entry(partition.clone()).or_default().insert(offset, record);
    }

    /// The first acknowledged record in these offsets that had to stay.
    pub(crate) fn missed(
        &self,
        partition: &Partition,
        offsets: Range<i64>,
        tombstones: Tombstones,
    ) -> Option<(i64, Rc<str>)> {
        let acked = self.acked.get(partition)?;
        let missed = acked.range(offsets).find(|(offset, record)| {
            let place = (partition.clone(), Rc::clone(&record.key));
            let is_newest = self.newest.get(&place).is_none_or(|newest| newest <= offset);
            let is_last = is_newest && self.pending.get(&place).is_none_or(|count| *count == 0);
            is_last && !(record.is_tombstone && tombstones == Tombstones::MayGo)
        });
        missed.map(|(offset, record)| (*offset, Rc::clone(&record.value)))
    }

    /// How many acknowledged records are not among these.
    pub(crate) fn gone(&self, partition: &Partition, there: &BTreeSet<i64>) -> u64 {
        let acked = self.acked.get(partition).into_iter().flatten();
        let gone = acked.filter(|(offset, _)| !there.contains(offset)).count();
        u64::try_from(gone).unwrap_or(u64::MAX)
    }

    /// What a tombstone was sent as; `None` where its answer has not come. An error where none was.
    pub(crate) fn tombstone(
        &self,
        partition: &Partition,
        offset: i64,
        key: &str,
    ) -> Result<Option<Rc<str>>, ()> {
        let known = self.acked.get(partition).and_then(|acked| acked.get(&offset));
        match known {
            Some(record) if record.is_tombstone && *record.key == *key => {
                Ok(Some(Rc::clone(&record.value)))
            }
            Some(_) => Err(()),
            None if self.tombstones.contains(&(partition.clone(), Rc::from(key))) => Ok(None),
            None => Err(()),
        }
    }

    /// A key of which an older record is there (its last offset in the log is given), and the last
    /// acknowledged one is not.
    pub(crate) fn revived(
        &self,
        partition: &Partition,
        last: &BTreeMap<Rc<str>, i64>,
    ) -> Option<Rc<str>> {
        let is_older = |(key, offset): &(&Rc<str>, &i64)| {
            let newest = self.newest.get(&(partition.clone(), Rc::clone(key)));
            newest.is_some_and(|newest| *offset < newest)
        };
        last.iter().find(is_older).map(|(key, _)| Rc::clone(key))
    }
}

/// What may have become of a tombstone that is the last of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tombstones {
    Stay,
    MayGo,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_overwritten_may_be_passed_over() {
        let partition = ("t".to_owned(), 0);
        let mut keyed = Keyed::default();
        let key: Rc<str> = "k".into();
        for (offset, is_tombstone) in [(0, false), (1, false), (2, true)] {
            keyed.note_sent(&partition, &key, is_tombstone);
            keyed.note_acked(&partition, offset, ("v".into(), Rc::clone(&key), is_tombstone));
        }
        let missed = |offsets, tombstones| keyed.missed(&partition, offsets, tombstones).is_some();
        assert!(!missed(0..2, Tombstones::Stay));
        assert!(missed(0..3, Tombstones::Stay));
        assert!(!missed(0..3, Tombstones::MayGo));
        assert!(keyed.revived(&partition, &[(Rc::clone(&key), 1)].into()).is_some());
        assert!(keyed.revived(&partition, &[(Rc::clone(&key), 2)].into()).is_none());
        assert_eq!(keyed.tombstone(&partition, 1, "k"), Err(()));
        assert_eq!(keyed.tombstone(&partition, 2, "k"), Ok(Some("v".into())));
        assert_eq!(keyed.tombstone(&partition, 3, "other"), Err(()));
    }

    #[test]
    fn a_record_on_its_way_may_have_overwritten_what_is_missed() {
        let partition = ("t".to_owned(), 0);
        let (mut keyed, key): (Keyed, Rc<str>) = (Keyed::default(), "k".into());
        keyed.note_sent(&partition, &key, false);
        keyed.note_acked(&partition, 0, ("v".into(), Rc::clone(&key), false));
        assert!(keyed.missed(&partition, 0..1, Tombstones::MayGo).is_some());
        keyed.note_sent(&partition, &key, false);
        assert!(keyed.missed(&partition, 0..1, Tombstones::MayGo).is_none());
    }
}
