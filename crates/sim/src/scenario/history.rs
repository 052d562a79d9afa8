//! What the clients did and saw, and what is wrong with it.

use std::{collections::BTreeMap, ops::Range, rc::Rc};

use super::{losses::Losses, plan::Promise};

/// A topic and one of its partitions.
pub(crate) type Partition = (String, i32);

/// How many complaints are kept: one is enough, the first few tell why.
const COMPLAINTS_MAX: usize = 20;

/// A record that was sent.
pub(crate) struct Sent {
    pub(crate) partition: Partition,
    pub(crate) producer: usize,
    /// Its place among this producer's records.
    pub(crate) number: u64,
    pub(crate) promise: Promise,
    /// `Some` if it was acknowledged, with its offset where the broker told it.
    pub(crate) acked: Option<Option<i64>>,
}

/// What a run did: a run that never did what it aims at proved nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of the clients that the broker answered.
    pub operations: u64,
    /// Batches that were acknowledged.
    pub acked_batches: u64,
    /// Batches that were sent again.
    pub retried_batches: u64,
    /// Batches whose retry was told the offset of the first attempt.
    pub duplicates_refused: u64,
    /// Records that consumers saw.
    pub records_seen: u64,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Generations that a member of a group took part in.
    pub joins: u64,
    /// Clean stops so far.
    pub clean_stops: u64,
    /// Idempotent producers that had to start anew after a clean stop.
    pub identities_given_up: u64,
    /// Topics created or deleted.
    pub topic_changes: u64,
    /// Answers that the last look at everything took.
    pub last_looks: u64,
    /// Stretches of logs that the disk damaged.
    pub damages: u64,
    /// Reads that were refused for damage.
    pub damaged_reads: u64,
    /// Stretches that the operator gave up.
    pub losses_accepted: u64,
    /// Logs that took no records since their end was damaged.
    pub damaged_ends: u64,
}

impl Counts {
    /// Grows when something is done that is done once: reading and committing go on for ever.
    pub(crate) fn progress(&self) -> u64 {
        self.acked_batches + self.identities_given_up + self.topic_changes + self.last_looks
    }
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) sent: BTreeMap<Rc<str>, Sent>,
    seen: BTreeMap<Partition, BTreeMap<i64, Rc<str>>>,
    places: BTreeMap<Rc<str>, i64>,
    commits: BTreeMap<(String, Partition), i64>,
    owners: BTreeMap<(i32, Partition), String>,
    pub(crate) topics_there: BTreeMap<String, bool>,
    pub(crate) losses: Losses,
    pub(crate) counts: Counts,
    pub(crate) complaints: Vec<String>,
}

impl History {
    pub(crate) fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX && !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    pub(crate) fn has_complaints(&self) -> bool {
        !self.complaints.is_empty()
    }

    pub(crate) fn note_sent(&mut self, value: &Rc<str>, sent: Sent) {
        let before = self.sent.insert(Rc::clone(value), sent);
        assert!(before.is_none(), "values are unique");
    }

    /// A batch of records was acknowledged.
    pub(crate) fn note_acked(&mut self, values: &[Rc<str>], base_offset: Option<i64>) {
        self.counts.acked_batches += 1;
        for (value, index) in values.iter().zip(0..) {
            let offset = base_offset.map(|base| base + index);
            let sent = self.sent.get_mut(value).expect("sent before it is acknowledged");
            sent.acked = Some(offset);
            let partition = sent.partition.clone();
            if offset.is_some_and(|offset| self.losses.takes_no_records(&partition, offset)) {
                self.complain(format!("{value} was taken behind the damaged end of {partition:?}"));
            }
        }
    }

    /// A consumer saw a record.
    pub(crate) fn note_seen(&mut self, partition: &Partition, offset: i64, value: &str) {
        self.counts.records_seen += 1;
        let Some((value, sent)) = self.sent.get_key_value(value) else {
            self.complain(format!("{partition:?} {offset}: {value:?}, which nobody sent"));
            return;
        };
        let (value, promise) = (Rc::clone(value), sent.promise);
        if sent.partition != *partition {
            let home = sent.partition.clone();
            self.complain(format!("{value} of {home:?} is in {partition:?} at {offset}"));
        }
        let at_offset = self.seen.entry(partition.clone()).or_default();
        let before = at_offset.entry(offset).or_insert_with(|| Rc::clone(&value));
        if *before != value {
            let before = Rc::clone(before);
            self.complain(format!("{partition:?} {offset} was {before} and is {value}"));
        }
        let place = *self.places.entry(Rc::clone(&value)).or_insert(offset);
        if promise == Promise::ExactlyOnce && place != offset {
            self.complain(format!("{value} is in {partition:?} twice, at {place} and {offset}"));
        }
    }

    /// True if a consumer saw this record.
    pub(crate) fn was_seen(&self, value: &str) -> bool {
        self.places.contains_key(value)
    }

    /// A group's commit was acknowledged.
    pub(crate) fn note_commit(&mut self, group: &str, partition: &Partition, offset: i64) {
        self.counts.commits += 1;
        let committed = self.commits.entry((group.to_owned(), partition.clone())).or_insert(offset);
        *committed = (*committed).max(offset);
    }

    /// What the coordinator says is committed.
    pub(crate) fn check_committed(&mut self, group: &str, partition: &Partition, found: i64) {
        let acked = self.commits.get(&(group.to_owned(), partition.clone())).copied();
        if let Some(acked) = acked
            && found < acked
        {
            self.complain(format!("{group} committed {acked} of {partition:?}, now it is {found}"));
        }
    }

    pub(crate) fn committed(&self) -> Vec<(String, Partition, i64)> {
        let list = self.commits.iter();
        list.map(|((group, partition), offset)| (group.clone(), partition.clone(), *offset))
            .collect()
    }

    /// The partition of the groups' commits was damaged, and that accepted: nobody is to rely on
    /// what it held.
    pub(crate) fn forget_groups(&mut self) {
        self.commits.clear();
        self.owners.clear();
    }

    /// A read of damaged offsets was refused, as it has to be: gives where to go on, if they are.
    pub(crate) fn pass_damage(&mut self, partition: &Partition, offset: i64) -> Option<i64> {
        let end = self.losses.end_of_damage(partition, offset)?;
        self.counts.damaged_reads += 1;
        Some(end)
    }

    /// A member of a generation reads a partition.
    pub(crate) fn note_owner(&mut self, generation: i32, partition: &Partition, member: &str) {
        let key = (generation, partition.clone());
        let owner = self.owners.entry(key).or_insert_with(|| member.to_owned());
        if owner != member {
            let owner = owner.clone();
            self.complain(format!(
                "{partition:?} belongs to {owner} and to {member} in generation {generation}"
            ));
        }
    }

    /// Compares the whole log of a partition, as read at the end, with all that was said of it.
    pub(crate) fn check_log(&mut self, partition: &Partition, log: &LogRead, power: Power) {
        self.check_holes(partition, log);
        let LogRead { end, records, .. } = log;
        let end = *end;
        for (offset, value) in records {
            self.note_seen(partition, *offset, value);
        }
        if let Some((offset, value)) =
            self.seen.get(partition).and_then(|seen| seen.range(end..).next())
        {
            let complaint = format!("{value} was read from {partition:?} at {offset} and vanished");
            self.complain(complaint);
        }
        self.check_acked(partition, records, power);
        self.check_order(partition, records);
    }

    /// Every offset has a record, was refused for damage, or was given up.
    fn check_holes(&mut self, partition: &Partition, log: &LogRead) {
        let mut expected = 0;
        for offset in log.records.iter().map(|(offset, _)| *offset).chain([log.end]) {
            let refused = log.refused.iter().find(|refused| refused.start == expected);
            let after = refused.map_or(expected, |refused| refused.end);
            if after != offset && !self.losses.is_given_up(partition, after..offset) {
                self.complain(format!("{partition:?}: offset {offset} where {after} belongs"));
                return;
            }
            expected = offset + 1;
        }
    }

    fn check_acked(&mut self, partition: &Partition, log: &[(i64, String)], power: Power) {
        let at: BTreeMap<i64, &str> = log.iter().map(|(at, value)| (*at, value.as_str())).collect();
        let mut complaints = Vec::new();
        for (value, sent) in self.sent.iter().filter(|(_, sent)| sent.partition == *partition) {
            let promised = match sent.promise {
                Promise::ExactlyOnce | Promise::AtLeastOnce => true,
                Promise::Written => power == Power::Kept,
                Promise::Nothing => false,
            };
            let Some(acked) = sent.acked.filter(|_| promised) else { continue };
            let kept = match acked {
                Some(offset) => at.get(&offset).is_some_and(|there| *there == &**value),
                None => self.places.contains_key(value) || self.losses.is_damaged(partition),
            };
            let kept = kept || acked.is_some_and(|offset| self.losses.covers(partition, offset));
            if !kept {
                let there = acked.and_then(|offset| at.get(&offset));
                complaints.push(format!(
                    "{value} ({:?}) was acknowledged at {acked:?} of {partition:?}, where {there:?} is",
                    sent.promise
                ));
            }
        }
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }

    fn check_order(&mut self, partition: &Partition, log: &[(i64, String)]) {
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        let mut complaints = Vec::new();
        for (offset, value) in log {
            let Some(sent) = self.sent.get(value.as_str()) else { continue };
            if sent.promise != Promise::ExactlyOnce {
                continue;
            }
            if last.get(&sent.producer).is_some_and(|last| *last >= sent.number) {
                complaints.push(format!("{value} at {offset} of {partition:?} is out of order"));
            }
            last.insert(sent.producer, sent.number);
        }
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }
}

/// A whole log, as a reader found it.
#[derive(Debug, Default)]
pub(crate) struct LogRead {
    /// Behind the last offset.
    pub(crate) end: i64,
    pub(crate) records: Vec<(i64, String)>,
    /// What was refused for damage.
    pub(crate) refused: Vec<Range<i64>>,
}

/// Whether a run cut the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Kept,
    Cut,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        ("t".to_owned(), 0)
    }

    /// A history in which one producer sent a, b and c, and a and b were acknowledged at 0 and 1.
    fn history(promise: Promise) -> History {
        let mut history = History::default();
        for (name, number) in ["a", "b", "c"].into_iter().zip(0..) {
            let sent = Sent { partition: partition(), producer: 1, number, promise, acked: None };
            history.note_sent(&Rc::from(name), sent);
        }
        history.note_acked(&["a".into(), "b".into()], Some(0));
        history
    }

    fn read<'a>(records: impl Iterator<Item = (i64, &'a str)>) -> LogRead {
        let records: Vec<(i64, String)> =
            records.map(|(offset, value)| (offset, value.to_owned())).collect();
        let end = records.last().map_or(0, |(offset, _)| offset + 1);
        LogRead { end, records, refused: Vec::new() }
    }

    fn check(promise: Promise, log: &str, expected: Option<&str>) {
        let mut history = history(promise);
        let log = read((0..).zip(log.split(' ')));
        history.check_log(&partition(), &log, Power::Cut);
        match expected {
            None => assert_eq!(history.complaints, Vec::<String>::new(), "{log:?}"),
            Some(text) => assert!(
                history.complaints.iter().any(|complaint| complaint.contains(text)),
                "{log:?}: {:?}",
                history.complaints
            ),
        }
    }

    #[test]
    fn sound_logs_pass() {
        check(Promise::ExactlyOnce, "a b c", None);
        check(Promise::ExactlyOnce, "a b", None);
        check(Promise::AtLeastOnce, "a b b c", None);
        check(Promise::Written, "c", None);
    }

    #[test]
    fn every_anomaly_is_named() {
        check(Promise::ExactlyOnce, "a", Some("acknowledged"));
        check(Promise::AtLeastOnce, "a c b", Some("acknowledged"));
        check(Promise::ExactlyOnce, "a b a", Some("twice"));
        check(Promise::ExactlyOnce, "b a", Some("out of order"));
        check(Promise::ExactlyOnce, "a b x", Some("nobody sent"));
    }

    #[test]
    fn what_was_read_may_not_vanish_or_change() {
        let mut changed = history(Promise::AtLeastOnce);
        changed.note_seen(&partition(), 2, "c");
        changed.note_seen(&partition(), 2, "b");
        assert!(changed.complaints[0].contains("was c and is b"), "{:?}", changed.complaints);
        let mut vanished = history(Promise::AtLeastOnce);
        vanished.note_seen(&partition(), 2, "c");
        vanished.check_log(&partition(), &read((0..).zip(["a", "b"])), Power::Cut);
        assert!(vanished.complaints[0].contains("vanished"), "{:?}", vanished.complaints);
    }

    #[test]
    fn a_hole_in_the_offsets_is_named() {
        let mut history = history(Promise::ExactlyOnce);
        let log = read([(0, "a"), (1, "b"), (3, "c")].into_iter());
        history.check_log(&partition(), &log, Power::Cut);
        assert!(history.complaints[0].contains("belongs"), "{:?}", history.complaints);
    }

    #[test]
    fn damage_excuses_what_it_hit_and_nothing_else() {
        // b at 1 is damaged: refused, given up, passed over in silence, or more than it is missing.
        let cases = [
            ("a c", true, false, true),
            ("a c", false, true, true),
            ("a b c", false, false, true),
            ("a c", false, false, false),
            ("c", true, false, false),
        ];
        for (log, is_refused, is_given_up, is_sound) in cases {
            let mut history = history(Promise::ExactlyOnce);
            history.losses.note(&partition(), 1..2, false);
            if is_given_up {
                history.losses.accept(&partition(), &(1..2));
            }
            let refused = Some(1..2).filter(|_| is_refused).into_iter().collect();
            let place = |value: &str| i64::from(value.as_bytes()[0] - b'a');
            let log = read(log.split(' ').map(|value| (place(value), value)));
            let log = LogRead { refused, ..log };
            history.check_log(&partition(), &log, Power::Cut);
            assert_eq!(history.complaints.is_empty(), is_sound, "{log:?} {:?}", history.complaints);
        }
    }

    #[test]
    fn nothing_is_taken_behind_a_damaged_end() {
        let mut history = history(Promise::ExactlyOnce);
        history.losses.note(&partition(), 1..2, true);
        history.note_acked(&["c".into()], Some(2));
        assert!(history.complaints[0].contains("damaged end"), "{:?}", history.complaints);
    }

    #[test]
    fn a_commit_may_not_go_back_and_a_partition_has_one_owner() {
        let mut history = History::default();
        history.note_commit("g", &partition(), 5);
        history.check_committed("g", &partition(), 5);
        history.note_owner(1, &partition(), "m1");
        history.note_owner(2, &partition(), "m2");
        assert_eq!(history.complaints, Vec::<String>::new());
        history.check_committed("g", &partition(), 4);
        history.note_owner(2, &partition(), "m1");
        assert_eq!(history.complaints.len(), 2);
    }
}
