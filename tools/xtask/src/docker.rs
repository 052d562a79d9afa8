//! `cargo xtask docker`: the first scenario through docker compose, on an image around a static
//! binary that is built here. Not a stage of the test command: it needs root, an engine and port
//! 9092.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::needs::{self, Need, Origin};
use crate::rigs::finish;
use crate::test::target_folder;

const MUSL: &str = "x86_64-unknown-linux-musl";

const NEEDS: &[Need] = &[
    Need { program: "python3", from: Origin::Package("python3") },
    Need { program: "docker", from: Origin::Package("docker.io") },
    Need { program: "dockerd", from: Origin::Package("docker.io") },
    Need { program: "docker-compose", from: Origin::Package("docker-compose") },
];

/// The allocator is C: it needs a compiler for musl.
const MUSL_NEEDS: &[Need] = &[Need { program: "musl-gcc", from: Origin::Package("musl-tools") }];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A static binary that is there already
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Start an engine for the test, or take the one that `docker` talks to
    #[arg(long, value_enum, default_value_t = Engine::Own)]
    engine: Engine,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Engine {
    Own,
    Machine,
}

impl Engine {
    /// As the tests take it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Engine::Own => "own",
            Engine::Machine => "machine",
        }
    }
}

/// Builds the binary and runs tests/docker.
///
/// # Errors
/// When something is missing or does not build, or a test failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    ensure(options.engine)?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary).map_err(|error| error.to_string())?,
        None => static_build(root)?,
    };
    let mut test = Command::new("python3");
    test.args(["tests/docker/run.py", "--engine", options.engine.word(), "--binary"]).arg(binary);
    finish(test.current_dir(root), "docker")
}

/// Makes sure that the engine can be had.
///
/// # Errors
/// One line that says what is missing.
pub(crate) fn ensure(engine: Engine) -> Result<(), String> {
    match engine {
        Engine::Own if !needs::is_root() => {
            Err("dockerd needs root; --engine machine takes a running one".to_owned())
        }
        Engine::Own | Engine::Machine => needs::ensure(NEEDS),
    }
}

/// Builds the binary that needs no library of the machine.
///
/// # Errors
/// When a compiler is missing or it does not build.
pub(crate) fn static_build(root: &Path) -> Result<PathBuf, String> {
    needs::ensure(MUSL_NEEDS)?;
    let mut add = Command::new("rustup");
    finish(add.args(["--quiet", "target", "add", MUSL]).current_dir(root), "rustup")?;
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--release", "--package", "server"]);
    finish(build.args(["--target", MUSL]).current_dir(root), "static build")?;
    Ok(target_folder(root).join(MUSL).join("release").join("odradek"))
}
