//! `cargo xtask bench-peers`: Odradek beside Apache Kafka, every figure from one run of both, and the
//! tables of docs/PERFORMANCE.md from it. Builds what it needs; tests/bench/peers.py does the rest.

use std::path::Path;
use std::process::Command;

use clap::Args;

use crate::needs::{self, Need, Origin};
use crate::rigs::{finish, release_build};

const NEEDS: &[Need] = &[
    Need { program: "python3", from: Origin::Package("python3") },
    Need { program: "cc", from: Origin::Package("gcc") },
    Need { program: "java", from: Origin::Package("openjdk-17-jdk-headless") },
    Need { program: "mvn", from: Origin::Package("maven") },
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The headline rows in 3 rounds, half an hour; else 5 rounds with more rows, hours
    #[arg(long)]
    quick: bool,
    /// Another number of rounds
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Only this step (may be given more than once); the document is not written then
    #[arg(long, value_name = "NAME")]
    step: Vec<String>,
    /// `uring` or `sync`
    #[arg(long, default_value = "uring")]
    driver: String,
}

/// Builds the broker, the loads and the limits, runs both brokers and writes the document.
///
/// # Errors
/// When something is missing or does not build, or a case failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    needs::ensure(NEEDS)?;
    let binary = release_build(root)?;
    let mut build = Command::new("cargo");
    build.args(["build", "--locked", "--release", "--package", "tests", "--bins"]);
    finish(build.current_dir(root), "the build")?;
    let mut bench = Command::new("python3");
    bench.arg("tests/bench/peers.py").args(["--driver", &options.driver]);
    bench.arg("--broker").arg(binary);
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(rounds) = options.rounds {
        bench.args(["--rounds", &rounds.to_string()]);
    }
    for step in &options.step {
        bench.args(["--step", step]);
    }
    finish(bench.current_dir(root), "the benchmark")
}
