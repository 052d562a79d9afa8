//! Sound histories, made by clients of a broker without faults: there is nothing to find.

#![expect(clippy::wildcard_enum_match_arm, reason = "each client does few of all operations")]

mod broker;
mod clients;

use std::time::Instant;

use checker::history::Kind;
use checker::{check, history};

#[test]
fn no_alarm_in_a_thousand_sound_histories() {
    let mut counts = [0; 3];
    for seed in 0..1000 {
        let ops = clients::history(seed, 600);
        let report = check(&ops).unwrap();
        assert!(report.is_clean(), "seed {seed}: {report}");
        for (count, kind) in counts.iter_mut().zip([Kind::Ok, Kind::Fail, Kind::Info]) {
            *count += report.count("txn", kind);
        }
    }
    eprintln!("transactions: {counts:?} committed, aborted, unknown");
    assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
}

#[test]
fn a_million_operations_are_judged() {
    let ops = clients::history(7, 1_000_000);
    let mut bytes = Vec::new();
    history::write(&mut bytes, &ops).unwrap();
    let started = Instant::now();
    let read = history::read(&bytes[..]).unwrap();
    let read_in = started.elapsed();
    let report = check(&read).unwrap();
    let (count, all) = (read.len(), started.elapsed());
    eprintln!(
        "{count} operations, {} MB: read in {read_in:.1?}, in all {all:.1?}",
        bytes.len() >> 20
    );
    assert!(report.is_clean(), "{report}");
}
