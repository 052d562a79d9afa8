//! `sim --seeds N --seed S [--shards N] [--log] [--trace]`: runs seeds S, S+1, ... and says which
//! failed. `--log` shows the broker's log, `--trace` all that crosses the driver's seam.
//!
//! Seeds that once failed, listed in `regressions.txt`, run first. The summary tells how often the
//! runs hit what they aim at, and counts as a failure if one of it was never hit in a long run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

use std::{panic, process::ExitCode};

use sim::scenario::{self, Options, Outcome};

const REGRESSIONS: &str = include_str!("../regressions.txt");
/// Each of so many seeds is run twice, and has to give the same run.
const TWICE_INTERVAL: u64 = 50;
/// From so many seeds on everything that is aimed at has to be hit.
const AIM_SEEDS_MIN: u64 = 50;
const USAGE: &str = "usage: sim [--seeds N] [--seed S] [--shards N] [--log] [--trace]";

struct Arguments {
    seeds: u64,
    seed: u64,
    options: Options,
    only_this: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments =
        Arguments { seeds: 100, seed: 0, options: Options::default(), only_this: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} takes a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} {value} is no number"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--seed" => {
                arguments.seed = number()?;
                arguments.only_this = true;
            }
            "--shards" => {
                let shards = u16::try_from(number()?).ok().filter(|count| (1..=4).contains(count));
                arguments.options.shards = Some(shards.ok_or("--shards takes 1 to 4")?);
            }
            "--log" => log_to_stderr(),
            "--trace" => arguments.options.trace = Some(|line| println!("{line}")),
            other => return Err(format!("{other} is not known\n{USAGE}")),
        }
    }
    Ok(arguments)
}

fn log_to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
    log.with_ansi(false).with_max_level(tracing::Level::DEBUG).init();
}

/// Seeds and shard counts that once failed: `seed [shards]`, then a comment.
fn regressions() -> Vec<(u64, Option<u16>)> {
    let lines = REGRESSIONS.lines().filter_map(|line| line.split('#').next());
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let seed = words.next()?.parse().ok()?;
        Some((seed, words.next().and_then(|shards| shards.parse().ok())))
    };
    lines.filter_map(parse).collect()
}

/// Runs a seed; a panic of the broker is a complaint.
fn run(seed: u64, options: Options) -> Outcome {
    panic::catch_unwind(|| scenario::run(seed, options)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        Outcome { complaints: vec![format!("panic: {text}")], ..Outcome::default() }
    })
}

#[derive(Default)]
struct Summary {
    passed: u64,
    failed: u64,
    sum: Outcome,
}

impl Summary {
    fn add(&mut self, seed: u64, options: Options) {
        let mut outcome = run(seed, options);
        if seed.is_multiple_of(TWICE_INTERVAL) && run(seed, options) != outcome {
            outcome.complaints.push("a second run was another one".to_owned());
        }
        if outcome.complaints.is_empty() {
            self.passed += 1;
        } else {
            self.failed += 1;
            let shards = options.shards.map(|shards| format!(" --shards {shards}"));
            let shards = shards.unwrap_or_default();
            println!("seed {seed} FAILED; again: sim --seed {seed} --seeds 1{shards}");
            for complaint in &outcome.complaints {
                println!("  {complaint}");
            }
        }
        let (sum, counts) = (&mut self.sum, outcome.counts);
        sum.counts.operations += counts.operations;
        sum.counts.acked_batches += counts.acked_batches;
        sum.counts.retried_batches += counts.retried_batches;
        sum.counts.duplicates_refused += counts.duplicates_refused;
        sum.counts.records_seen += counts.records_seen;
        sum.counts.commits += counts.commits;
        sum.counts.joins += counts.joins;
        sum.counts.topic_changes += counts.topic_changes;
        sum.tally.add(&outcome.tally);
        sum.ends.kills += outcome.ends.kills;
        sum.ends.power_cuts += outcome.ends.power_cuts;
        sum.ends.crashes_in_recovery += outcome.ends.crashes_in_recovery;
        sum.ends.clean_stops += outcome.ends.clean_stops;
        sum.connections_broken += outcome.connections_broken;
    }

    /// What the runs aim at, and how often they hit it.
    fn aims(&self) -> [(&'static str, u64); 18] {
        let Outcome { counts, tally, ends, .. } = &self.sum;
        [
            ("operations answered", counts.operations),
            ("batches acknowledged", counts.acked_batches),
            ("batches sent again", counts.retried_batches),
            ("duplicates refused", counts.duplicates_refused),
            ("records read", counts.records_seen),
            ("commits acknowledged", counts.commits),
            ("generations joined", counts.joins),
            ("topics created or deleted", counts.topic_changes),
            ("kills", ends.kills),
            ("power cuts", ends.power_cuts),
            ("crashes in recovery", ends.crashes_in_recovery),
            ("crashes inside a change of names", tally.crashes_inside_name_change),
            ("clean stops", ends.clean_stops),
            ("unsynced sectors dropped", tally.sectors_dropped),
            ("unsynced writes torn", tally.writes_torn),
            ("unsynced names lost", tally.names_lost),
            ("writes of the dead that landed", tally.late_landings),
            ("connections broken", self.sum.connections_broken),
        ]
    }
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut summary = Summary::default();
    if !arguments.only_this {
        for (seed, shards) in regressions() {
            summary.add(seed, Options { shards, ..arguments.options });
        }
    }
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        summary.add(seed, arguments.options);
    }
    for (aim, count) in summary.aims() {
        println!("{count:>12} {aim}");
        if count == 0 && arguments.seeds >= AIM_SEEDS_MIN {
            println!("             ^ never hit: that is a failure");
            summary.failed += 1;
        }
    }
    println!("{} passed, {} failed", summary.passed, summary.failed);
    if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
