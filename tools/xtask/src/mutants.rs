//! `cargo xtask mutants`: brokers that are broken on purpose, to show that the tests bite.
//!
//! A mutant is a cargo feature of `storage` that leaves one step of the durable road out. Each
//! has to be caught by every hunter named for it; one that gets away fails the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
            let output = hunt(root, mutant, *hunter, options)?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            match evidence(&text).filter(|_| !output.status.success()) {
                Some(line) => {
                    println!("{mutant}: caught by {hunter:?}: {line}");
                    caught += 1;
                }
                None => {
                    println!("{mutant}: got away from {hunter:?} ({}):\n{text}", output.status);
                    escaped += 1;
                }
            }
        }
    }
    println!("{caught} passed, {escaped} failed");
    if escaped == 0 { Ok(()) } else { Err("a mutant got away".to_owned()) }
}

fn hunt(root: &Path, mutant: &str, hunter: Hunter, options: &Options) -> Result<Output, String> {
    let mut command = match hunter {
        Hunter::Simulator => {
            let mut command = Command::new(build(root, mutant, "sim", "sim")?);
            command.args(["--seeds", &options.seeds.to_string()]);
            command
        }
        Hunter::Images => {
            let broker = build(root, mutant, "server", "odradek")?;
            let this = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(this);
            command.args(["crash", "--rig", "powerblk", "--cycles", &options.images.to_string()]);
            command.arg("--binary").arg(broker);
            command
        }
    };
    command.current_dir(root).output().map_err(|error| format!("{hunter:?}: {error}"))
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

/// The line that says which promise was broken: a run that fails for another reason caught
/// nothing.
fn evidence(text: &str) -> Option<&str> {
    let names_loss = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["lost", "missing", "gone"].iter().any(|word| line.contains(word))
    };
    text.lines().find(names_loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loss_is_evidence() {
        let loss = "rig: cycle 1:\nrig-0-0: Lost { offset: 3 }\n";
        assert_eq!(evidence(loss), Some("rig-0-0: Lost { offset: 3 }"));
        assert_eq!(evidence("rig: losetup: no free device\n"), None);
    }
}
