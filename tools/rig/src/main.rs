//! Crash rigs: load a broker, break it, start it again, and hold what it serves against what it
//! promised.
//!
//! ```text
//! main        which rig, on which broker
//! cycles      kill, godown       powercut    powerblk      inflight     full
//! eio         selftest
//! session     topics and producers before the fault, reading back and sending again after it
//! load        producers and a consumer; history: what was sent, promised and seen
//! check       the rules
//! moment, values, kafka; the library has broker, mounts, aims, interrupt, chance
//! ```
//! `cargo xtask crash` builds what it needs and calls this.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

mod check;
mod cycles;
mod eio;
mod full;
mod history;
mod inflight;
mod kafka;
mod load;
mod moment;
mod powercut;
mod selftest;
mod session;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use cycles::Fault;
use rig::broker::Launch;
use rig::interrupt;
use rig::mounts::FileSystem;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rig {
    /// SIGKILL under load
    Kill,
    /// A disk under load loses power (ext4 and xfs)
    Godown,
    /// Crash images of a block device under load
    Powerblk,
    /// SIGKILL with 32 MiB of writes on their way
    Inflight,
    /// A disk of 32 MiB that is filled (ext4 and xfs)
    Full,
    /// A disk whose writes, FLUSHes and reads fail (ext4 and xfs)
    Eio,
    /// powerblk itself, proven on an application of a few lines
    Selftest,
}

#[derive(Debug, Parser)]
#[command(about = "Crash rigs; `cargo xtask crash` is the usual way to call them")]
struct Arguments {
    #[arg(value_enum)]
    rig: Rig,
    /// How many faults or images
    #[arg(long, default_value_t = 10)]
    cycles: u64,
    /// The broker (the self-test needs none)
    #[arg(long)]
    binary: Option<PathBuf>,
    #[arg(long, default_value = "uring")]
    driver: String,
    #[arg(long, default_value_t = 2)]
    shards: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this file system, where the rig has the choice
    #[arg(long, value_enum)]
    file_system: Option<FileSystem>,
    /// Where data lies while the rig runs (default: the system's folder for temporary files)
    #[arg(long)]
    work: Option<PathBuf>,
}

/// What every rig is told.
struct Options {
    cycles: u64,
    seed: u64,
    launch: Launch,
    file_system: Option<FileSystem>,
    work: Option<PathBuf>,
}

impl Options {
    /// An empty folder that goes away with its owner.
    fn work_folder(&self) -> Result<TempDir, String> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("odradek-rig-");
        let folder = match &self.work {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        folder.map_err(|error| format!("a folder to work in: {error}"))
    }
}

/// After a failure the folder stays, and the message says where.
fn keep_evidence(work: TempDir, reason: &str) -> String {
    if reason == interrupt::INTERRUPTED_REASON {
        return reason.to_owned();
    }
    format!("{reason}\nthe data is kept in {}", work.keep().display())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let rig = arguments.rig;
    match interrupt::install().and_then(|()| run(arguments)) {
        Ok(passed) => {
            println!("{rig:?}: {passed} passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("rig {rig:?}: {reason}");
            println!("{rig:?}: 0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many faults the broker came through.
fn run(arguments: Arguments) -> Result<u64, String> {
    let binary = match arguments.binary {
        Some(binary) => binary,
        None if arguments.rig == Rig::Selftest => PathBuf::new(),
        None => return Err("which broker? --binary names it".to_owned()),
    };
    let options = Options {
        cycles: arguments.cycles,
        seed: arguments.seed,
        launch: Launch {
            binary,
            driver: arguments.driver,
            shards: arguments.shards,
            settings: Vec::new(),
        },
        file_system: arguments.file_system,
        work: arguments.work,
    };
    match arguments.rig {
        Rig::Kill => cycles::run(&options, &[Fault::Kill]),
        Rig::Powerblk => powercut::run(&options),
        Rig::Inflight => inflight::run(&options),
        Rig::Full => full::run(&options),
        Rig::Eio => eio::run(&options),
        Rig::Selftest => selftest::run(&options),
        Rig::Godown => {
            let all = [FileSystem::Ext4, FileSystem::Xfs];
            let wanted = |one: &FileSystem| options.file_system.is_none_or(|only| only == *one);
            let faults: Vec<Fault> = all.into_iter().filter(wanted).map(Fault::PowerCut).collect();
            cycles::run(&options, &faults)
        }
    }
}
