//! Each rule with a log that breaks it, and the logs that break none.

use super::*;
use crate::kafka::TopicPartition;

const IDEMPOTENT: Kind = Kind::Idempotent { producer_id: 5, producer_epoch: 0 };

/// Two producers on one partition: lane 0 idempotent, lane 1 plain.
/// Lane 0: batch of 2 at 0, batch of 1 at 3, batch of 1 unknown. Lane 1: 1 at 2, 2 unknown.
fn history() -> History {
    let partition = TopicPartition { topic: "a".into(), partition: 0 };
    let mut history = History::new(1, vec![partition], &[IDEMPOTENT, Kind::Plain]);
    for (lane, records, state) in [
        (0, 2, State::At(0)),
        (1, 1, State::At(2)),
        (0, 1, State::At(3)),
        (0, 1, State::Unknown),
        (1, 2, State::Unknown),
    ] {
        let batch = history.send(lane, records);
        history.lanes[lane].batches[batch].state = state;
    }
    history
}

/// A log from (lane, count) pairs, offsets counted from 0.
fn log(records: &[(usize, u32)]) -> Vec<Entry> {
    let history = history();
    let entry = |(offset, (lane, count)): (i64, &(usize, u32))| Entry {
        offset,
        id: Some(history.id(*lane, *count)),
    };
    (0..).zip(records).map(entry).collect()
}

const KEPT: &[(usize, u32)] = &[(0, 0), (0, 1), (1, 0), (0, 2)];

fn check(records: &[(usize, u32)]) -> Vec<String> {
    judge(&history(), &history(), &[log(records)]).broken
}

fn with(more: &[(usize, u32)]) -> Vec<(usize, u32)> {
    KEPT.iter().chain(more).copied().collect()
}

#[test]
fn unacknowledged_batches_may_be_there_or_not() {
    for more in [&[][..], &[(0, 3)], &[(1, 1), (1, 2)], &[(0, 3), (1, 1), (1, 2)]] {
        assert_eq!(check(&with(more)), Vec::<String>::new(), "{more:?}");
    }
}

#[test]
fn each_broken_promise_is_named() {
    let cases: &[(&str, Vec<(usize, u32)>)] = &[
        ("Lost", KEPT[..3].to_vec()),
        ("Lost", Vec::new()),
        ("Twice", with(&[(0, 2)])),
        ("Twice", with(&[(1, 0)])),
        ("Moved", vec![(1, 0), (0, 0), (0, 1), (0, 2)]),
        ("OutOfOrder", vec![(0, 2), (0, 0), (0, 1), (1, 0)]),
        ("Hole", vec![(1, 0), (0, 2)]),
        ("TornBatch", vec![(0, 0), (1, 0), (0, 2)]),
        ("TornBatch", with(&[(1, 1)])),
        ("TornBatch", with(&[(1, 2)])),
        ("NeverSent", with(&[(0, 4)])),
        ("NeverSent", with(&[(7, 0)])),
    ];
    for (name, records) in cases {
        let broken = check(records);
        assert!(broken.iter().any(|one| one.contains(name)), "{name}: {records:?}: {broken:?}");
    }
}

#[test]
fn garbage_and_gaps_are_named() {
    let mut garbage = log(&with(&[(0, 3)]));
    garbage[4].id = None;
    let mut gap = log(&with(&[(0, 3)]));
    gap[4].offset = 5;
    for (name, log) in [("Garbage", garbage), ("Gap", gap)] {
        let broken = judge(&history(), &history(), &[log]).broken;
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert!(broken[0].contains(name), "{broken:?}");
    }
}

#[test]
fn what_a_consumer_saw_has_to_stay() {
    let mut promised = history();
    let id = promised.id(0, 3);
    promised.seen[0].push(crate::history::Seen { offset: 4, id });
    let good = judge(&promised, &promised, &[log(&with(&[(0, 3)]))]).broken;
    assert_eq!(good, Vec::<String>::new());
    let bad = judge(&promised, &promised, &[log(KEPT)]).broken;
    assert!(bad[0].contains("SeenThenLost"), "{bad:?}");
}

#[test]
fn what_was_acknowledged_after_the_fault_may_be_missing_but_not_move() {
    let promised = history();
    let mut told = history();
    told.lanes[0].batches[2].state = State::At(4);
    assert!(judge(&promised, &told, &[log(KEPT)]).broken.is_empty());
    let moved = judge(&promised, &told, &[log(&with(&[(1, 1), (1, 2), (0, 3)]))]).broken;
    assert!(moved[0].contains("Moved"), "{moved:?}");
}

#[test]
fn a_plain_batch_found_missing_must_stay_away() {
    let mut history = history();
    let found = judge(&history, &history, &[log(KEPT)]).found;
    settle(&mut history, &found);
    assert_eq!(history.lanes[1].batches[1].state, State::Absent);
    assert_eq!(history.lanes[0].batches[2].state, State::Unknown, "it is sent again");
    let broken = judge(&history, &history, &[log(&with(&[(1, 1), (1, 2)]))]).broken;
    assert!(broken[0].contains("CameBack"), "{broken:?}");
}
