//! Logs, on stderr, and their levels: by module, each going by the nearest level above it.

use std::{
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    process,
};

use broker::loggers::{Level, Loggers, ROOT};
use model::collections::BTreeMap;
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// The exit code of a process that panicked, as Rust's own runtime has it.
const PANICKED: i32 = 101;

/// The modules that log, and what they are parts of: what levels can be set for.
const MODULES: [&str; 47] = [
    "broker",
    "broker::api",
    "broker::api::consumer_group_heartbeat",
    "broker::api::fetch",
    "broker::api::init_producer_id",
    "broker::api::metadata",
    "broker::api::produce",
    "broker::connection",
    "broker::coordinator_desk",
    "broker::coordinator_log",
    "broker::follow",
    "broker::markers",
    "broker::metadata_log",
    "broker::metadata_snapshot",
    "broker::retention",
    "broker::shard",
    "broker::start",
    "broker::start_topics",
    "broker::stop",
    "broker::telemetry",
    "broker::transactions",
    "odradek",
    "odradek::admin",
    "odradek::logs",
    "odradek::threads",
    "runtime",
    "runtime::executor",
    "runtime::uring",
    "runtime::uring::registered",
    "runtime::workers",
    "storage",
    "storage::cold",
    "storage::compact",
    "storage::compact::schedule",
    "storage::compact::swap",
    "storage::directory",
    "storage::disk_failure",
    "storage::finish",
    "storage::gone",
    "storage::handles",
    "storage::log",
    "storage::marks",
    "storage::recovery",
    "storage::removal",
    "storage::retention",
    "storage::scrub",
    "storage::write",
];
/// The levels that something is logged at, the one that lets most through first.
const LEVELS: [(Level, tracing::Level); 5] = [
    (Level::Trace, tracing::Level::TRACE),
    (Level::Debug, tracing::Level::DEBUG),
    (Level::Info, tracing::Level::INFO),
    (Level::Warn, tracing::Level::WARN),
    (Level::Error, tracing::Level::ERROR),
];

/// Begins to log what passes `filter`: a level, or levels by module. The levels can be altered by
/// what it gives.
pub(crate) fn begin(filter: &str) -> Result<Levels, String> {
    let targets = targets(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    let (layer, handle) = reload::Layer::new(targets);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let begun = tracing_subscriber::registry().with(layer).with(lines).try_init();
    begun.map_err(|error| format!("cannot log: {error}"))?;
    Ok(Levels(handle))
}

fn targets(filter: &str) -> Result<Targets, String> {
    filter.parse().map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

/// The levels of this process.
pub(crate) struct Levels(reload::Handle<Targets, Registry>);

impl Loggers for Levels {
    fn levels(&self) -> Vec<(&'static str, Level)> {
        // The handle outlives what it is of, since nothing takes that away.
        let targets = self.0.clone_current().unwrap_or_default();
        [ROOT].iter().chain(&MODULES).map(|name| (*name, level_of(&targets, name))).collect()
    }

    fn set(&self, changes: &[(String, Option<Level>)]) {
        let altered = self.0.modify(|targets| *targets = with(targets, changes));
        match altered {
            Ok(()) => tracing::info!(?changes, "log levels altered"),
            Err(error) => tracing::error!(%error, "log levels not altered"),
        }
    }
}

/// The level that a module goes by.
fn level_of(targets: &Targets, name: &str) -> Level {
    let passes = |(_, level): &(Level, tracing::Level)| {
        if name == ROOT {
            targets.default_level().is_some_and(|default| default >= *level)
        } else {
            targets.would_enable(name, level)
        }
    };
    LEVELS.into_iter().find(passes).map_or(Level::Fatal, |(level, _)| level)
}

fn with(targets: &Targets, changes: &[(String, Option<Level>)]) -> Targets {
    let mut default = targets.default_level().unwrap_or(LevelFilter::OFF);
    let mut own: BTreeMap<String, LevelFilter> =
        targets.iter().map(|(name, level)| (name.to_owned(), level)).collect();
    for (name, level) in changes {
        let filter = level.map(|level| {
            let found = LEVELS.into_iter().find(|(known, _)| *known == level);
            found.map_or(LevelFilter::OFF, |(_, level)| LevelFilter::from_level(level))
        });
        match filter {
            Some(filter) if name == ROOT => default = filter,
            Some(filter) => drop(own.insert(name.clone(), filter)),
            None => drop(own.remove(name)),
        }
    }
    Targets::new().with_default(default).with_targets(own)
}

/// From now on a panic of any thread is one line on stderr and the end of the process: a shard
/// that is gone would leave its partitions' clients waiting.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        crate::report(&panic_line(panic));
        process::exit(PANICKED);
    }));
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let payload = panic.payload_as_str().unwrap_or("no text").replace('\n', " ");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    format!("this is a bug: {thread} panicked at {place}: {payload}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{env, process::Command};

    /// Set for the process that is to panic.
    const CHILD: &str = "ODRADEK_TEST_PANICS";

    #[test]
    fn a_panic_of_a_thread_ends_the_process_with_one_line() {
        if env::var_os(CHILD).is_some() {
            report_panics();
            let thread = std::thread::Builder::new().name("shard-7".to_owned());
            thread.spawn(|| panic!("two\nlines")).unwrap().join().unwrap();
            return;
        }
        let name = "logs::tests::a_panic_of_a_thread_ends_the_process_with_one_line";
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(PANICKED));
        let stderr = String::from_utf8(output.stderr).unwrap();
        let said: Vec<&str> = stderr.lines().filter(|line| line.contains("panicked")).collect();
        assert_eq!(said.len(), 1, "{stderr}");
        assert!(said[0].contains("shard-7") && said[0].ends_with("two lines"), "{stderr}");
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        assert!(begin("broker=loudest").err().unwrap().starts_with("--log"));
    }

    #[test]
    fn a_logger_goes_by_the_nearest_level_above_it() {
        let targets = targets("warn,broker=debug,broker::api=off").unwrap();
        let check = |targets: &Targets, expected: [(&str, Level); 4]| {
            for (name, level) in expected {
                assert_eq!(level_of(targets, name), level, "{name}");
            }
        };
        check(
            &targets,
            [
                (ROOT, Level::Warn),
                ("storage", Level::Warn),
                ("broker::start", Level::Debug),
                ("broker::api::produce", Level::Fatal),
            ],
        );
        let changes = [
            (ROOT.to_owned(), Some(Level::Error)),
            ("broker".to_owned(), None),
            ("broker::api".to_owned(), Some(Level::Fatal)),
            ("broker::api::produce".to_owned(), Some(Level::Trace)),
        ];
        check(
            &with(&targets, &changes),
            [
                (ROOT, Level::Error),
                ("broker::start", Level::Error),
                ("broker::api::fetch", Level::Fatal),
                ("broker::api::produce", Level::Trace),
            ],
        );
    }

    #[test]
    fn every_module_that_logs_has_its_logger() {
        let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut found = std::collections::BTreeSet::new();
        for (folder, name) in [
            ("broker", "broker"),
            ("runtime", "runtime"),
            ("server", "odradek"),
            ("storage", "storage"),
        ] {
            look_for_modules(&crates.join(folder).join("src"), name, &mut found);
        }
        let parents: Vec<String> = found
            .iter()
            .flat_map(|name| name.match_indices("::").map(|(end, _)| name[..end].to_owned()))
            .collect();
        found.extend(parents);
        assert!(MODULES.iter().eq(found.iter()), "MODULES ought to be {found:#?}");
    }

    /// The modules of a folder in whose code something is logged.
    fn look_for_modules(
        folder: &std::path::Path,
        parent: &str,
        found: &mut std::collections::BTreeSet<String>,
    ) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap();
            let stem =
                stem.trim_start_matches(|first: char| first.is_ascii_digit() || first == '_');
            let module = match stem {
                "main" | "lib" | "mod" => parent.to_owned(),
                name => format!("{parent}::{name}"),
            };
            if path.is_dir() {
                look_for_modules(&path, &module, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            if ["error", "warn", "info", "debug", "trace"]
                .iter()
                .any(|level| code.contains(&format!("tracing::{level}!(")))
            {
                found.insert(module);
            }
        }
    }
}
