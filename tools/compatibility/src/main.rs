//! Writes the generated part of docs/COMPATIBILITY.md, between its two markers, from the broker's
//! own table; with `--check` it writes nothing and fails if the two differ.
//!
//! Run by `cargo xtask compatibility`. Apart from xtask, so that its other commands do not have to
//! build a broker.
#![expect(clippy::print_stderr, reason = "a command line tool reports so")]

mod kafka;

use std::{env, fmt::Write, fs, path::Path, process::ExitCode};

use broker::api::OFFERED;
use kafka::{APIS, Area};

const FILE: &str = "docs/COMPATIBILITY.md";
const BEGIN: &str = "<!-- made by `cargo xtask compatibility` from here -->\n";
const END: &str = "<!-- to here -->\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{FILE}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let is_check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => return Err(format!("{other}: --check or nothing expected")),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let path = root.expect("tools/compatibility lies two levels below the root").join(FILE);
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let wanted = with_part(&text, &part())?;
    if wanted == text {
        return Ok(());
    }
    if is_check {
        return Err("not what the broker offers: run `cargo xtask compatibility`".to_owned());
    }
    fs::write(&path, wanted).map_err(|error| error.to_string())
}

/// `text` with what stands between the markers replaced.
fn with_part(text: &str, part: &str) -> Result<String, String> {
    let (head, rest) = text.split_once(BEGIN).ok_or("the first marker is missing")?;
    let (_, tail) = rest.split_once(END).ok_or("the second marker is missing")?;
    Ok(format!("{head}{BEGIN}{part}{END}{tail}"))
}

fn part() -> String {
    let mut part = String::from("\n| key | API | here | Apache Kafka 4.4.0 |\n|---|---|---|---|\n");
    for row in OFFERED {
        let key = row.key.number();
        let api = APIS.iter().find(|api| api.key == key).expect("the list has every API");
        let here = versions(row.min, row.max);
        line(
            &mut part,
            &format!("| {key} | {} | {here} | {} |", api.name, versions(api.min, api.max)),
        );
    }
    line(&mut part, &format!("\n{} of {} APIs. Not offered:\n", OFFERED.len(), APIS.len()));
    let is_offered = |key: i16| OFFERED.iter().any(|row| row.key.number() == key);
    for area in Area::ALL {
        let missing = APIS.iter().filter(|api| api.area == area && !is_offered(api.key));
        let names: Vec<&str> = missing.map(|api| api.name).collect();
        if !names.is_empty() {
            line(&mut part, &format!("- {}: {}", area.name(), names.join(", ")));
        }
    }
    part.push('\n');
    part
}

fn versions(min: i16, max: i16) -> String {
    if min == max { min.to_string() } else { format!("{min}-{max}") }
}

fn line(part: &mut String, text: &str) {
    writeln!(part, "{text}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_offered_that_apache_kafka_does_not_know() {
        assert!(APIS.is_sorted_by_key(|api| api.key) && APIS.len() == 91);
        for row in OFFERED {
            let key = row.key.number();
            let api = APIS.iter().find(|api| api.key == key).unwrap();
            assert_eq!(api.name, row.key.name());
            assert!(api.min <= row.min && row.min <= row.max && row.max <= api.max, "{row:?}");
        }
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(with_part(&text, "new\n"), Ok(format!("a\n{BEGIN}new\n{END}b\n")));
        assert!(with_part("a", "new").is_err());
    }
}
