//! `cargo xtask compat`: Apache Kafka's own tools against Odradek and Apache Kafka side by side. What
//! they print has to be the same; tests/compat/tools.py compares it. With `--franz-go` franz-go's own
//! tests, against one and then the other; tests/compat/franz_go.py has those that are left out. With
//! `--ecosystem` Kafka Connect, Kafka Streams, MirrorMaker 2 and the like, against one and the other;
//! with `--transactions` the transactions of every client, over kill -9 of the broker.
//! With `--fuzz` random requests, the same to both at once: tests/compat/fuzz.py compares the answers.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::needs::{self, Need, Origin};
use crate::rigs::finish;
use crate::test::target_folder;

const NEEDS: &[Need] = &[Need { program: "python3", from: Origin::Package("python3") }];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A broker that is built already
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How the broker does its I/O
    #[arg(long, value_enum, default_value_t = Driver::Uring)]
    driver: Driver,
    /// Only this section of the table (may be given more than once)
    #[arg(long, value_name = "NAME")]
    section: Vec<String>,
    /// Not the tools but franz-go's own tests: minutes for each of the two brokers
    #[arg(long, conflicts_with = "section")]
    franz_go: bool,
    /// Not the tools but what is built on Kafka: minutes for each of the two brokers
    #[arg(long, conflicts_with_all = ["section", "franz_go"])]
    ecosystem: bool,
    /// Not the tools but the transactions of every client: a minute for each of the two brokers
    #[arg(long, conflicts_with_all = ["section", "franz_go", "ecosystem"])]
    transactions: bool,
    /// Not the tools but so many histories of random requests
    #[arg(
        long,
        value_name = "SEEDS",
        conflicts_with_all = ["section", "franz_go", "ecosystem", "transactions"]
    )]
    fuzz: Option<u32>,
    /// The first of the histories
    #[arg(long, value_name = "SEED", requires = "fuzz")]
    from: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Driver {
    Uring,
    Sync,
}

/// Builds the broker and runs the table, or one of the other tests.
///
/// # Errors
/// When something is missing or does not build, or a difference has no reason or a test fails.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    needs::ensure(NEEDS)?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary).map_err(|error| error.to_string())?,
        None => {
            let mut build = Command::new("cargo");
            build.args(["build", "--locked", "--release", "--package", "server"]);
            finish(build.current_dir(root), "the build")?;
            target_folder(root).join("release").join("odradek")
        }
    };
    let driver = match options.driver {
        Driver::Uring => "uring",
        Driver::Sync => "sync",
    };
    if options.franz_go {
        return both(root, "tests/compat/franz_go.py", &binary, driver);
    }
    if options.ecosystem {
        return both(root, "tests/compat/ecosystem.py", &binary, driver);
    }
    if options.transactions {
        return both(root, "tests/compat/transactions.py", &binary, driver);
    }
    if let Some(seeds) = options.fuzz {
        let from = options.from.unwrap_or(0);
        let mut test = Command::new("python3");
        test.arg("tests/compat/fuzz.py").arg("--broker").arg(binary).args(["--driver", driver]);
        test.args(["--seeds", &seeds.to_string(), "--from", &from.to_string()]);
        return finish(test.current_dir(root), "the comparison");
    }
    let mut test = Command::new("python3");
    test.arg("tests/compat/tools.py").arg("--broker").arg(binary).args(["--driver", driver]);
    for section in &options.section {
        test.args(["--section", section]);
    }
    finish(test.current_dir(root), "the comparison")
}

/// Runs a test against the binary and then, as the reference, against Apache Kafka.
fn both(root: &Path, program: &str, binary: &Path, driver: &str) -> Result<(), String> {
    for broker in [binary, Path::new("kafka")] {
        let mut test = Command::new("python3");
        test.arg(program).arg("--broker").arg(broker).args(["--driver", driver]);
        finish(test.current_dir(root), program)?;
    }
    Ok(())
}
