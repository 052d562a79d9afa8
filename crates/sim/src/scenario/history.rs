//! What the clients did and saw, and what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
};

use runtime::Instant;

use super::{
    features::Role,
    keyed::{Keyed, Tombstones},
    losses::Losses,
    plan::Promise,
    tails::{LifeEnd, Tails},
};

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
    pub(crate) timestamp_ms: i64,
    /// In topics whose records have one.
    pub(crate) key: Option<Rc<str>>,
    pub(crate) is_tombstone: bool,
    /// It was acknowledged where a power cut may have taken it since.
    pub(crate) is_doubtful: bool,
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
    /// Times that a member of KIP-848's protocol joined its group.
    pub consumer_joins: u64,
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
    /// DeleteRecords that were acknowledged.
    pub deletions: u64,
    /// Logs that retention has shortened, as the last look found them.
    pub logs_retained: u64,
    /// Records that compaction took.
    pub records_compacted: u64,
    /// Acknowledged records that a power cut took where it may.
    pub records_taken: u64,
    /// Settings that were changed.
    pub settings_altered: u64,
    /// Jumps of the wall clock.
    pub clock_jumps: u64,
    /// Topics that were deleted and made again.
    pub recreations: u64,
    /// Transactions whose commit was acknowledged.
    pub transactions_committed: u64,
    /// Those whose abort was.
    pub transactions_aborted: u64,
    /// Those that somebody else ended who came with their id.
    pub transactions_taken_over: u64,
    /// Those that the coordinator aborted.
    pub transactions_timed_out: u64,
}

impl Counts {
    /// Grows when something is done that is done once: reading and committing go on for ever.
    pub(crate) fn progress(&self) -> u64 {
        self.acked_batches
            + self.identities_given_up
            + self.topic_changes
            + self.last_looks
            + self.transactions_committed
    }
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) sent: BTreeMap<Rc<str>, Sent>,
    seen: BTreeMap<Partition, BTreeMap<i64, Rc<str>>>,
    places: BTreeMap<Rc<str>, i64>,
    commits: BTreeMap<(String, Partition), i64>,
    owners: BTreeMap<(String, i32, Partition), String>,
    pub(crate) topics_there: BTreeMap<String, bool>,
    pub(crate) losses: Losses,
    /// What may become of the records of a topic; that of those not named: they stay.
    pub(crate) roles: BTreeMap<String, Role>,
    pub(crate) keyed: Keyed,
    pub(crate) tails: Tails,
    pub(crate) starts: BTreeMap<Partition, Start>,
    /// By topic and name.
    pub(crate) settings: BTreeMap<(String, String), String>,
    /// How far ahead the broker's wall clock has been.
    pub(crate) clock_ahead_ms: i64,
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

    pub(crate) fn role(&self, partition: &Partition) -> Role {
        self.roles.get(&partition.0).copied().unwrap_or(Role::Kept)
    }

    pub(crate) fn note_sent(&mut self, value: &Rc<str>, sent: Sent) {
        if let Some(key) = &sent.key {
            self.keyed.note_sent(&sent.partition, key, sent.is_tombstone);
        }
        let before = self.sent.insert(Rc::clone(value), sent);
        assert!(before.is_none(), "values are unique");
    }

    /// A batch of records was acknowledged.
    pub(crate) fn note_acked(
        &mut self,
        values: &[Rc<str>],
        base_offset: Option<i64>,
        (life, at): (u64, Instant),
    ) {
        self.counts.acked_batches += 1;
        for (value, index) in values.iter().zip(0..) {
            let offset = base_offset.map(|base| base + index);
            let sent = self.sent.get_mut(value).expect("sent before it is acknowledged");
            sent.acked = Some(offset);
            let partition = sent.partition.clone();
            if let (Some(offset), Some(key)) = (offset, &sent.key) {
                let record = (Rc::clone(value), Rc::clone(key), sent.is_tombstone);
                self.keyed.note_acked(&partition, offset, record);
            }
            let is_held_back = matches!(self.roles.get(&partition.0), Some(Role::HeldBack { .. }));
            if is_held_back {
                // The answer may be older than the power cut.
                sent.is_doubtful = offset.is_none() || life != self.tails.life;
                if let Some(offset) = offset.filter(|_| life == self.tails.life) {
                    self.tails.note_acked(&partition, offset, value, at);
                }
            }
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

    /// A member of a generation, or at an epoch, reads a partition.
    pub(crate) fn note_owner(
        &mut self,
        (group, generation): (&str, i32),
        partition: &Partition,
        member: &str,
    ) {
        let key = (group.to_owned(), generation, partition.clone());
        let owner = self.owners.entry(key).or_insert_with(|| member.to_owned());
        if owner != member {
            let owner = owner.clone();
            self.complain(format!(
                "{partition:?} belongs to {owner} and to {member} in generation {generation}"
            ));
        }
    }

    /// A life of the broker is over, and what it held back perhaps, too.
    pub(crate) fn end_life(&mut self, end: &LifeEnd) {
        let held_back = self.roles.iter().filter_map(|(topic, role)| match role {
            Role::HeldBack { flush_ms, .. } => Some(((topic.clone(), 0), *flush_ms)),
            Role::Kept | Role::Trimmed { .. } | Role::Compacted { .. } => None,
        });
        let doubtful = self.tails.end_life(end, &held_back.collect());
        for (partition, from, values) in doubtful {
            for value in values {
                self.sent.get_mut(&value).expect("it was sent").is_doubtful = true;
            }
            let seen = self.seen.get_mut(&partition).map(|seen| seen.split_off(&from));
            for value in seen.unwrap_or_default().values() {
                self.places.remove(value);
            }
        }
    }

    /// A reader passes over offsets: says what it had to be given, if anything.
    pub(crate) fn missed(&self, partition: &Partition, offsets: Range<i64>) -> Option<String> {
        if offsets.is_empty() {
            return None;
        }
        match self.role(partition) {
            Role::Compacted { delete_retention_ms } => {
                let lasts = delete_retention_ms > super::features::HOUR_MS;
                let tombstones = if lasts { Tombstones::Stay } else { Tombstones::MayGo };
                let (offset, value) = self.keyed.missed(partition, offsets, tombstones)?;
                Some(format!("{partition:?} {offset}: {value}, the last of its key, is not there"))
            }
            Role::Kept | Role::Trimmed { .. } | Role::HeldBack { .. } => {
                let is_given_up = self.losses.is_given_up(partition, offsets.clone());
                let Range { start, end } = offsets;
                (!is_given_up).then(|| format!("{partition:?}: offset {end} where {start} belongs"))
            }
        }
    }

    /// What a record was sent as; `None` for a tombstone whose answer has not come.
    pub(crate) fn identify(
        &mut self,
        partition: &Partition,
        offset: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<String> {
        let key = key.map(String::from_utf8_lossy);
        let Some(value) = value else {
            let known = self.keyed.tombstone(partition, offset, key.as_deref().unwrap_or_default());
            return match known {
                Ok(value) => value.map(|value| (*value).to_owned()),
                Err(()) => {
                    let complaint = format!("{partition:?} {offset}: a tombstone of {key:?}");
                    self.complain(complaint);
                    None
                }
            };
        };
        let value = String::from_utf8_lossy(value).into_owned();
        let sent = self.sent.get(value.as_str());
        if sent.is_some_and(|sent| sent.is_tombstone || sent.key.as_deref() != key.as_deref()) {
            self.complain(format!("{partition:?} {offset}: {value} has the key {key:?}"));
        }
        Some(value)
    }

    /// Compares the whole log of a partition, as read at the end, with all that was said of it.
    pub(crate) fn check_log(&mut self, partition: &Partition, log: &LogRead, power: Power) {
        self.check_start(partition, log);
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
        match self.role(partition) {
            Role::Compacted { .. } => self.check_keys(partition, records),
            Role::HeldBack { .. } => self.check_tail(partition, records),
            Role::Kept | Role::Trimmed { .. } => {}
        }
        if !matches!(self.role(partition), Role::Compacted { .. }) {
            self.check_acked(partition, log, power);
        }
        self.check_order(partition, records);
    }

    /// The log starts where it may: what was deleted stays so, and nothing else has gone but what
    /// retention may take.
    fn check_start(&mut self, partition: &Partition, log: &LogRead) {
        let Start { asked, acked } = self.starts.get(partition).copied().unwrap_or_default();
        let start = log.start;
        if start < acked {
            self.complain(format!("{partition:?} starts at {start}: deleted up to {acked}"));
        }
        if start <= asked {
            return;
        }
        let Role::Trimmed { retention_ms, retention_bytes } = self.role(partition) else {
            self.complain(format!("{partition:?} starts at {start}"));
            return;
        };
        self.counts.logs_retained += 1;
        if log.first_batch.is_some_and(|first| first != start) {
            self.complain(format!("{partition:?} starts at {start}, within a batch"));
        }
        if u64::try_from(retention_bytes).is_ok_and(|limit| log.bytes >= limit) {
            return;
        }
        let oldest = log.now_ms + self.clock_ahead_ms - retention_ms;
        let early = self.sent.iter().find(|(_, sent)| {
            let is_gone = sent.acked.flatten().is_some_and(|at| (asked..start).contains(&at));
            sent.partition == *partition
                && is_gone
                && (retention_ms < 0 || sent.timestamp_ms > oldest)
        });
        if let Some((value, _)) = early {
            let complaint = format!("{value} of {partition:?} has gone before its time");
            self.complain(complaint);
        }
    }

    fn check_keys(&mut self, partition: &Partition, log: &[(i64, String)]) {
        let key = |value: &str| self.sent.get(value).and_then(|sent| sent.key.clone());
        let last: BTreeMap<Rc<str>, i64> =
            log.iter().filter_map(|(offset, value)| Some((key(value)?, *offset))).collect();
        if let Some(key) = self.keyed.revived(partition, &last) {
            self.complain(format!("{partition:?}: an older record of {key} has come back"));
        }
        let there: BTreeSet<i64> = log.iter().map(|(offset, _)| *offset).collect();
        self.counts.records_compacted += self.keyed.gone(partition, &there);
    }

    fn check_tail(&mut self, partition: &Partition, log: &[(i64, String)]) {
        let log = log.iter().map(|(offset, value)| (*offset, value.as_str())).collect();
        if let Some(value) = self.tails.behind_a_hole(partition, &log) {
            self.complain(format!("{value} of {partition:?} outlived what was before it"));
        }
        self.counts.records_taken += self.tails.taken(partition, &log);
    }

    /// Every offset has a record, was refused for damage, or was given up.
    fn check_holes(&mut self, partition: &Partition, log: &LogRead) {
        let mut expected = log.start;
        for offset in log.records.iter().map(|(offset, _)| *offset).chain([log.end]) {
            let refused = log.refused.iter().find(|refused| refused.start == expected);
            let after = refused.map_or(expected, |refused| refused.end);
            let complaint = if after > offset {
                Some(format!("{partition:?}: offset {offset} where {after} belongs"))
            } else {
                self.missed(partition, after..offset)
            };
            if let Some(complaint) = complaint {
                self.complain(complaint);
                return;
            }
            expected = offset + 1;
        }
    }

    fn check_acked(&mut self, partition: &Partition, log: &LogRead, power: Power) {
        let start = log.start;
        let records = log.records.iter();
        let at: BTreeMap<i64, &str> = records.map(|(at, value)| (*at, value.as_str())).collect();
        let mut complaints = Vec::new();
        for (value, sent) in self.sent.iter().filter(|(_, sent)| sent.partition == *partition) {
            let promised = match sent.promise {
                Promise::ExactlyOnce | Promise::AtLeastOnce => true,
                Promise::Written => power == Power::Kept,
                Promise::Nothing => false,
            };
            let is_promised = promised && !sent.is_doubtful;
            let Some(acked) = sent.acked.filter(|_| is_promised) else { continue };
            let kept = match acked {
                Some(offset) => at.get(&offset).is_some_and(|there| *there == &**value),
                None => {
                    self.places.contains_key(value)
                        || self.losses.is_damaged(partition)
                        || start > 0
                }
            };
            let kept =
                kept || acked.is_some_and(|at| at < start || self.losses.covers(partition, at));
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

/// Up to where records were deleted by request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    /// Anybody asked for.
    pub(crate) asked: i64,
    /// It was acknowledged.
    pub(crate) acked: i64,
}

/// A whole log, as a reader found it.
#[derive(Debug, Default)]
pub(crate) struct LogRead {
    /// The first offset.
    pub(crate) start: i64,
    /// Where the first batch begins.
    pub(crate) first_batch: Option<i64>,
    /// Of all batches.
    pub(crate) bytes: u64,
    /// When it was read, by a clock that is right.
    pub(crate) now_ms: i64,
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

    const NOW: (u64, Instant) = (0, Instant(0));

    fn partition() -> Partition {
        ("t".to_owned(), 0)
    }

    /// A history in which one producer sent a, b and c, and a and b were acknowledged at 0 and 1.
    fn history(promise: Promise) -> History {
        let mut history = History::default();
        for (name, number) in ["a", "b", "c"].into_iter().zip(0..) {
            let sent = Sent {
                partition: partition(),
                producer: 1,
                number,
                promise,
                acked: None,
                timestamp_ms: 0,
                key: None,
                is_tombstone: false,
                is_doubtful: false,
            };
            history.note_sent(&Rc::from(name), sent);
        }
        history.note_acked(&["a".into(), "b".into()], Some(0), NOW);
        history
    }

    fn read<'a>(records: impl Iterator<Item = (i64, &'a str)>) -> LogRead {
        let records: Vec<(i64, String)> =
            records.map(|(offset, value)| (offset, value.to_owned())).collect();
        let end = records.last().map_or(0, |(offset, _)| offset + 1);
        LogRead { end, records, ..LogRead::default() }
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
        history.note_acked(&["c".into()], Some(2), NOW);
        assert!(history.complaints[0].contains("damaged end"), "{:?}", history.complaints);
    }

    #[test]
    fn a_commit_may_not_go_back_and_a_partition_has_one_owner() {
        let mut history = History::default();
        history.note_commit("g", &partition(), 5);
        history.check_committed("g", &partition(), 5);
        history.note_owner(("g", 1), &partition(), "m1");
        history.note_owner(("h", 1), &partition(), "m2");
        history.note_owner(("g", 2), &partition(), "m2");
        assert_eq!(history.complaints, Vec::<String>::new());
        history.check_committed("g", &partition(), 4);
        history.note_owner(("g", 2), &partition(), "m1");
        assert_eq!(history.complaints.len(), 2);
    }
}
