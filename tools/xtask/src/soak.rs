//! `cargo xtask soak`: the long forms of the checks that find more the longer they run, one after
//! the other. Each ends with its own summary line; the last line adds them up.
//!
//! The whole takes hours; `--percent 1` shows that all of it runs. As `cargo xtask test`, a part
//! that fails does not hide the next one.

use std::path::Path;
use std::time::Instant;

use clap::Args;

use crate::needs;
use crate::stages::{Count, Privilege};
use crate::test::{Report, Tally, command, run_counted, summarise};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How much of each part to run
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    percent: u64,
    /// The first simulator seed; those that once failed run before it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Run only these parts (as the list names them; may be given more than once)
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Name the parts and do nothing
    #[arg(long)]
    list: bool,
}

/// A long run.
struct Part {
    name: &'static str,
    /// How much of it is the whole; nothing where it has one size.
    size: Option<u64>,
    privilege: Privilege,
    count: Count,
    /// `{size}` stands for so much of `size` as is asked for, `{seed}` for the first seed.
    words: &'static [&'static str],
    /// A variable of the environment that says the size.
    variable: Option<&'static str>,
}

const PARTS: &[Part] = &[
    Part {
        name: "simulator",
        size: Some(10_000),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "sim", "--seeds", "{size}", "--from", "{seed}"],
        variable: None,
    },
    Part {
        name: "simulator features",
        size: Some(10_000),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "sim", "--features", "--seeds", "{size}", "--from", "{seed}"],
        variable: None,
    },
    Part {
        name: "simulator transactions",
        size: Some(10_000),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "sim", "--transactions", "--seeds", "{size}", "--from", "{seed}"],
        variable: None,
    },
    Part {
        name: "mutants",
        size: None,
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "mutants"],
        variable: None,
    },
    Part {
        name: "flips",
        size: Some(10_000),
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &[
            "cargo",
            "test",
            "--locked",
            "--profile",
            "sim",
            "--package",
            "storage",
            "--lib",
            "--",
            "--nocapture",
            "no_flipped_bit_is_served_or_costs_a_record_without_a_word",
        ],
        variable: Some("ODRADEK_FLIPS"),
    },
    Part {
        name: "abuse",
        size: Some(50),
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &[
            "cargo",
            "test",
            "--locked",
            "--package",
            "tests",
            "--test",
            "abuse",
            "--",
            "--nocapture",
            "--test-threads",
            "1",
        ],
        variable: Some("ODRADEK_ABUSE"),
    },
    Part {
        name: "streams",
        size: Some(50),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &[
            "python3",
            "tests/compat/ecosystem.py",
            "--broker",
            "{binary}",
            "--driver",
            "uring",
            "--only",
            "streams-once",
            "--kills",
            "{size}",
        ],
        variable: None,
    },
    Part {
        name: "kill uring",
        size: Some(200),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "kill", "--driver", "uring", "--cycles", "{size}"],
        variable: None,
    },
    Part {
        name: "kill sync",
        size: Some(200),
        privilege: Privilege::Anybody,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "kill", "--driver", "sync", "--cycles", "{size}"],
        variable: None,
    },
    Part {
        name: "godown uring",
        size: Some(200),
        privilege: Privilege::Root,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "godown", "--driver", "uring", "--cycles", "{size}"],
        variable: None,
    },
    Part {
        name: "godown sync",
        size: Some(200),
        privilege: Privilege::Root,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "godown", "--driver", "sync", "--cycles", "{size}"],
        variable: None,
    },
    Part {
        name: "histories uring",
        size: Some(10),
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "histories", "--runs", "5", "--minutes", "{size}"],
        variable: None,
    },
    Part {
        name: "histories sync",
        size: Some(10),
        privilege: Privilege::Anybody,
        count: Count::Sum,
        words: &["xtask", "histories", "--runs", "2", "--minutes", "{size}", "--driver", "sync"],
        variable: None,
    },
    Part {
        name: "powerblk uring",
        size: Some(300),
        privilege: Privilege::Root,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "powerblk", "--driver", "uring", "--cycles", "{size}"],
        variable: None,
    },
    Part {
        name: "powerblk sync",
        size: Some(300),
        privilege: Privilege::Root,
        count: Count::Last,
        words: &["xtask", "crash", "--rig", "powerblk", "--driver", "sync", "--cycles", "{size}"],
        variable: None,
    },
];

/// Runs the parts.
///
/// # Errors
/// When one failed, or a name is not one of theirs.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    if let Some(unknown) =
        options.only.iter().find(|name| !PARTS.iter().any(|part| part.name == **name))
    {
        return Err(format!("no part `{unknown}`; --list names them"));
    }
    let is_chosen =
        |part: &&Part| options.only.is_empty() || options.only.iter().any(|name| name == part.name);
    let chosen: Vec<&Part> = PARTS.iter().filter(is_chosen).collect();
    if options.list {
        for part in chosen {
            let size = part.size.map(|size| format!(" ({})", share(size, options.percent)));
            println!("{}{}", part.name, size.unwrap_or_default());
        }
        return Ok(());
    }
    let reports: Vec<Report> = chosen.into_iter().map(|part| report(root, part, options)).collect();
    summarise(&reports, "the soak failed")
}

/// So many percent of a size, at least one.
fn share(size: u64, percent: u64) -> u64 {
    (size * percent / 100).max(1)
}

fn report(root: &Path, part: &Part, options: &Options) -> Report {
    let size = part.size.map_or(0, |size| share(size, options.percent)).to_string();
    let fill =
        |word: &&str| word.replace("{size}", &size).replace("{seed}", &options.seed.to_string());
    let words: Vec<String> = part.words.iter().map(fill).collect();
    println!("\n== {}: {}", part.name, words.join(" "));
    let started = Instant::now();
    let mut failures = Vec::new();
    let (tally, remark) = if part.privilege == Privilege::Root && !needs::is_root() {
        let remark = "not run: mounts file systems, which needs root".to_owned();
        (Tally { passed: 0, failed: 0 }, remark)
    } else {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let counted = command(root, &words).and_then(|mut command| {
            if let Some(variable) = part.variable {
                command.env(variable, &size);
            }
            run_counted(root, &mut command, part.count)
        });
        match counted {
            Ok(counted) => {
                failures = counted.failures;
                (counted.tally, String::new())
            }
            Err(reason) => (Tally { passed: 0, failed: 1 }, reason),
        }
    };
    Report { name: part.name, took: started.elapsed(), tally, remark, failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_part_is_never_nothing() {
        for (size, percent, expected) in [(10_000, 100, 10_000), (300, 1, 3), (20, 1, 1)] {
            assert_eq!(share(size, percent), expected, "{percent} % of {size}");
        }
    }

    #[test]
    fn every_size_reaches_what_runs() {
        for part in PARTS {
            let is_told = part.words.contains(&"{size}") || part.variable.is_some();
            assert_eq!(part.size.is_some(), is_told, "{}", part.name);
        }
    }
}
