//! Logs, on stderr.

use std::{
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    process,
};

use tracing_subscriber::EnvFilter;

/// The exit code of a process that panicked, as Rust's own runtime has it.
const PANICKED: i32 = 101;

/// Begins to log what passes `filter`: a level, or directives by module.
pub(crate) fn begin(filter: &str) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .try_init()
        .map_err(|error| format!("cannot log: {error}"))
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
        assert!(begin("broker=loudest").unwrap_err().starts_with("--log"));
    }
}
