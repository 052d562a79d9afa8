//! `cargo xtask mutants`: brokers that are broken on purpose, to show that the tests bite.
//!
//! A mutant is a cargo feature of `storage` that leaves one step of the durable road out. Each
//! has to be caught by every hunter named for it; one that gets away fails the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::needs;
use crate::test::target_folder;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Within how many simulator seeds a mutant has to be caught
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Within how many crash images
    #[arg(long, default_value_t = 10)]
    images: u64,
}

/// Who goes after a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hunter {
    Simulator,
    /// The rig `powerblk`, which needs root.
    Images,
}

const MUTANTS: &[(&str, &[Hunter])] = &[
    ("mutant_ack_before_fdatasync", &[Hunter::Simulator, Hunter::Images]),
    // A real file system's fdatasync of a new file happens to keep its name too, so that only
    // the simulator's disk, which promises no more than POSIX does, can tell.
    ("mutant_no_directory_sync", &[Hunter::Simulator]),
];

/// A simulator run ends after so many seeds, so that a mutant that is caught early costs little.
const SEEDS_A_RUN: u64 = 10;

/// Sends every hunter after its mutants.
///
/// # Errors
/// When one got away, or something does not build.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    let (mut caught, mut escaped) = (0, 0);
    for (mutant, hunters) in MUTANTS {
        for hunter in *hunters {
            if *hunter == Hunter::Images && !needs::is_root() {
                println!("{mutant}: not hunted with crash images, which need root");
                continue;
            }
            let evidence = match hunter {
                Hunter::Simulator => by_simulator(root, mutant, options.seeds)?,
                Hunter::Images => by_images(root, mutant, options.images)?,
            };
            if let Some(evidence) = evidence {
                println!("{mutant}: caught by {hunter:?}: {evidence}");
                caught += 1;
            } else {
                println!("{mutant}: got away from {hunter:?}");
                escaped += 1;
            }
        }
    }
    println!("{caught} passed, {escaped} failed");
    if escaped == 0 { Ok(()) } else { Err("a mutant got away".to_owned()) }
}

fn by_simulator(root: &Path, mutant: &str, seeds: u64) -> Result<Option<String>, String> {
    let simulator = build(root, mutant, "sim", "sim")?;
    let mut seed = 0;
    while seed < seeds {
        let count = SEEDS_A_RUN.min(seeds - seed);
        let mut command = Command::new(&simulator);
        command.args(["--seed", &seed.to_string(), "--seeds", &count.to_string()]);
        if let Some(line) = failing_run(root, &mut command, "FAILED")? {
            return Ok(Some(line));
        }
        seed += count;
    }
    Ok(None)
}

fn by_images(root: &Path, mutant: &str, images: u64) -> Result<Option<String>, String> {
    let broker = build(root, mutant, "server", "odradek")?;
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["crash", "--rig", "powerblk", "--cycles", &images.to_string()]);
    // What a rig keeps of a failure is of no use here, where failing is the aim.
    let evidence_folder = target_folder(root).join("mutants");
    fs::create_dir_all(&evidence_folder).map_err(|error| error.to_string())?;
    command.arg("--binary").arg(broker).env("TMPDIR", &evidence_folder);
    let evidence = failing_run(root, &mut command, "Lost {");
    fs::remove_dir_all(&evidence_folder).map_err(|error| error.to_string())?;
    evidence
}

/// The line of a failing run that says which promise was broken: a run that fails for another
/// reason caught nothing, and is shown.
fn failing_run(root: &Path, command: &mut Command, mark: &str) -> Result<Option<String>, String> {
    let output = command.current_dir(root).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(None);
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let evidence = evidence(&text, mark);
    if evidence.is_none() {
        println!("{}:\n{text}", output.status);
    }
    Ok(evidence)
}

/// Builds `package` around the broken storage, and returns its program.
fn build(root: &Path, mutant: &str, package: &str, program: &str) -> Result<PathBuf, String> {
    let feature = format!("storage/{mutant}");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--profile", "sim", "--package", package]);
    build.args(["--package", "storage", "--features", &feature]);
    let status = build.current_dir(root).status().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("{package} with {mutant}: {status}"));
    }
    Ok(target_folder(root).join("sim").join(program))
}

/// The line with `mark`, and the one after it.
fn evidence(text: &str, mark: &str) -> Option<String> {
    let mut lines = text.lines().skip_while(|line| !line.contains(mark));
    let first = lines.next()?.trim();
    Some(format!("{first} {}", lines.next().unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_promise_is_evidence() {
        let rig = "rig: cycle 1:\nrig-0-0: Lost { offset: 3 }\n";
        assert_eq!(evidence(rig, "Lost {").unwrap(), "rig-0-0: Lost { offset: 3 } ");
        assert_eq!(evidence("rig: losetup: no free device\n", "Lost {"), None);
        let sim = "seed 3 FAILED; again: sim --seed 3\n  a0 is gone\n";
        assert!(evidence(sim, "FAILED").unwrap().ends_with("a0 is gone"));
        assert_eq!(evidence("           5 unsynced names lost\n", "FAILED"), None);
    }
}
