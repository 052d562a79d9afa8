//! The rigs `kill` and `godown`: load, fault, restart, check, over and over on one directory.
//!
//! Every few cycles a new directory begins, so that reading everything back stays affordable.
//! Each second blow is aimed at a segment roll.

use std::path::Path;
use std::sync::Arc;

use crate::check::{judge, settle};
use crate::history::{History, Shared, State};
use crate::load::Load;
use crate::moment::{self, Aim};
use crate::session::{PLAN, prepare, read_back, send_again};
use crate::{Options, keep_evidence};
use rig::aims::Aims;
use rig::broker::Broker;
use rig::chance::Chance;
use rig::ground::Ground;
use rig::mounts::FileSystem;

const CYCLES_A_DIRECTORY: u64 = 10;

/// The size of a file system that is cut off; the file behind it has holes.
const DISK_BYTES: u64 = 2 << 30;

const UNANSWERED: &str = "records unanswered at the fault";
const IN_ROLL: &str = "faults inside a roll";
const DUPLICATES: &str = "duplicates refused";

/// What happens to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// The disk loses power, then the process is gone too.
    PowerCut(FileSystem),
}

/// Runs the cycles, divided among `faults`, and returns how many held.
pub(crate) fn run(options: &Options, faults: &[Fault]) -> Result<u64, String> {
    let mut aims = Aims::default();
    let mut chance = Chance::new(options.seed);
    let share = options.cycles.div_ceil(faults.len() as u64).min(CYCLES_A_DIRECTORY);
    let mut done = 0;
    for fault in faults.iter().cycle() {
        if done >= options.cycles {
            break;
        }
        let cycles = done..options.cycles.min(done + share);
        done = cycles.end;
        let work = options.work_folder()?;
        let outcome = directory(options, *fault, work.path(), cycles, &mut chance, &mut aims);
        if let Err(reason) = outcome {
            return Err(keep_evidence(work, &reason));
        }
    }
    aims.report(&[UNANSWERED, IN_ROLL, DUPLICATES])?;
    Ok(done)
}

fn directory(
    options: &Options,
    fault: Fault,
    work: &Path,
    cycles: std::ops::Range<u64>,
    chance: &mut Chance,
    aims: &mut Aims,
) -> Result<(), String> {
    let ground = match fault {
        Fault::Kill => Ground::folder(work),
        Fault::PowerCut(file_system) => Ground::disk(file_system, DISK_BYTES, work)?,
    };
    let data = ground.data();
    let mut broker = Broker::start(&options.launch, &data)?;
    let mut history = prepare(broker.address, chance.number(), PLAN)?;
    for cycle in cycles {
        let shared = Arc::new(Shared::new(history));
        let load = Load::start(broker.address, &shared, chance);
        let aim = if cycle % 2 == 0 { Aim::Roll } else { Aim::AnyTime };
        let partitions = shared.snapshot();
        let in_roll = moment::wait(aim, chance, &data, &partitions, &load)?;
        load.strike();
        ground.strike(broker)?;
        complain(cycle, &load.finish())?;
        broker = Broker::start(&options.launch, &data)?;
        aims.restarted(broker.ready_after);
        aims.hit(IN_ROLL, u64::from(in_roll));
        history = shared.snapshot();
        let checked = check(cycle, &broker, &mut history, aims);
        checked.map_err(|reason| format!("{reason}\n{}", broker.last_words(30)))?;
    }
    // What was sent again after the last fault is held against the log too.
    let logs = read_back(broker.address, &history)?;
    complain(options.cycles, &judge(&history, &history, &logs).broken)?;
    broker.stop()
}

fn check(
    cycle: u64,
    broker: &Broker,
    history: &mut History,
    aims: &mut Aims,
) -> Result<(), String> {
    let logs = read_back(broker.address, history)?;
    let verdict = judge(history, history, &logs);
    complain(cycle, &verdict.broken)?;
    let unanswered = history.count(|state| state == State::Unknown);
    println!(
        "cycle {cycle}: {} records, {} acknowledged, {unanswered} unanswered, ready in {:.0?}",
        verdict.records,
        history.acknowledged(),
        broker.ready_after
    );
    settle(history, &verdict.found);
    let again = send_again(broker.address, history, &verdict.found)?;
    let (cuts, bytes) = broker.tails_cut();
    aims.hit(UNANSWERED, unanswered);
    aims.hit(DUPLICATES, again.duplicates_refused);
    aims.hit("batches appended when sent again", again.appended);
    aims.hit("tails cut", cuts);
    aims.hit("bytes cut", bytes);
    Ok(())
}

/// An error if there is anything to complain about.
pub(crate) fn complain(cycle: u64, complaints: &[String]) -> Result<(), String> {
    if complaints.is_empty() {
        return Ok(());
    }
    Err(format!("cycle {cycle}:\n{}", complaints.join("\n")))
}
