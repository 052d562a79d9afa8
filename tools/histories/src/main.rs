//! Histories of real processes: clients on our runtime, a broker that is killed, paused, stopped,
//! cut off from its power and left without room, and the checker of what the clients saw.
//!
//! ```text
//! main       one run: a broker, its clients, what breaks it, the verdict
//! nemesis    what breaks it                shared   the history, and where the broker is
//! load       who the clients are           world    what each of them is given
//! senders, tellers, copier, members, consumers, readers    what each of them does
//! ```
//! The same seed asks for the same load and the same faults; what the machine makes of it is not
//! repeatable. `cargo xtask histories` builds what it needs and calls this.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

mod consumers;
mod copier;
mod load;
mod members;
mod nemesis;
mod readers;
mod senders;
mod shared;
mod tellers;
mod world;

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use checker::anomaly::{Anomaly, Report};
use checker::history::{Kind, Op, write};
use clap::Parser;
use nemesis::Nemesis;
use rig::aims::Aims;
use rig::broker::{Broker, Launch};
use rig::chance::Chance;
use rig::ground::Ground;
use rig::interrupt;
use rig::mounts::FileSystem;
use shared::{Phase, Shared};

/// The file system that is cut off and filled.
const DISK_BYTES: u64 = 1 << 30;
/// The clients come to their end within so long after the load.
const FINISHED_WITHIN: Duration = Duration::from_secs(300);

/// Rebalances that do not wait, compaction that does not either.
const SETTINGS: [&str; 2] =
    ["group.initial.rebalance.delay.ms=200", "log.initial.task.delay.ms=1000"];

#[derive(Debug, Parser)]
#[command(about = "Histories; `cargo xtask histories` is the usual way to call this")]
struct Arguments {
    /// The broker
    #[arg(long)]
    binary: PathBuf,
    /// How long the load runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value = "uring")]
    driver: String,
    #[arg(long, default_value_t = 2)]
    shards: u32,
    /// The file system whose power is cut; without one there are no power cuts and full disks
    #[arg(long, value_enum)]
    file_system: Option<FileSystem>,
    /// Where the history is written
    #[arg(long)]
    history: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match interrupt::install().and_then(|()| run(&arguments)) {
        Ok((passed, 0)) => {
            println!("{passed} passed, 0 failed");
            ExitCode::SUCCESS
        }
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            ExitCode::FAILURE
        }
        Err(reason) => {
            eprintln!("histories: {reason}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// How many checks passed and failed: each anomaly is one, and what the run aims at.
fn run(arguments: &Arguments) -> Result<(usize, usize), String> {
    let work = tempfile::Builder::new().prefix("odradek-histories-").tempdir();
    let work = work.map_err(|error| format!("a folder to work in: {error}"))?;
    let ground = match arguments.file_system {
        None => Ground::folder(work.path()),
        Some(file_system) => Ground::disk(file_system, DISK_BYTES, work.path())?,
    };
    let launch = Launch {
        binary: arguments.binary.clone(),
        driver: arguments.driver.clone(),
        shards: arguments.shards,
        settings: SETTINGS.map(str::to_owned).to_vec(),
    };
    let mut aims = Aims::default();
    let mut chance = Chance::new(arguments.seed);
    let broker = Broker::start(&launch, &ground.data())?;
    let shared = Arc::new(Shared::new(broker.address));
    let clients = load::start(&shared, chance.fork());
    let (ground_ref, shared_ref) = (&ground, &shared);
    let mut nemesis = Nemesis {
        launch: &launch,
        ground: ground_ref,
        shared: shared_ref,
        aims: &mut aims,
        chance,
    };
    wait_for(&shared, Phase::Load)?;
    let broken = nemesis.run(broker, Duration::from_secs(arguments.seconds));
    // Without a broker the clients never come to an end.
    let broker = broken.inspect_err(|_| drop(keep(arguments, &shared.take_ops())))?;
    let finished = wait_for(&shared, Phase::Done)
        .and_then(|()| clients.join().map_err(|_| "a client panicked".to_owned())?);
    let ops = shared.take_ops();
    keep(arguments, &ops)?;
    // What there is of a history is judged also where it does not come to its end.
    if let Err(reason) = &finished {
        println!("{reason}\n{}", broker.last_words(30));
    }
    broker.stop()?;
    let (passed, failed) = judge(&ops, &shared, &mut aims, arguments)?;
    Ok((passed, failed + usize::from(finished.is_err())))
}

fn wait_for(shared: &Shared, phase: Phase) -> Result<(), String> {
    let until = Instant::now() + FINISHED_WITHIN;
    while shared.phase() < phase {
        if Instant::now() > until {
            return Err("the clients do not come to an end".to_owned());
        }
        interrupt::sleep(Duration::from_millis(20))?;
    }
    Ok(())
}

fn keep(arguments: &Arguments, ops: &[Op]) -> Result<(), String> {
    let path = &arguments.history;
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    write(BufWriter::new(file), ops).map_err(|error| format!("{}: {error}", path.display()))
}

const COMMITTED: &str = "transactions committed";
const ABORTED: &str = "transactions aborted";
const UNKNOWN: &str = "transactions whose end nobody knows";
const TAKEN_OVER: &str = "transactional ids taken over";
const ZOMBIES: &str = "requests of replaced producers";
const JOINED: &str = "generations joined";
const COMMITS: &str = "group commits";

fn judge(
    ops: &[Op],
    shared: &Shared,
    aims: &mut Aims,
    arguments: &Arguments,
) -> Result<(usize, usize), String> {
    let report = checker::check(ops).map_err(|error| error.to_string())?;
    println!("{} operations in {}", ops.len(), arguments.history.display());
    print!("{report}");
    aims.hit(ABORTED, shared.aborted.load(Ordering::SeqCst));
    aims.hit(TAKEN_OVER, shared.taken_over.load(Ordering::SeqCst));
    aims.hit(ZOMBIES, shared.zombies.load(Ordering::SeqCst));
    count(&report, aims);
    let mut required =
        vec![COMMITTED, ABORTED, TAKEN_OVER, ZOMBIES, JOINED, COMMITS, nemesis::KILLS];
    required.extend([nemesis::KILLS_IN_TRANSACTIONS, nemesis::PAUSES, nemesis::STOPS]);
    if arguments.file_system.is_some() {
        required.extend([nemesis::POWER_CUTS, nemesis::FULL]);
    }
    let mut failed = report.findings.len();
    if let Err(reason) = aims.report(&required) {
        println!("{reason}");
        failed += 1;
    }
    for complaint in shared.complaints() {
        println!("{complaint}");
        failed += 1;
    }
    Ok((Anomaly::ALL.len() - report.findings.len(), failed))
}

fn count(report: &Report, aims: &mut Aims) {
    for (aim, action, kind) in [
        (COMMITTED, "txn", Kind::Ok),
        (UNKNOWN, "txn", Kind::Info),
        (JOINED, "subscribe", Kind::Ok),
        (COMMITS, "commit", Kind::Ok),
    ] {
        aims.hit(aim, report.count(action, kind));
    }
}
