//! `sim --seeds N --seed S [--shards N] [--features] [--transactions] [--jobs N] [--until-failure] [--log] [--trace]`:
//! runs seeds S, S+1, ... and says which failed, `--until-failure` no further than the first of
//! them. With `--features` some of them also delete, compact, alter and turn clocks, with `--transactions` nearly all have transactions. `--log` shows the broker's log, `--trace` all that crosses the driver's seam. As many seeds run at once
//! as there are cores, or `--jobs` says; the output is the same.
//!
//! Seeds that once failed, listed in `regressions.txt`, run first, unless `--seed` names a first one
//! (`--from` does so, and keeps them). The summary tells how often the
//! runs hit what they aim at, and counts as a failure if one of it was never hit in a long run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

mod jobs;

use std::{ops::ControlFlow, panic, process::ExitCode};

use sim::scenario::{self, Options, Outcome};

const REGRESSIONS: &str = include_str!("../regressions.txt");
/// Each of so many seeds is run twice, and has to give the same run.
const TWICE_INTERVAL: u64 = 50;
/// From so many seeds on everything that is aimed at has to be hit.
const AIM_SEEDS_MIN: u64 = 50;
/// The same for what few seeds do.
const RARE_AIM_SEEDS_MIN: u64 = 500;
/// Lines of a failing seed: the first few tell why.
const LINES_MAX: usize = 8;
/// Characters of such a line.
const LINE_MAX: usize = 200;
/// What is left of a record's filler, which says nothing.
const FILLER: &str = "..";
const USAGE: &str = "usage: sim [--seeds N] [--seed S | --from S] [--shards N] [--features] \
     [--transactions] [--jobs N] [--until-failure] [--log] [--trace]";
/// More threads than any machine has cores are a typing error.
const JOBS_MAX: usize = 1024;

struct Arguments {
    seeds: u64,
    seed: u64,
    options: Options,
    only_this: bool,
    goes_on: GoesOn,
    /// Seeds that run at once.
    jobs: usize,
    /// What one seed does must not be mixed with what another does.
    is_watched: bool,
}

/// What a failing seed is to the seeds after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoesOn {
    ToTheEnd,
    UntilFailure,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 100,
        seed: 0,
        options: Options::default(),
        only_this: false,
        goes_on: GoesOn::ToTheEnd,
        jobs: jobs::cores(),
        is_watched: false,
    };
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
            "--from" => arguments.seed = number()?,
            "--shards" => {
                let shards = u16::try_from(number()?).ok().filter(|count| (1..=4).contains(count));
                arguments.options.shards = Some(shards.ok_or("--shards takes 1 to 4")?);
            }
            "--jobs" => {
                let jobs = usize::try_from(number()?).ok();
                let jobs = jobs.filter(|count| (1..=JOBS_MAX).contains(count));
                arguments.jobs = jobs.ok_or_else(|| format!("--jobs takes 1 to {JOBS_MAX}"))?;
            }
            "--features" => arguments.options.features = true,
            "--transactions" => arguments.options.transactions = true,
            "--until-failure" => arguments.goes_on = GoesOn::UntilFailure,
            "--log" => {
                log_to_stderr();
                arguments.is_watched = true;
            }
            "--trace" => {
                arguments.options.trace = Some(|line| println!("{line}"));
                arguments.is_watched = true;
            }
            other => return Err(format!("{other} is not known\n{USAGE}")),
        }
    }
    if arguments.is_watched {
        arguments.jobs = 1;
    }
    Ok(arguments)
}

fn log_to_stderr() {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time();
    log.with_ansi(false).with_max_level(tracing::Level::DEBUG).init();
}

/// Seeds that once failed, with what they were run: `seed [shards] [transactions]`, then a comment.
fn regressions() -> Vec<(u64, Options)> {
    let lines = REGRESSIONS.lines().filter_map(|line| line.split('#').next());
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let seed = words.next()?.parse().ok()?;
        let mut options = Options::default();
        for word in words {
            match word {
                "transactions" => options.transactions = true,
                shards => options.shards = shards.parse().ok(),
            }
        }
        Some((seed, options))
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

/// A complaint in one short line: records are as long as their filler, which is dots.
fn brief(complaint: &str) -> String {
    let mut line = String::new();
    let mut dots = 0;
    for character in complaint.chars().take_while(|character| *character != '\n') {
        dots = if character == '.' { dots + 1 } else { 0 };
        if dots <= FILLER.len() {
            line.push(character);
        }
    }
    line.chars().take(LINE_MAX).collect()
}

#[derive(Default)]
struct Summary {
    passed: u64,
    failed: u64,
    sum: Outcome,
}

/// Runs a seed, some of them twice, and compares.
fn run_and_compare(seed: u64, options: Options) -> Outcome {
    let mut outcome = run(seed, options);
    let twice = outcome.complaints.is_empty() && seed.is_multiple_of(TWICE_INTERVAL);
    if twice && run(seed, options) != outcome {
        outcome.complaints.push("a second run was another one".to_owned());
    }
    outcome
}

impl Summary {
    fn add(&mut self, seed: u64, options: Options, outcome: Outcome) {
        if outcome.complaints.is_empty() {
            self.passed += 1;
        } else {
            self.failed += 1;
            let shards = options.shards.map(|shards| format!(" --shards {shards}"));
            let shards = shards.unwrap_or_default();
            let features = if options.features { " --features" } else { "" };
            let transactions = if options.transactions { " --transactions" } else { "" };
            println!(
                "seed {seed} FAILED; again: sim --seed {seed} --seeds 1{shards}{features}{transactions}"
            );
            for complaint in outcome.complaints.iter().take(LINES_MAX) {
                println!("  {}", brief(complaint));
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
        sum.counts.consumer_joins += counts.consumer_joins;
        sum.counts.topic_changes += counts.topic_changes;
        sum.counts.damages += counts.damages;
        sum.counts.damaged_reads += counts.damaged_reads;
        sum.counts.damaged_ends += counts.damaged_ends;
        sum.counts.losses_accepted += counts.losses_accepted;
        sum.counts.deletions += counts.deletions;
        sum.counts.logs_retained += counts.logs_retained;
        sum.counts.records_compacted += counts.records_compacted;
        sum.counts.records_taken += counts.records_taken;
        sum.counts.settings_altered += counts.settings_altered;
        sum.counts.clock_jumps += counts.clock_jumps;
        sum.counts.recreations += counts.recreations;
        sum.counts.transactions_committed += counts.transactions_committed;
        sum.counts.transactions_aborted += counts.transactions_aborted;
        sum.counts.transactions_taken_over += counts.transactions_taken_over;
        sum.counts.transactions_timed_out += counts.transactions_timed_out;
        sum.tally.add(&outcome.tally);
        sum.struck.add(&outcome.struck);
        sum.ends.refused_starts += outcome.ends.refused_starts;
        sum.ends.kills += outcome.ends.kills;
        sum.ends.power_cuts += outcome.ends.power_cuts;
        sum.ends.crashes_in_recovery += outcome.ends.crashes_in_recovery;
        sum.ends.clean_stops += outcome.ends.clean_stops;
        sum.ends.given_up += outcome.ends.given_up;
        sum.connections_broken += outcome.connections_broken;
    }

    /// What the runs aim at, and how often they hit it.
    fn aims(&self) -> [(&'static str, u64); 24] {
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
            ("writes failed", tally.write_errors),
            ("writes cut short", tally.short_writes),
            ("syncs failed", tally.sync_errors),
            ("refused by a full disk", tally.space_refusals),
            ("operations stalled", tally.stalls),
            ("brokers that gave a failing disk up", ends.given_up),
            ("connections broken", self.sum.connections_broken),
        ]
    }

    /// The same of what few seeds do.
    fn rare_aims(&self) -> [(&'static str, u64); 13] {
        let Outcome { counts, tally, ends, struck, .. } = &self.sum;
        [
            ("reads failed", tally.read_errors),
            ("bits flipped at rest", struck.bits),
            ("sectors rotten", struck.sectors),
            ("acknowledged writes taken back", struck.writes_lost),
            ("stale blocks", struck.blocks_stale),
            ("writes at another place", struck.writes_misdirected),
            ("of these in derived files", struck.derived),
            ("of these in the metadata", struck.metadata),
            ("stretches of logs damaged", counts.damages),
            ("reads refused for damage", counts.damaged_reads),
            ("logs whose end was damaged", counts.damaged_ends),
            ("losses accepted", counts.losses_accepted),
            ("starts refused for damaged metadata", ends.refused_starts),
        ]
    }

    /// The same of what `--features` adds.
    fn feature_aims(&self) -> [(&'static str, u64); 8] {
        let Outcome { counts, .. } = &self.sum;
        [
            ("deletions of records acknowledged", counts.deletions),
            ("logs that retention shortened", counts.logs_retained),
            ("records that compaction took", counts.records_compacted),
            ("records held back that a power cut took", counts.records_taken),
            ("settings altered", counts.settings_altered),
            ("jumps of the wall clock", counts.clock_jumps),
            ("topics made again under load", counts.recreations),
            ("joins under KIP-848", counts.consumer_joins),
        ]
    }

    /// The same of what `--transactions` adds.
    fn transaction_aims(&self) -> [(&'static str, u64); 4] {
        let Outcome { counts, .. } = &self.sum;
        [
            ("transactions committed", counts.transactions_committed),
            ("transactions aborted", counts.transactions_aborted),
            ("transactions taken over", counts.transactions_taken_over),
            ("transactions timed out", counts.transactions_timed_out),
        ]
    }

    /// All of them, each with how many seeds have to have run until one that was not hit counts.
    fn all_aims(&self, options: &Options) -> Vec<(&'static str, u64, u64)> {
        let mut all = Vec::new();
        let mut add = |aims: &[(&'static str, u64)], seeds_min: u64| {
            all.extend(aims.iter().map(|(aim, count)| (*aim, *count, seeds_min)));
        };
        add(&self.aims(), AIM_SEEDS_MIN);
        add(&self.rare_aims(), RARE_AIM_SEEDS_MIN);
        if options.features {
            add(&self.feature_aims(), RARE_AIM_SEEDS_MIN);
        }
        if options.transactions {
            add(&self.transaction_aims(), AIM_SEEDS_MIN);
        }
        all
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
    let mut runs: Vec<(u64, Options)> = Vec::new();
    if !arguments.only_this {
        let again = regressions().into_iter();
        let trace = arguments.options.trace;
        runs.extend(again.map(|(seed, options)| (seed, Options { trace, ..options })));
    }
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
    runs.extend(seeds.map(|seed| (seed, arguments.options)));
    jobs::in_order(
        &runs,
        arguments.jobs,
        |(seed, options)| run_and_compare(*seed, *options),
        |(seed, options), outcome| {
            summary.add(*seed, *options, outcome);
            let is_over = arguments.goes_on == GoesOn::UntilFailure && summary.failed > 0;
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    let seeds_run = summary.passed + summary.failed;
    for (aim, count, seeds_min) in summary.all_aims(&arguments.options) {
        println!("{count:>12} {aim}");
        if count == 0 && seeds_run >= seeds_min {
            println!("             ^ never hit: that is a failure");
            summary.failed += 1;
        }
    }
    println!("{} passed, {} failed", summary.passed, summary.failed);
    if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_short_line() {
        let value = format!("p0-17-{}", ".".repeat(4000));
        let line = brief(&format!("(\"orders\", 0) 5 was {value} and is p1-3-."));
        assert_eq!(line, "(\"orders\", 0) 5 was p0-17-.. and is p1-3-.");
        assert_eq!(brief("first\nsecond"), "first");
        assert_eq!(brief(&"x".repeat(1000)).len(), LINE_MAX);
    }
}
