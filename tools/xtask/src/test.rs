//! `cargo xtask test`: runs the stages, adds up what they counted, says how long each took.
//!
//! A failed stage does not hide the next one: all run, and the exit code tells. The last line is
//! `N passed, N failed`. The tree is the same afterwards, which is itself checked.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::needs;
use crate::stages::{Count, Privilege, STAGES, Stage};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only these stages (as the list names them; may be given more than once)
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Name the stages and do nothing
    #[arg(long)]
    list: bool,
}

/// What a stage counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) remark: String,
    /// What a failed run printed about its failures, at most [`TOLD_FAILURES`] lines.
    pub(crate) failures: Vec<String>,
}

/// What a run that was counted left behind.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) tally: Tally,
    pub(crate) failures: Vec<String>,
}

/// Lines about failures that are kept of one run, and characters of each.
const TOLD_FAILURES: usize = 30;
const TOLD_CHARACTERS: usize = 600;

/// Runs the stages that this tree has.
///
/// # Errors
/// When anything failed.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    if let Some(unknown) = options.only.iter().find(|name| !STAGES.iter().any(|s| s.name == **name))
    {
        return Err(format!("no stage `{unknown}`; --list names them"));
    }
    let chosen = |stage: &&Stage| {
        root.join(stage.room).exists()
            && (options.only.is_empty() || options.only.iter().any(|name| name == stage.name))
    };
    if options.list {
        for stage in STAGES.iter().filter(chosen) {
            println!("{}: {}", stage.name, stage.words.join(" "));
        }
        return Ok(());
    }
    let before = tree_state(root)?;
    let mut reports: Vec<Report> =
        STAGES.iter().filter(chosen).map(|stage| report(root, stage)).collect();
    reports.push(tree_report(&before, &tree_state(root)?));
    summarise(&reports, "the check failed")
}

fn report(root: &Path, stage: &Stage) -> Report {
    println!("\n== {}: {}", stage.name, stage.words.join(" "));
    let started = Instant::now();
    let one = |failed| Tally { passed: 0, failed };
    let mut failures = Vec::new();
    let (tally, remark) = if stage.privilege == Privilege::Root && !needs::is_root() {
        (one(0), "not run: mounts file systems, which needs root".to_owned())
    } else if let Err(missing) = needs::ensure(stage.needs) {
        println!("{missing}");
        (one(1), missing)
    } else {
        let counted = command(root, stage.words)
            .and_then(|mut command| run_counted(root, &mut command, stage.count));
        match counted {
            Ok(counted) => {
                failures = counted.failures;
                (counted.tally, String::new())
            }
            Err(reason) => (one(1), reason),
        }
    };
    Report { name: stage.name, took: started.elapsed(), tally, remark, failures }
}

/// Runs a command to its end, shows what it prints, and counts what that says.
///
/// # Errors
/// When it cannot be run.
pub(crate) fn run_counted(
    root: &Path,
    command: &mut Command,
    count: Count,
) -> Result<Counted, String> {
    let mut child = command
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let (mut counted, mut failures) = (Vec::new(), Vec::new());
    let mut told = false;
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
        let line = line.map_err(|error| error.to_string())?;
        counted.extend(counts(&line));
        println!("{line}");
        told = tells_failure(&line) || told && goes_on(&line);
        if told && failures.len() < TOLD_FAILURES {
            failures.push(line.chars().take(TOLD_CHARACTERS).collect());
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let tally = tally(count, &counted, status.success());
    if tally.failed == 0 {
        failures.clear();
    }
    Ok(Counted { tally, failures })
}

/// The command of these words: `xtask` is this program, `{binary}` the release build.
///
/// # Errors
/// When this program's own path is not known.
pub(crate) fn command(root: &Path, words: &[&str]) -> Result<Command, String> {
    let program = match words[0] {
        "xtask" => env::current_exe().map_err(|error| error.to_string())?,
        other => PathBuf::from(other),
    };
    let binary = target_folder(root).join("release").join("odradek");
    let mut command = Command::new(program);
    for word in &words[1..] {
        if *word == "{binary}" {
            command.arg(&binary)
        } else {
            command.arg(word)
        };
    }
    Ok(command)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// What a line such as `test result: ok. 3 passed; 1 failed; ...` counts, if it does.
fn counts(line: &str) -> Option<Tally> {
    let words: Vec<&str> =
        line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let before = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
    };
    Some(Tally { passed: before("passed")?, failed: before("failed")? })
}

/// Whether a line names a failure, as this project's programs, cargo and pytest print them. One
/// that only follows from another, "not reached", names none.
fn tells_failure(line: &str) -> bool {
    (line.starts_with("FAIL") && !line.ends_with(": not reached"))
        || line.contains("FAILED")
        || line.contains("panicked at")
}

/// Whether a line goes on with what the one before told, as a difference of many lines does.
fn goes_on(line: &str) -> bool {
    line.trim_start().starts_with("| ")
}

/// A stage that fails counts at least one failure, whatever it printed.
fn tally(count: Count, counted: &[Tally], succeeded: bool) -> Tally {
    let mut sum = match count {
        Count::Whole => Tally { passed: u64::from(succeeded), failed: 0 },
        Count::Sum => counted.iter().fold(Tally::default(), |sum, one| Tally {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
        }),
        Count::Last => counted.last().copied().unwrap_or_default(),
    };
    if !succeeded {
        sum.failed = sum.failed.max(1);
    } else if count != Count::Whole && sum == Tally::default() {
        // A run that found nothing to run has shown nothing.
        sum.failed = 1;
    }
    sum
}

/// The tracked files and their contents as they stand.
fn tree_state(root: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new("git")
        .args(["diff", "HEAD", "--no-ext-diff", "--binary"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git diff: {error}"))?;
    Ok(output.stdout)
}

fn tree_report(before: &[u8], after: &[u8]) -> Report {
    let same = before == after;
    let remark = if same { String::new() } else { "a tracked file was written".to_owned() };
    let tally = Tally { passed: u64::from(same), failed: u64::from(!same) };
    Report { name: "tree unchanged", took: Duration::ZERO, tally, remark, failures: Vec::new() }
}

/// Prints what each counted, the failures once more, and the sum: what shows only the end of it
/// shows the failures.
///
/// # Errors
/// `failure`, when anything failed.
pub(crate) fn summarise(reports: &[Report], failure: &str) -> Result<(), String> {
    println!("\n{:<16} {:>7} {:>7} {:>7}", "stage", "minutes", "passed", "failed");
    let mut sum = Tally::default();
    for report in reports {
        let minutes = report.took.as_secs_f64() / 60.0;
        let Tally { passed, failed } = report.tally;
        let line = format!("{:<16} {minutes:>7.2} {passed:>7} {failed:>7}", report.name);
        println!("{}", format!("{line}  {}", report.remark).trim_end());
        sum.passed += passed;
        sum.failed += failed;
    }
    for report in reports.iter().filter(|report| !report.failures.is_empty()) {
        println!("\n== failed in {}", report.name);
        report.failures.iter().for_each(|line| println!("{line}"));
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 { Ok(()) } else { Err(failure.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(passed: u64, failed: u64) -> Tally {
        Tally { passed, failed }
    }

    #[test]
    fn lines_that_count_are_understood() {
        let cases: &[(&str, Option<Tally>)] = &[
            ("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured", Some(of(12, 0))),
            ("3 passed, 2 failed", Some(of(3, 2))),
            ("=== 2 failed, 3 passed in 4.5s ===", Some(of(3, 2))),
            ("12 passed", None),
            ("passed failed", None),
            ("test a_failed_flush_fences ... ok", None),
        ];
        for (line, expected) in cases {
            assert_eq!(counts(line), *expected, "{line}");
        }
    }

    #[test]
    fn lines_about_failures_are_told_from_others() {
        let cases = [
            ("FAIL  copier: copies exactly once: 3 twice", true),
            ("test tests::a_sync_fails ... FAILED", true),
            ("seed 290 FAILED; again: sim --seed 290 --seeds 1", true),
            ("thread 'main' panicked at src/main.rs:3:5:", true),
            ("ok    copier: copies exactly once (3.1 s)", false),
            ("FAIL  kafka-go: seeks by time: not reached", false),
            ("7 passed, 1 failed", false),
        ];
        for (line, expected) in cases {
            assert_eq!(tells_failure(line), expected, "{line}");
        }
    }

    #[test]
    fn a_failure_is_told_with_the_lines_that_belong_to_it() {
        let script = "echo 'ok    one'; echo 'FAIL  two:'; echo '      | -a'; echo '      | +b'; \
             echo 'ok    three'; echo '      | c'; echo '1 passed, 1 failed'; exit 1";
        let mut command = Command::new("sh");
        let counted =
            run_counted(Path::new("/"), command.args(["-c", script]), Count::Last).unwrap();
        assert_eq!(counted.failures, ["FAIL  two:", "      | -a", "      | +b"]);
        assert_eq!(counted.tally, of(1, 1));
    }

    #[test]
    fn a_failing_stage_never_counts_as_passed() {
        let two = [of(1, 0), of(2, 1)];
        let cases = [
            (Count::Whole, &two[..], true, of(1, 0)),
            (Count::Whole, &two[..], false, of(0, 1)),
            (Count::Sum, &two[..], false, of(3, 1)),
            (Count::Last, &two[..], false, of(2, 1)),
            (Count::Sum, &two[..1], false, of(1, 1)),
            (Count::Sum, &[], true, of(0, 1)),
            (Count::Last, &[], true, of(0, 1)),
        ];
        for (count, counted, succeeded, expected) in cases {
            assert_eq!(tally(count, counted, succeeded), expected, "{count:?} {succeeded}");
        }
    }
}
