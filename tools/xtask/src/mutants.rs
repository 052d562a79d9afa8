//! `cargo xtask mutants`: brokers that are broken on purpose, to show that the tests bite.
//!
//! A mutant is a cargo feature of `storage`, or of another crate that it names, which leaves one step out. Each
//! has to be caught by every hunter named for it; one that gets away fails the command. A hunter
//! ends at the first proof, so what is caught early costs little: most of the time goes into
//! building, which is one build for all hunters of a mutant.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;

use crate::needs;
use crate::test::target_folder;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Within how many simulator seeds a mutant has to be caught
    #[arg(long, default_value_t = 600)]
    seeds: u64,
    /// Within how many crash images
    #[arg(long, default_value_t = 10)]
    images: u64,
    /// Only this mutant; may be given several times
    #[arg(long, value_name = "MUTANT")]
    only: Vec<String>,
}

/// Who goes after a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hunter {
    Simulator,
    /// The same with `--features`.
    Features,
    /// The same with `--transactions`.
    Transactions,
    /// The rig `powerblk`, which needs root.
    Images,
    /// A minute of `cargo xtask histories`.
    Histories,
    /// A test of `storage`, by its name.
    Test(&'static str),
}

/// A feature, and who has to catch it.
type Mutant = (&'static str, &'static [Hunter]);

const MUTANTS: &[Mutant] = &[
    ("mutant_ack_before_fdatasync", &[Hunter::Simulator, Hunter::Images]),
    // A real file system's fdatasync of a new file happens to keep its name too, so that only
    // the simulator's disk, which promises no more than POSIX does, can tell.
    ("mutant_no_directory_sync", &[Hunter::Simulator]),
    ("mutant_completion_result_ignored", &[Hunter::Simulator]),
    ("mutant_fdatasync_retried_after_error", &[Hunter::Simulator]),
    // No program but a person or a broken disk makes an index that lies: there is a test of that.
    (
        "mutant_stale_index_believed",
        &[Hunter::Test("an_index_that_points_to_another_batch_is_not_believed")],
    ),
    ("mutant_torn_tail_kept", &[Hunter::Simulator]),
    ("mutant_producer_state_not_rebuilt", &[Hunter::Simulator]),
    ("mutant_log_start_not_persisted", &[Hunter::Features]),
    ("mutant_compaction_drops_the_newest", &[Hunter::Features]),
    ("mutant_last_stable_one_too_far", &[Hunter::Transactions]),
    ("mutant_abort_index_lost", &[Hunter::Transactions]),
    ("coordinator/mutant_fencing_skipped", &[Hunter::Transactions]),
    ("coordinator/mutant_state_not_reloaded", &[Hunter::Transactions, Hunter::Histories]),
    // The moment between a decision and its durability is short for a real kill.
    ("broker/mutant_decision_not_awaited", &[Hunter::Transactions]),
    // A sync nearly always comes before the mark's own files are written.
    ("mutant_durable_mark_ahead", &[Hunter::Test("a_mark_is_never_ahead_of_what_is_durable")]),
];

/// Sends every hunter after its mutants.
///
/// # Errors
/// When one got away, or something does not build.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    let (mut caught, mut escaped) = (0, 0);
    for (mutant, hunters) in chosen(&options.only)? {
        let started = Instant::now();
        build(root, mutant, hunters)?;
        println!("{mutant}: built in {} s", started.elapsed().as_secs());
        for hunter in *hunters {
            if *hunter == Hunter::Images && !needs::is_root() {
                println!("{mutant}: not hunted with crash images, which need root");
                continue;
            }
            let started = Instant::now();
            let evidence = match hunter {
                Hunter::Simulator => by_simulator(root, options.seeds, &[])?,
                Hunter::Features => by_simulator(root, options.seeds, &["--features"])?,
                Hunter::Transactions => by_simulator(root, options.seeds, &["--transactions"])?,
                Hunter::Images => by_images(root, options.images)?,
                Hunter::Histories => by_histories(root)?,
                Hunter::Test(name) => by_test(root, mutant, name)?,
            };
            let time = started.elapsed().as_secs();
            if let Some(evidence) = evidence {
                println!("{mutant}: caught by {hunter:?} in {time} s: {evidence}");
                caught += 1;
            } else {
                println!("{mutant}: got away from {hunter:?} in {time} s");
                escaped += 1;
            }
        }
    }
    println!("{caught} passed, {escaped} failed");
    if escaped == 0 { Ok(()) } else { Err("a mutant got away".to_owned()) }
}

/// The mutants of these names; of no names, all.
fn chosen(names: &[String]) -> Result<Vec<&'static Mutant>, String> {
    if names.is_empty() {
        return Ok(MUTANTS.iter().collect());
    }
    let find = |name: &String| {
        let found = MUTANTS.iter().find(|(mutant, _)| mutant == name);
        found.ok_or_else(|| format!("no mutant is called {name}"))
    };
    names.iter().map(find).collect()
}

fn by_simulator(root: &Path, seeds: u64, more: &[&str]) -> Result<Option<String>, String> {
    let mut command = Command::new(program(root, "sim"));
    command.args(["--seed", "0", "--seeds", &seeds.to_string(), "--until-failure"]);
    command.args(more);
    failing_run(root, &mut command, "FAILED")
}

fn by_images(root: &Path, images: u64) -> Result<Option<String>, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["crash", "--rig", "powerblk", "--cycles", &images.to_string()]);
    // What a rig keeps of a failure is of no use here, where failing is the aim.
    let evidence_folder = target_folder(root).join("mutants");
    fs::create_dir_all(&evidence_folder).map_err(|error| error.to_string())?;
    command.arg("--binary").arg(program(root, "odradek")).env("TMPDIR", &evidence_folder);
    let evidence = failing_run(root, &mut command, "Lost {");
    fs::remove_dir_all(&evidence_folder).map_err(|error| error.to_string())?;
    evidence
}

fn by_histories(root: &Path) -> Result<Option<String>, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    command.args(["histories", "--minutes", "1", "--binary"]).arg(program(root, "odradek"));
    failing_run(root, &mut command, ", such as ")
}

/// The test has to run, and to fail.
fn by_test(root: &Path, mutant: &str, name: &str) -> Result<Option<String>, String> {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--locked", "--package", "storage", "--lib"]);
    command.args(["--features", mutant, "--", name]);
    failing_run(root, &mut command, "panicked at")
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

/// Builds what the hunters run around the broken storage.
fn build(root: &Path, mutant: &str, hunters: &[Hunter]) -> Result<(), String> {
    let (krate, name) = mutant.split_once('/').unwrap_or(("storage", mutant));
    let feature = format!("{krate}/{name}");
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--profile", "sim"]);
    build.args(["--package", krate, "--features", &feature]);
    for hunter in hunters {
        let package = match hunter {
            Hunter::Simulator | Hunter::Features | Hunter::Transactions => "sim",
            Hunter::Images | Hunter::Histories => "server",
            // Cargo builds it when it runs it.
            Hunter::Test(_) => continue,
        };
        build.args(["--package", package]);
    }
    if hunters.iter().all(|hunter| matches!(hunter, Hunter::Test(_))) {
        return Ok(());
    }
    let status = build.current_dir(root).status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{mutant}: {status}")) }
}

/// A program that [`build`] has built.
fn program(root: &Path, name: &str) -> PathBuf {
    target_folder(root).join("sim").join(name)
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
