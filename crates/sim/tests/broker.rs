//! Whole brokers under a few seeds; `cargo xtask sim` runs many more.

use sim::scenario::{self, Options};

#[test]
fn acknowledged_records_survive_every_crash() {
    for (seed, shards) in [(1, 1), (2, 4)] {
        let outcome = scenario::run(seed, Options { shards: Some(shards), ..Options::default() });
        assert_eq!(outcome.complaints, Vec::<String>::new(), "seed {seed}");
        assert!(outcome.counts.acked_batches > 500, "{:?}", outcome.counts);
    }
}

#[test]
fn a_seed_of_a_broker_gives_the_same_run_twice() {
    let run = || scenario::run(3, Options::default());
    assert_eq!(run(), run());
}
