//! `odradek doctor`: what this machine would do to a broker with these settings, and what to do
//! about it. It measures and asks the kernel; it changes nothing, and leaves no file behind.
//!
//! A finding is bad where the broker would not start, or would refuse its clients; a warning where
//! it runs and could be faster or safer.

mod disk;
mod kernel;
mod ports;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use crate::{Place, alone, table::Format, threads};

const IN_MEMORY: &str = "a string takes everything";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek doctor
  odradek doctor --config server.properties --format json
  odradek doctor --data-dir /var/lib/odradek --listen :9092

Exit code: 0 if nothing is bad (there may be warnings), 1 if something is.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    place: Place,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Bad,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    /// What is so.
    found: String,
    /// What that means for the broker.
    meaning: String,
    /// What to do about it; nothing where it is well.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>, meaning: impl Into<String>) -> Finding {
        let (found, meaning) = (found.into(), meaning.into());
        Finding { check, status: Status::Ok, found, meaning, advice: None }
    }

    fn warn(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding {
            status: Status::Warn,
            advice: Some(advice.into()),
            ..Finding::ok(check, found, meaning)
        }
    }

    fn bad(
        check: &'static str,
        found: impl Into<String>,
        meaning: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { status: Status::Bad, ..Finding::warn(check, found, meaning, advice) }
    }
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(options: &Doctor) -> Result<(), String> {
    let (config, inert) = options.place.load()?;
    let preference = options.place.driver();
    let shards = options.place.shards.unwrap_or_else(threads::core_count);
    let mut findings = Vec::new();
    if !inert.is_empty() {
        let meaning = "these settings do nothing here";
        let advice = "take them out, or read docs/COMPATIBILITY.md on what they are for";
        findings.push(Finding::warn("settings", inert.join(", "), meaning, advice));
    }
    kernel::look(preference, shards, &mut findings);
    disk::look(&config, &mut findings);
    ports::look(&config, &mut findings);
    alone::print(&render(&findings, options.format))?;
    match findings.iter().filter(|one| one.status == Status::Bad).count() {
        0 => Ok(()),
        1 => Err("1 finding is bad".to_owned()),
        count => Err(format!("{count} findings are bad")),
    }
}

fn render(findings: &[Finding], format: Format) -> String {
    if format == Format::Json {
        let json = serde_json::to_string_pretty(findings).expect("texts alone");
        return format!("{json}\n");
    }
    let mut text = String::new();
    for finding in findings {
        let Finding { check, status, found, meaning, advice } = finding;
        writeln!(text, "{:<5} {check:<9} {found}: {meaning}", status.name()).expect(IN_MEMORY);
        if let Some(advice) = advice {
            writeln!(text, "                -> {advice}").expect(IN_MEMORY);
        }
    }
    text
}

/// Sizes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["GiB", "MiB", "KiB", "bytes"];
    let shift = |index: usize| 30 - 10 * index;
    let unit = (0..UNITS.len()).find(|index| bytes >> shift(*index) > 0).unwrap_or(3);
    format!("{} {}", bytes >> shift(unit), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_advice_another() {
        let findings = [
            Finding::ok("clock", "synchronised", "timestamps are right"),
            Finding::bad("port", "taken", "no start", "another --listen"),
        ];
        assert_eq!(
            render(&findings, Format::Table),
            "ok    clock     synchronised: timestamps are right\n\
             bad   port      taken: no start\n                -> another --listen\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&render(&findings, Format::Json)).unwrap();
        assert_eq!(json[1]["status"], "bad");
        assert_eq!(json[0]["advice"], serde_json::Value::Null);
    }

    #[test]
    fn sizes_are_told_in_the_largest_unit_that_they_fill() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (5 << 30, "5 GiB")];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected);
        }
    }
}
