//! The commands that run something the workspace builds: the simulator and the crash rigs.

use std::path::Path;
use std::process::Command;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct SimOptions {
    /// How many seeds to run
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the simulator with its own profile (release speed, assertions on) and runs it.
///
/// # Errors
/// When it does not build, or a seed fails.
pub(crate) fn sim(root: &Path, options: &SimOptions) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--locked", "--profile", "sim", "--package", "sim", "--"]);
    command.args(["--seeds", &options.seeds.to_string()]);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    finish(command.current_dir(root), "sim")
}

fn finish(command: &mut Command, name: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}
