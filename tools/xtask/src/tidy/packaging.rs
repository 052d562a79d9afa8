//! What packages are made of, as far as it can be judged without building one: the unit, and the
//! control file. `cargo xtask release` builds them and has the rest.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Finding;

pub(super) const UNIT: &str = "packaging/odradek.service";
pub(super) const CONTROL: &str = "packaging/debian/control";

/// What `@system-service` leaves out, and without which the broker falls back to epoll.
const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];

/// Lines that the unit has to have.
const UNIT_LINES: &[&str] = &[
    "ExecStart=/usr/bin/odradek start --config /etc/odradek/server.properties",
    "User=odradek",
    "StateDirectory=odradek",
    "ProtectSystem=strict",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
];

/// Fields that the control file has to have; what stands in braces the release fills in.
const FIELDS: &[(&str, &str)] = &[
    ("Package", "odradek"),
    ("Version", "{version}"),
    ("Architecture", "{architecture}"),
    ("Maintainer", ""),
    ("Section", ""),
    ("Priority", "optional"),
    ("Installed-Size", "{size}"),
    // The installation makes a user.
    ("Depends", "adduser"),
    ("Description", ""),
];

/// What Debian's tools show of a description on one line.
const SYNOPSIS_CHARACTERS_MAX: usize = 80;

/// The rule for `file`, if it is one of a package's sources.
pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    match file {
        UNIT => check_unit(content),
        CONTROL => check_control(content),
        _ => Vec::new(),
    }
}

fn check_unit(content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in content.lines().enumerate() {
        let is_section = line.starts_with('[') && line.ends_with(']');
        let is_setting = line.split_once('=').is_some_and(|(name, _)| is_name(name));
        if !line.is_empty() && !line.starts_with('#') && !is_section && !is_setting {
            findings.push(Finding::new(UNIT, index + 1, "neither a setting nor a section"));
        }
    }
    for wanted in UNIT_LINES {
        if !content.lines().any(|line| line == *wanted) {
            findings.push(Finding::new(UNIT, 0, format!("`{wanted}` is not there")));
        }
    }
    for call in IO_URING {
        if !allows(content, call) {
            findings.push(Finding::new(UNIT, 0, format!("the system call {call} is not allowed")));
        }
    }
    findings
}

/// Whether a line of the filter allows `call` by its name and none behind it takes that back.
fn allows(unit: &str, call: &str) -> bool {
    let mut allowed = false;
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match filter.strip_prefix('~') {
            // What is in a group only systemd knows.
            Some(refused) => {
                let by_group = refused.split_whitespace().any(|word| word.starts_with('@'));
                allowed &= !by_group && !refused.split_whitespace().any(|word| word == call);
            }
            None => allowed |= filter.split_whitespace().any(|word| word == call),
        }
    }
    allowed
}

fn check_control(content: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for (index, line) in content.lines().enumerate() {
        match line.split_once(": ") {
            // A paragraph of the description goes on, or ends with a dot alone.
            _ if line.starts_with(' ') && line.len() > 1 && !fields.is_empty() => {}
            Some((name, value)) if is_name(name) => fields.push((name, value)),
            _ => findings.push(Finding::new(CONTROL, index + 1, "not a field nor more of one")),
        }
    }
    for (name, wanted) in FIELDS {
        match fields.iter().find(|field| field.0 == *name) {
            None => findings.push(Finding::new(CONTROL, 0, format!("the field {name} is missing"))),
            Some((_, value)) if !wanted.is_empty() && value != wanted => {
                let message = format!("{name} is `{value}`, not `{wanted}`");
                findings.push(Finding::new(CONTROL, 0, message));
            }
            Some((_, value)) if *name == "Description" => {
                if value.chars().count() > SYNOPSIS_CHARACTERS_MAX || value.ends_with('.') {
                    findings.push(Finding::new(CONTROL, 0, "the synopsis is no short phrase"));
                }
            }
            Some(_) => {}
        }
    }
    findings
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
}

/// What systemd says of the unit, where systemd is installed.
pub(super) fn verify(root: &Path) -> Vec<Finding> {
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no", UNIT]).current_dir(root);
    let Ok(output) = verify.stdin(Stdio::null()).output() else { return Vec::new() };
    complaints(&String::from_utf8_lossy(&output.stderr))
}

/// Its lines about the unit, but that the package is not installed here.
fn complaints(said: &str) -> Vec<Finding> {
    said.lines()
        .filter(|line| line.contains("odradek.service:") && !line.contains("is not executable"))
        .map(|line| Finding::new(UNIT, 0, line.rsplit('/').next().unwrap_or(line)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_UNIT: &str = include_str!("../../../../packaging/odradek.service");
    const GOOD_CONTROL: &str = include_str!("../../../../packaging/debian/control");

    /// How many findings there are where each alteration is made to what is good.
    fn assert_found(file: &str, good: &str, cases: &[(&str, &str, usize)]) {
        for (from, to, expected) in cases {
            assert!(good.contains(from), "{from} was altered: alter the case");
            let findings = check(file, &good.replace(from, to));
            assert_eq!(findings.len(), *expected, "{from} to {to}: {findings:?}");
        }
    }

    #[test]
    fn what_makes_a_unit_useless_is_found() {
        let calls = "SystemCallFilter=io_uring_setup io_uring_enter io_uring_register";
        let cases: &[(&str, &str, usize)] = &[
            ("", "", 0),
            ("io_uring_register", "", 1),
            (calls, "SystemCallFilter=@io-event", 3),
            (calls, "SystemCallFilter=io_uring_setup\nSystemCallFilter=~@mount", 3),
            ("SystemCallErrorNumber", "SystemCallFilter=~io_uring_enter\nSystemCallErrorNumber", 1),
            ("SystemCallErrorNumber", "SystemCallFilter=~io_destroy\nSystemCallErrorNumber", 0),
            ("User=odradek", "User=root", 1),
            ("[Install]", "[Install", 1),
            ("ProtectClock=yes", "ProtectClock", 1),
        ];
        assert_found(UNIT, GOOD_UNIT, cases);
    }

    #[test]
    fn what_makes_a_control_file_useless_is_found() {
        let cases: &[(&str, &str, usize)] = &[
            ("", "", 0),
            ("Depends: adduser\n", "", 1),
            ("{version}", "0.1.0", 1),
            ("\n .\n", "\n\n", 1),
            ("\n thread", "\nthread", 1),
            ("Kafka broker,", "A Kafka broker of which there is so much more to say than this,", 1),
        ];
        assert_found(CONTROL, GOOD_CONTROL, cases);
    }

    #[test]
    fn what_systemd_says_of_others_is_not_told() {
        let said = "odradek.service: Command /usr/bin/odradek is not executable: No such file\n\
                    a/b/odradek.service:32: Unknown key 'ProtectClok' in section [Service]\n\
                    other.service:1: Unknown key\n";
        let findings = complaints(said);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.starts_with("odradek.service:32: Unknown key"));
    }
}
