//! The binary `odradek`: command line and composition root.
//!
//! Whatever it refuses, it says so in one line on stderr and ends with a non-zero code. The
//! broker's stdout has the ready line and nothing else.

mod admin;
mod alone;
mod config;
mod cpu_time;
mod doctor;
mod environment;
mod group;
mod health;
mod log;
mod logs;
mod manual;
mod offset_choice;
mod perf;
mod properties;
mod settings;
mod slow_requests;
mod start_topics;
mod status;
mod table;
mod threads;
mod topic;
mod txn;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use broker::config::BrokerConfig;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use runtime::DriverPreference;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Shards at most: each pair of them has a ring of its own.
const SHARDS_MAX: i64 = 256;

#[derive(Debug, Parser)]
#[command(name = "odradek", version, about = "A Kafka broker: one thread a core, io_uring")]
#[command(after_help = "Examples:
  odradek start --topic orders:3
  echo hello | odradek topic produce orders
  odradek topic consume orders --follow
  odradek status --slow")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Start(Start),
    /// Ask a broker whether it answers; the exit code tells
    Health(Health),
    /// Show how a cluster and a broker are: load, lag, disk, and what is slow
    Status(status::Status),
    /// Look at this machine: what is in a broker's way, and what to do about it
    Doctor(doctor::Doctor),
    /// Topics: list, describe, create, alter, trim, delete, produce, consume
    #[command(subcommand)]
    Topic(topic::Command),
    /// Consumer groups: list, describe with lag, seek, delete
    #[command(subcommand)]
    Group(group::Command),
    /// Settings of topics, brokers, groups and clients' metrics: describe, set, delete
    #[command(subcommand)]
    Config(config::Command),
    /// Transactions: list, describe, producers, find-hanging, abort
    #[command(subcommand)]
    Txn(txn::Command),
    /// Look into a data directory, without a broker
    #[command(subcommand)]
    Log(log::Command),
    /// Print what a shell completes these commands by
    #[command(after_help = "Examples:
  odradek completions bash > /etc/bash_completion.d/odradek
  odradek completions zsh > ~/.zfunc/_odradek
  odradek completions fish > ~/.config/fish/completions/odradek.fish")]
    Completions(Completions),
    /// Print the manual page, or write those of all commands
    #[command(after_help = "Examples:
  odradek man | man -l -
  odradek man > /usr/local/share/man/man1/odradek.1
  odradek man --dir /usr/local/share/man/man1")]
    Man(Man),
    /// Put a load on a broker, any Kafka broker, and measure it
    #[command(subcommand)]
    Perf(perf::Command),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek start
  odradek start --listen :9092 --data-dir /srv/kafka --topic orders:3
  odradek start --config server.properties --set log.retention.hours=24
  odradek start --log info,broker=debug")]
struct Start {
    #[command(flatten)]
    place: Place,
    /// A topic to make at the start if it is not there; without a number it has `num.partitions`;
    /// repeatable
    #[arg(long = "topic", value_name = "NAME[:PARTITIONS]")]
    topics: Vec<String>,
    /// What is logged on stderr: off, error, warn, info, debug, trace, or by module
    /// (`info,broker=debug`)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

/// A broker as it would be on this machine.
#[derive(Debug, Args)]
struct Place {
    /// Where to listen [default: the setting `listeners`, else 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where the logs are [default: the setting `log.dirs`, else ./odradek-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Threads that share the work [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=SHARDS_MAX))]
    shards: Option<u16>,
    /// How the operating system is asked
    #[arg(long, value_enum, default_value_t = Driver::Auto)]
    driver: Driver,
    /// Settings by Kafka's names
    #[arg(long, value_name = "server.properties")]
    config: Option<PathBuf>,
    /// One setting by Kafka's name, over the file and the KAFKA_* variables; repeatable
    #[arg(long = "set", value_name = "NAME=VALUE")]
    sets: Vec<String>,
}

impl Place {
    /// The settings from all their sources, and the names of those that do nothing.
    ///
    /// # Errors
    /// One line that names what is refused.
    fn load(&self) -> Result<(BrokerConfig, Vec<String>), String> {
        let given = settings::Given {
            listen: self.listen.as_deref(),
            data_dir: self.data_dir.as_deref(),
            file: self.config.as_deref(),
            sets: &self.sets,
        };
        settings::load(&given).map_err(|error| error.to_string())
    }

    fn driver(&self) -> DriverPreference {
        match self.driver {
            Driver::Auto => DriverPreference::Auto,
            Driver::Uring => DriverPreference::Uring,
            Driver::Sync => DriverPreference::Sync,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    /// io_uring, or epoll where io_uring is refused
    Auto,
    /// io_uring or nothing
    Uring,
    /// epoll, and threads for files
    Sync,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek health
  odradek health --bootstrap-server kafka-1:9092 --timeout-ms 500")]
struct Health {
    /// The broker [default: the first listener of --config and the KAFKA_* variables, else
    /// 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// The settings of a broker on this machine
    #[arg(long, value_name = "server.properties", conflicts_with = "bootstrap_server")]
    config: Option<PathBuf>,
    /// How long to wait for its answer
    #[arg(long, value_name = "MS", default_value_t = 3000)]
    timeout_ms: u32,
}

#[derive(Debug, Args)]
struct Man {
    /// Write a page for each command there: odradek.1, odradek-topic.1, odradek-topic-create.1
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

fn main() -> ExitCode {
    let started = process_start();
    let result = match Arguments::parse().command {
        Command::Start(options) => start(&options, started),
        Command::Health(options) => health(&options),
        Command::Status(options) => status::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Topic(command) => topic::run(command),
        Command::Group(command) => group::run(command),
        Command::Config(command) => config::run(command),
        Command::Txn(command) => txn::run(command),
        Command::Log(command) => log::run(&command),
        Command::Completions(Completions { shell }) => completions(shell),
        Command::Man(options) => print_manual(&options),
        Command::Perf(command) => perf::run(&command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            report(&reason);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "no shard runs yet whose clock could be asked")]
fn process_start() -> Instant {
    Instant::now()
}

fn start(options: &Start, started: Instant) -> Result<(), String> {
    let levels = logs::begin(&options.log)?;
    logs::report_panics();
    // Before any other thread exists, so that none is interrupted.
    let signals =
        runtime::block_signals().map_err(|error| format!("cannot hold signals back: {error}"))?;
    let (mut config, inert) = options.place.load()?;
    let variable = std::env::var(start_topics::VARIABLE).ok();
    config.start_topics = start_topics::merge(&options.topics, variable.as_deref())?;
    if !inert.is_empty() {
        tracing::warn!(settings = inert.join(", "), "these settings do nothing here");
    }
    let count = options.place.shards.unwrap_or_else(threads::core_count);
    let shards = threads::Shards { count, driver: options.place.driver() };
    threads::run(shards, config, Arc::new(levels), signals, move || started.elapsed())
        .map_err(|error| error.to_string())
}

fn health(options: &Health) -> Result<(), String> {
    let limit = Duration::from_millis(options.timeout_ms.into());
    let address = match &options.bootstrap_server {
        Some(text) => settings::resolve_text(text),
        None => settings::first_listener(options.config.as_deref()),
    };
    let address = address.map_err(|error| error.to_string())?;
    health::check(address, limit).map_err(|error| format!("{address}: {error}"))
}

fn completions(shell: Shell) -> Result<(), String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "odradek", &mut script);
    alone::print(&String::from_utf8_lossy(&script))
}

fn print_manual(options: &Man) -> Result<(), String> {
    if let Some(dir) = &options.dir {
        let written = manual::write_all(Arguments::command(), dir);
        return written.map_err(|error| format!("{}: {error}", dir.display()));
    }
    // There is no page of the help.
    let page = manual::page(Arguments::command().disable_help_subcommand(true));
    alone::print(&page.map_err(|error| error.to_string())?)
}

/// The one line for whoever started the process.
#[expect(clippy::print_stderr, reason = "it has to be seen whatever the log's level is")]
fn report(reason: &str) {
    eprintln!("odradek: {reason}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of the calls of `odradek` in a line for a shell.
    fn calls(line: &str) -> Vec<Vec<String>> {
        let calls = line.split(" | ").filter(|call| call.starts_with("odradek "));
        let words = |call: &str| {
            let end = call.find(['<', '>']).unwrap_or(call.len());
            let mut words = vec![String::new()];
            for (index, part) in call[..end].trim().split('\'').enumerate() {
                let is_quoted = index % 2 == 1;
                for character in part.chars() {
                    match character {
                        ' ' if !is_quoted => words.push(String::new()),
                        _ => words.last_mut().unwrap().push(character),
                    }
                }
            }
            words
        };
        calls.map(words).collect()
    }

    fn check_examples(command: &clap::Command, checked: &mut usize) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for call in help.lines().flat_map(|line| calls(line.trim())) {
            let parsed = Arguments::try_parse_from(&call);
            assert!(parsed.is_ok(), "{call:?}: {}", parsed.unwrap_err());
            *checked += 1;
        }
        command.get_subcommands().for_each(|one| check_examples(one, checked));
    }

    #[test]
    fn every_command_has_examples_and_all_of_them_are_taken() {
        let command = Arguments::command();
        let mut checked = 0;
        check_examples(&command, &mut checked);
        assert!(checked > 40, "{checked} examples");
        for one in command.get_subcommands() {
            assert!(one.get_after_help().is_some(), "{} has no example", one.get_name());
        }
    }
}
