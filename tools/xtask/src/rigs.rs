//! The commands that run something the workspace builds: the simulator and the crash rigs.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::needs::{self, Need, Origin};
use crate::test::target_folder;

#[derive(Debug, Args)]
pub(crate) struct SimOptions {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed, without those that once failed
    #[arg(long, conflicts_with = "from")]
    seed: Option<u64>,
    /// The first seed, after those that once failed
    #[arg(long)]
    from: Option<u64>,
    /// Some seeds also delete, compact, alter settings and turn clocks
    #[arg(long)]
    features: bool,
    /// Nearly all seeds also have transactions
    #[arg(long)]
    transactions: bool,
    /// How many run at once (default: as many as there are cores)
    #[arg(long)]
    jobs: Option<u64>,
}

/// Builds the simulator with its own profile (release speed, assertions on) and runs it.
///
/// # Errors
/// When it does not build, or a seed fails.
pub(crate) fn sim(root: &Path, options: &SimOptions) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--locked", "--profile", "sim", "--package", "sim", "--"]);
    command.args(["--seeds", &options.seeds.to_string()]);
    let numbers = [("--seed", options.seed), ("--from", options.from), ("--jobs", options.jobs)];
    for (name, number) in numbers {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    if options.features {
        command.arg("--features");
    }
    if options.transactions {
        command.arg("--transactions");
    }
    finish(command.current_dir(root), "sim")
}

#[derive(Debug, Args)]
pub(crate) struct CompatibilityOptions {
    /// Write nothing; fail if the file is not what the broker offers
    #[arg(long)]
    check: bool,
}

/// Builds the broker's table and writes or checks the document.
///
/// # Errors
/// When it does not build, or the document differs.
pub(crate) fn compatibility(root: &Path, options: &CompatibilityOptions) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--locked", "--package", "compatibility", "--"]);
    if options.check {
        command.arg("--check");
    }
    finish(command.current_dir(root), "compatibility")
}

/// The crash rigs, as `tools/rig` names them.
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
    /// The block device itself, proven on an application of a few lines
    Selftest,
}

#[derive(Debug, Args)]
pub(crate) struct CrashOptions {
    #[arg(long, value_enum)]
    rig: Rig,
    /// How many faults or images
    #[arg(long, default_value_t = 10)]
    cycles: u64,
    /// `uring` or `sync`
    #[arg(long, default_value = "uring")]
    driver: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A broker other than this tree's release build, a mutant for instance
    #[arg(long)]
    binary: Option<PathBuf>,
    /// `ext4` or `xfs`, where the rig has the choice (default: both)
    #[arg(long)]
    file_system: Option<String>,
}

/// What a rig that mounts file systems runs.
const MOUNTING: &[Need] = &[
    Need { program: "losetup", from: Origin::Package("mount") },
    Need { program: "mkfs.ext4", from: Origin::Package("e2fsprogs") },
    Need { program: "mkfs.xfs", from: Origin::Package("xfsprogs") },
    Need { program: "xfs_io", from: Origin::Package("xfsprogs") },
];

/// Builds the broker and the rig, and runs it.
///
/// # Errors
/// When something is missing or does not build, or the broker broke a promise.
pub(crate) fn crash(root: &Path, options: &CrashOptions) -> Result<(), String> {
    prepare(options.rig)?;
    let mut rig = Command::new("cargo");
    rig.args(["run", "--quiet", "--locked", "--package", "rig", "--"]);
    let name = options.rig.to_possible_value().expect("no rig is hidden");
    rig.arg(name.get_name()).args(["--cycles", &options.cycles.to_string()]);
    rig.args(["--seed", &options.seed.to_string(), "--driver", &options.driver]);
    if let Some(file_system) = &options.file_system {
        rig.args(["--file-system", file_system]);
    }
    if options.rig != Rig::Selftest {
        let binary = match &options.binary {
            Some(binary) => std::path::absolute(binary).map_err(|error| error.to_string())?,
            None => release_build(root)?,
        };
        rig.arg("--binary").arg(binary);
    }
    finish(rig.current_dir(root), "crash rig")
}

#[derive(Debug, Args)]
pub(crate) struct HistoriesOptions {
    /// How long the load of a run lasts
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The first run's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs, each with the next seed
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// `uring` or `sync`
    #[arg(long, default_value = "uring")]
    driver: String,
    /// A broker other than this tree's release build, a mutant for instance
    #[arg(long)]
    binary: Option<PathBuf>,
    /// `ext4` or `xfs`, whose power is cut (default: in turn; as root only)
    #[arg(long)]
    file_system: Option<String>,
}

/// Builds the broker and its clients, breaks it under load, and has the checker judge.
///
/// # Errors
/// When something is missing or does not build, or a history has an anomaly.
pub(crate) fn histories(root: &Path, options: &HistoriesOptions) -> Result<(), String> {
    if needs::is_root() {
        needs::ensure(MOUNTING)?;
    } else {
        println!("without root no power is cut and no disk filled");
    }
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary).map_err(|error| error.to_string())?,
        None => release_build(root)?,
    };
    let folder = target_folder(root).join("histories");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let seconds = (options.minutes * 60).to_string();
    let mut failed = 0;
    for seed in options.seed..options.seed + options.runs {
        let mut run = Command::new("cargo");
        run.args(["run", "--quiet", "--locked", "--package", "histories", "--"]);
        run.args(["--seed", &seed.to_string(), "--seconds", &seconds]);
        run.args(["--driver", &options.driver]).arg("--binary").arg(&binary);
        if needs::is_root() {
            let in_turn = if seed % 2 == 0 { "ext4" } else { "xfs" };
            run.args(["--file-system", options.file_system.as_deref().unwrap_or(in_turn)]);
        }
        run.arg("--history").arg(folder.join(format!("seed-{seed}.jsonl")));
        println!("seed {seed}, {} minutes:", options.minutes);
        failed += u64::from(finish(run.current_dir(root), "histories").is_err());
    }
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} runs failed", options.runs)) }
}

/// Says in one line what keeps this machine from running the rig.
fn prepare(rig: Rig) -> Result<(), String> {
    if matches!(rig, Rig::Kill | Rig::Inflight) {
        return Ok(());
    }
    if !needs::is_root() {
        return Err("this rig attaches loop devices and mounts file systems: run it as root".into());
    }
    if !matches!(rig, Rig::Godown | Rig::Full) && !Path::new("/dev/fuse").exists() {
        return Err("/dev/fuse is missing: load the kernel's fuse module (modprobe fuse)".into());
    }
    needs::ensure(MOUNTING)
}

/// The broker, built.
///
/// # Errors
/// When it does not build.
pub(crate) fn release_build(root: &Path) -> Result<PathBuf, String> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--release", "--package", "server"]);
    finish(build.current_dir(root), "release build")?;
    Ok(target_folder(root).join("release").join("odradek"))
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn finish(command: &mut Command, name: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}
