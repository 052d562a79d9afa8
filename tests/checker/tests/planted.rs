//! Each anomaly, planted in a sound history: it is found, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

use checker::{
    anomaly::Anomaly,
    check,
    history::{
        Action, Commit, Copies, Ends, Identity, Kind, Membership, Mop, Op, Polled, Read, Reads,
        Recorder, Sends, Sent, Setup, Transaction, Which,
    },
};

/// A history as it is made up, each operation after the one before.
struct Story {
    recorder: Recorder,
    now: u64,
    /// What the final phase reads; each partition's end.
    left: Reads,
    /// What another reader of the final phase gets.
    other: Option<Reads>,
}

const SECOND: u64 = 1_000_000_000;

fn sent(partition: &str, value: &str, offset: i64) -> Sent {
    let (partition, value) = (partition.to_owned(), Some(value.to_owned()));
    Sent { partition, value, offset: (offset >= 0).then_some(offset), ..Sent::default() }
}

fn reads(partition: &str, records: &[(i64, &str)]) -> Reads {
    let read = |(offset, value): &(i64, &str)| Read {
        offset: *offset,
        value: Some((*value).to_owned()),
        key: None,
    };
    [(partition.to_owned(), records.iter().map(read).collect())].into()
}

fn identity(epoch: i16) -> Identity {
    Identity { transactional_id: Some("t".to_owned()), id: 7, epoch }
}

fn member(generation: i32, member: &str, partitions: &[&str]) -> Membership {
    let partitions = partitions.iter().map(|one| (*one).to_owned()).collect();
    Membership { group: "g".to_owned(), generation, member: member.to_owned(), partitions }
}

fn commit(generation: i32, offset: i64, word: &str) -> Commit {
    let offsets = [("a-0".to_owned(), (offset, word.to_owned()))].into();
    Commit { group: "g".to_owned(), generation: Some(generation), offsets }
}

fn ends(which: Which, partition: &str, offset: i64) -> Action {
    Action::ListOffsets(Ends { which, offsets: [(partition.to_owned(), offset)].into() })
}

impl Story {
    /// Two records in `a-0`, a transaction in `a-0` and `b-0`, one that was aborted, a keyed one in
    /// `c-0`, a copy of `in-0` in `out-0`, a group that has read and committed.
    fn new() -> Story {
        let mut story =
            Story { recorder: Recorder::default(), now: 0, left: Reads::new(), other: None };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let copies =
            Copies { group: "copies".to_owned(), from: names(&["in-0"]), to: names(&["out-0"]) };
        story.event(Action::Setup(Setup {
            idempotent: true,
            partitions: names(&["a-0"]),
            groups: names(&["g"]),
            compacted: names(&["c-0"]),
            delete_retention_ms: 1_000_000,
            copies: vec![copies],
        }));
        story.call(1, Kind::Ok, Action::InitPid(identity(0)));
        story.send(2, Kind::Ok, vec![sent("a-0", "a0", 0)]);
        story.send(2, Kind::Ok, vec![sent("a-0", "a1", 1)]);
        story.txn(1, Kind::Ok, 0, &[("a-0", "a2", 2), ("b-0", "b0", 0)]);
        story.txn(1, Kind::Fail, 1, &[("a-0", "aborted", 4), ("b-0", "aborted too", 2)]);
        story.send(2, Kind::Ok, vec![sent("a-0", "a6", 6)]);
        let keyed =
            |value, offset| Sent { key: Some("k".to_owned()), ..sent("c-0", value, offset) };
        story.send(2, Kind::Ok, vec![keyed("c0", 0)]);
        story.send(2, Kind::Ok, vec![keyed("c1", 1)]);
        story.send(2, Kind::Ok, vec![sent("in-0", "i0", 0)]);
        story.copy("i0", "o0", 0, 1);
        story.call(3, Kind::Ok, Action::Assign([("a-0".to_owned(), 0)].into()));
        story.poll(3, reads("a-0", &[(0, "a0"), (1, "a1")]));
        story.poll(3, reads("a-0", &[(2, "a2"), (6, "a6")]));
        story.call(4, Kind::Ok, Action::Subscribe(member(1, "m", &["a-0"])));
        story.call(4, Kind::Ok, Action::Commit(commit(1, 3, "w0")));
        story.call(4, Kind::Ok, Action::OffsetFetch(commit(1, 3, "w0")));
        story.left = reads("a-0", &[(0, "a0"), (1, "a1"), (2, "a2"), (6, "a6")]);
        story.left.extend(reads("b-0", &[(0, "b0")]));
        story.left.extend(reads("in-0", &[(0, "i0")]));
        story.left.extend(reads("out-0", &[(0, "o0")]));
        story.left.extend(reads("c-0", &[(1, "c1")]));
        story
    }

    fn note(&mut self, process: u64, kind: Kind, action: Action) {
        self.now += 10;
        self.recorder.note(process, self.now, kind, action);
    }

    fn event(&mut self, action: Action) {
        self.note(0, Kind::Info, action);
    }

    fn call(&mut self, process: u64, kind: Kind, action: Action) {
        self.note(process, Kind::Invoke, action.clone());
        self.note(process, kind, action);
    }

    fn send(&mut self, process: u64, kind: Kind, sent: Vec<Sent>) {
        self.call(process, kind, Action::Send(Sends { producer: None, sent }));
    }

    fn poll(&mut self, process: u64, reads: Reads) {
        self.call(process, Kind::Ok, Action::Poll(Polled { reads, member: None }));
    }

    fn txn(&mut self, process: u64, kind: Kind, epoch: i16, sends: &[(&str, &str, i64)]) {
        let mops = sends
            .iter()
            .map(|(partition, value, offset)| Mop::Send(sent(partition, value, *offset)));
        self.transaction(process, kind, epoch, mops.collect());
    }

    fn transaction(&mut self, process: u64, kind: Kind, epoch: i16, mops: Vec<Mop>) {
        self.now += 10;
        let asked = Some(self.now);
        self.call(
            process,
            kind,
            Action::Txn(Transaction {
                producer: Some(identity(epoch)),
                mops,
                offsets: None,
                first_asked_ns: asked,
                last_asked_ns: asked,
            }),
        );
    }

    fn copy(&mut self, of: &str, value: &str, offset: i64, position: i64) {
        let sent = Sent { copy_of: Some(of.to_owned()), ..sent("out-0", value, offset) };
        let offsets = [("in-0".to_owned(), (position, format!("copy {position}")))].into();
        let commit = Commit { group: "copies".to_owned(), generation: None, offsets };
        let transaction = Transaction {
            mops: vec![Mop::Send(sent)],
            offsets: Some(commit),
            ..Default::default()
        };
        self.call(5, Kind::Ok, Action::Txn(transaction));
    }

    /// The heal and the final phase.
    fn finish(mut self, position: i64) -> Vec<Op> {
        self.event(Action::Nemesis("heal".to_owned()));
        self.call(4, Kind::Ok, Action::Subscribe(member(9, "m", &["a-0"])));
        self.send(2, Kind::Ok, vec![sent("a-0", "last", 1000)]);
        self.left.get_mut("a-0").unwrap().push(reads("a-0", &[(1000, "last")])["a-0"][0].clone());
        self.event(Action::Final);
        let offsets = [("in-0".to_owned(), (position, format!("copy {position}")))].into();
        let commit = Commit { group: "copies".to_owned(), generation: None, offsets };
        self.call(6, Kind::Ok, Action::OffsetFetch(commit));
        self.call(6, Kind::Ok, Action::Assign([("a-0".to_owned(), 0)].into()));
        let left = self.left.clone();
        self.poll(6, left);
        if let Some(other) = self.other.take() {
            self.poll(7, other);
        }
        self.recorder.ops().to_vec()
    }

    /// A record that the final phase reads.
    fn leave(&mut self, partition: &str, offset: i64, value: &str) {
        let record = reads(partition, &[(offset, value)])[partition][0].clone();
        let list = self.left.entry(partition.to_owned()).or_default();
        list.push(record);
        list.sort_by_key(|read| read.offset);
    }

    /// A record that the final phase does not read.
    fn lose(&mut self, partition: &str, offset: i64) {
        self.left.get_mut(partition).unwrap().retain(|read| read.offset != offset);
    }
}

fn found(ops: &[Op]) -> Vec<Anomaly> {
    check(ops).unwrap().findings.into_keys().collect()
}

fn plant(anomaly: Anomaly, plant: impl FnOnce(&mut Story)) {
    let mut story = Story::new();
    plant(&mut story);
    let ops = story.finish(1);
    let report = check(&ops).unwrap();
    assert_eq!(found(&ops), [anomaly], "{report}");
    let finding = &report.findings[&anomaly];
    assert!(finding.ops.iter().all(|index| ops.iter().any(|op| op.index == *index)), "{report}");
}

#[test]
fn a_sound_history_has_no_anomaly() {
    assert_eq!(found(&Story::new().finish(1)), []);
}

#[test]
fn two_values_at_one_offset_are_found() {
    plant(Anomaly::InconsistentOffsets, |story| {
        story.send(2, Kind::Info, vec![sent("a-0", "other", -1)]);
        story.other = Some(reads("a-0", &[(6, "other")]));
    });
}

#[test]
fn a_value_at_two_offsets_is_found() {
    plant(Anomaly::Duplicate, |story| {
        story.leave("a-0", 8, "a6");
        story.poll(3, reads("a-0", &[(8, "a6")]));
    });
    // One without an offset that was told.
    plant(Anomaly::Duplicate, |story| {
        story.send(2, Kind::Info, vec![sent("b-0", "twice", -1)]);
        story.leave("b-0", 4, "twice");
        story.leave("b-0", 5, "twice");
    });
}

#[test]
fn what_readers_passed_over_is_found() {
    plant(Anomaly::LostWrite, |story| story.send(2, Kind::Ok, vec![sent("a-0", "lost", 7)]));
}

#[test]
fn what_is_not_there_at_the_end_is_found() {
    plant(Anomaly::Unseen, |story| story.send(2, Kind::Ok, vec![sent("b-0", "lost", 7)]));
    plant(Anomaly::Unseen, |story| story.send(2, Kind::Ok, vec![sent("b-0", "lost", -1)]));
    plant(Anomaly::Unseen, |story| story.send(2, Kind::Ok, vec![sent("b-1", "lost", 0)]));
}

#[test]
fn a_read_of_what_was_aborted_is_found() {
    plant(Anomaly::AbortedRead, |story| story.leave("a-0", 4, "aborted"));
    plant(Anomaly::AbortedRead, |story| {
        story.send(2, Kind::Fail, vec![sent("b-0", "refused", -1)]);
        story.leave("b-0", 9, "refused");
    });
}

#[test]
fn a_read_of_ones_own_transaction_is_found() {
    plant(Anomaly::PrecommittedRead, |story| {
        let own = Mop::Poll(reads("b-0", &[(9, "own")]));
        story.transaction(1, Kind::Ok, 2, vec![Mop::Send(sent("b-0", "own", 9)), own]);
        story.leave("b-0", 9, "own");
    });
}

#[test]
fn a_read_before_the_commit_is_found() {
    plant(Anomaly::DirtyRead, |story| {
        let mut transaction = Transaction {
            producer: Some(identity(2)),
            mops: vec![Mop::Send(sent("b-0", "early", 9))],
            ..Transaction::default()
        };
        story.note(1, Kind::Invoke, Action::Txn(transaction.clone()));
        story.poll(8, reads("b-0", &[(9, "early")]));
        transaction.first_asked_ns = Some(story.now + 5);
        story.note(1, Kind::Ok, Action::Txn(transaction));
        story.leave("b-0", 9, "early");
    });
}

#[test]
fn a_read_of_what_nobody_sent_is_found() {
    plant(Anomaly::PhantomRead, |story| story.leave("b-0", 9, "nobody's"));
    plant(Anomaly::PhantomRead, |story| {
        story.send(2, Kind::Info, vec![sent("a-0", "elsewhere", -1)]);
        story.leave("b-0", 9, "elsewhere");
        // It is its own partition's, too.
        story.leave("a-0", 9, "elsewhere");
    });
}

#[test]
fn records_that_a_poll_passed_over_are_found() {
    plant(Anomaly::IntPollSkip, |story| story.poll(8, reads("a-0", &[(0, "a0"), (2, "a2")])));
    plant(Anomaly::PollSkip, |story| {
        story.call(8, Kind::Ok, Action::Assign([("a-0".to_owned(), 0)].into()));
        story.poll(8, reads("a-0", &[(0, "a0")]));
        story.poll(8, reads("a-0", &[(2, "a2")]));
    });
    // The first poll begins where it was assigned.
    plant(Anomaly::PollSkip, |story| {
        story.call(8, Kind::Ok, Action::Assign([("a-0".to_owned(), 1)].into()));
        story.poll(8, reads("a-0", &[(2, "a2")]));
    });
}

#[test]
fn polls_that_go_back_are_found() {
    plant(Anomaly::IntNonmonotonicPoll, |story| {
        story.poll(8, reads("a-0", &[(1, "a1"), (0, "a0")]));
    });
    plant(Anomaly::NonmonotonicPoll, |story| {
        story.poll(3, reads("a-0", &[(2, "a2"), (6, "a6")]));
    });
}

#[test]
fn a_member_may_read_again() {
    let mut story = Story::new();
    story.poll(4, reads("a-0", &[(0, "a0"), (1, "a1")]));
    story.poll(4, reads("a-0", &[(1, "a1"), (2, "a2")]));
    assert_eq!(found(&story.finish(1)), []);
}

#[test]
fn sends_in_another_order_are_found() {
    plant(Anomaly::IntNonmonotonicSend, |story| {
        story.send(8, Kind::Ok, vec![sent("b-0", "later", 9), sent("b-0", "earlier", 8)]);
        story.leave("b-0", 8, "earlier");
        story.leave("b-0", 9, "later");
    });
    plant(Anomaly::NonmonotonicSend, |story| {
        story.send(8, Kind::Ok, vec![sent("b-0", "later", 9)]);
        story.send(8, Kind::Ok, vec![sent("b-0", "earlier", 8)]);
        story.leave("b-0", 8, "earlier");
        story.leave("b-0", 9, "later");
    });
}

#[test]
fn transactions_that_have_read_each_other_are_found() {
    plant(Anomaly::CircularReads, |story| {
        for (process, own, other) in [(8, 8, 9), (9, 9, 8)] {
            let value = |offset| if offset == 8 { "eight" } else { "nine" };
            let mops = vec![
                Mop::Poll(reads("b-0", &[(other, value(other))])),
                Mop::Send(sent("b-0", value(own), own)),
            ];
            let transaction = Transaction { mops, ..Transaction::default() };
            story.note(process, Kind::Invoke, Action::Txn(transaction.clone()));
            story.note(process, Kind::Ok, Action::Txn(transaction));
        }
        story.leave("b-0", 8, "eight");
        story.leave("b-0", 9, "nine");
    });
}

#[test]
fn a_transaction_that_is_there_in_part_is_found() {
    for kind in [Kind::Ok, Kind::Info] {
        plant(Anomaly::TornTransaction, |story| {
            story.txn(1, kind, 2, &[("a-0", "there", 8), ("b-0", "not there", 9)]);
            story.leave("a-0", 8, "there");
        });
    }
}

#[test]
fn an_unanswered_transaction_may_be_there_or_not() {
    let mut story = Story::new();
    story.txn(1, Kind::Info, 2, &[("a-0", "there", 8), ("b-0", "there too", 9)]);
    story.leave("a-0", 8, "there");
    story.leave("b-0", 9, "there too");
    story.txn(1, Kind::Info, 2, &[("a-0", "not there", 10), ("b-0", "nor there", 11)]);
    assert_eq!(found(&story.finish(1)), []);
}

#[test]
fn a_record_at_another_offset_than_told_is_found() {
    plant(Anomaly::AckedOffset, |story| {
        story.send(8, Kind::Ok, vec![sent("b-0", "moved", 8)]);
        story.leave("b-0", 9, "moved");
    });
}

#[test]
fn a_read_that_is_gone_is_found() {
    plant(Anomaly::VanishedRead, |story| story.lose("a-0", 6));
}

#[test]
fn a_producer_that_was_replaced_and_served_is_found() {
    let takeover = |story: &mut Story| story.call(8, Kind::Ok, Action::InitPid(identity(3)));
    plant(Anomaly::Zombie, |story| {
        takeover(story);
        story.txn(1, Kind::Ok, 2, &[("b-0", "late", 9)]);
        story.leave("b-0", 9, "late");
    });
    plant(Anomaly::Zombie, |story| {
        takeover(story);
        let producer = Some(identity(2));
        let sent = vec![sent("b-0", "late", -1)];
        story.call(1, Kind::Ok, Action::Send(Sends { producer, sent }));
        story.leave("b-0", 9, "late");
    });
    // What was asked for before is not late, nor is what the new one does.
    let mut story = Story::new();
    let asked = Some(story.now);
    takeover(&mut story);
    for (epoch, last_asked_ns) in [(2, asked), (4, None)] {
        let producer = Some(identity(epoch));
        let transaction = Transaction { producer, last_asked_ns, ..Transaction::default() };
        story.call(1, Kind::Ok, Action::Txn(transaction));
    }
    assert_eq!(found(&story.finish(1)), []);
}

#[test]
fn a_commit_of_a_generation_that_is_over_is_found() {
    plant(Anomaly::ZombieCommit, |story| {
        story.call(8, Kind::Ok, Action::Subscribe(member(2, "n", &["a-0"])));
        story.call(4, Kind::Ok, Action::Commit(commit(1, 4, "late")));
    });
}

#[test]
fn offsets_that_are_no_register_are_found() {
    let read = |story: &mut Story, offset, word| {
        story.call(8, Kind::Ok, Action::OffsetFetch(commit(1, offset, word)));
    };
    // The one before is read again, the one that came next is not there, nobody wrote it.
    plant(Anomaly::OffsetRegister, |story| {
        story.call(4, Kind::Ok, Action::Commit(commit(1, 5, "w1")));
        read(story, 3, "w0");
    });
    plant(Anomaly::OffsetRegister, |story| {
        story.call(4, Kind::Info, Action::Commit(commit(1, 5, "w1")));
        for word in ["w1", "w0"] {
            read(story, 5, word);
        }
    });
    plant(Anomaly::OffsetRegister, |story| read(story, -1, ""));
    plant(Anomaly::OffsetRegister, |story| read(story, 4, "nobody's"));
    // Without an answer it may have happened, or not.
    for seen in ["w0", "w1"] {
        let mut story = Story::new();
        story.call(4, Kind::Info, Action::Commit(commit(1, 5, "w1")));
        read(&mut story, 5, seen);
        assert_eq!(found(&story.finish(1)), []);
    }
}

#[test]
fn two_owners_of_a_partition_are_found() {
    plant(Anomaly::DoubleOwnership, |story| {
        story.call(8, Kind::Ok, Action::Subscribe(member(1, "n", &["a-0"])));
    });
    plant(Anomaly::DoubleOwnership, |story| {
        story.call(8, Kind::Ok, Action::Subscribe(member(1, "n", &["b-0"])));
        let polled =
            Polled { reads: reads("a-0", &[(0, "a0")]), member: Some(member(1, "n", &[])) };
        story.call(8, Kind::Ok, Action::Poll(polled));
    });
}

#[test]
fn copies_that_are_not_exact_are_found() {
    // Copied again, never, without its offset, of nothing.
    plant(Anomaly::Copy, |story| {
        story.copy("i0", "again", 3, 1);
        story.leave("out-0", 3, "again");
    });
    let mut story = Story::new();
    story.send(2, Kind::Ok, vec![sent("in-0", "i1", 1)]);
    story.leave("in-0", 1, "i1");
    let ops = story.finish(2);
    assert!(found(&ops).contains(&Anomaly::Copy));
    plant(Anomaly::Copy, |story| {
        story.send(2, Kind::Ok, vec![sent("in-0", "i1", 1)]);
        story.leave("in-0", 1, "i1");
        story.copy("i1", "o1", 3, 1);
        story.leave("out-0", 3, "o1");
    });
    plant(Anomaly::Copy, |story| {
        story.copy("nothing", "o1", 3, 1);
        story.leave("out-0", 3, "o1");
    });
}

#[test]
fn ends_that_go_back_are_found() {
    for (which, offset) in [(Which::End, 6), (Which::Stable, 6)] {
        plant(Anomaly::EndsRegress, |story| story.call(8, Kind::Ok, ends(which, "a-0", offset)));
    }
    plant(Anomaly::EndsRegress, |story| {
        story.call(8, Kind::Ok, ends(Which::Start, "a-0", 1));
        story.call(8, Kind::Ok, ends(Which::Start, "a-0", 0));
    });
}

#[test]
fn a_latest_value_that_did_not_survive_is_found() {
    plant(Anomaly::Compaction, |story| story.lose("c-0", 1));
    plant(Anomaly::Compaction, |story| {
        story.lose("c-0", 1);
        story.leave("c-0", 0, "c0");
    });
    let tombstone = Sent {
        partition: "c-0".to_owned(),
        key: Some("k".to_owned()),
        offset: Some(2),
        ..Sent::default()
    };
    // A tombstone that went before its time, and one whose time was over.
    plant(Anomaly::Compaction, |story| {
        story.send(2, Kind::Ok, vec![tombstone.clone()]);
        story.lose("c-0", 1);
    });
    let mut story = Story::new();
    story.send(2, Kind::Ok, vec![tombstone]);
    story.lose("c-0", 1);
    story.now += 1000 * SECOND;
    assert_eq!(found(&story.finish(1)), []);
}

#[test]
fn what_does_not_work_after_the_heal_is_found() {
    let mut ops = Story::new().finish(1);
    let healed = ops.iter().position(|op| op.action == Action::Nemesis("heal".to_owned())).unwrap();
    for op in &mut ops[healed + 1..] {
        op.time_ns += 31 * SECOND;
    }
    assert_eq!(found(&ops), [Anomaly::Liveness]);
}

#[test]
fn a_file_that_is_no_history_is_refused() {
    assert!(check(&[]).is_err());
    let mut ops = Story::new().finish(1);
    ops.swap(3, 4);
    assert!(check(&ops).is_err());
    let mut ops = Story::new().finish(1);
    ops.remove(1);
    assert!(check(&ops).is_err());
}
