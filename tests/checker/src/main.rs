//! `checker HISTORY.jsonl`: judges a history, and tells what is wrong with it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

use std::{fs::File, io::BufReader, path::PathBuf, process::ExitCode, time::Instant};

use checker::{anomaly::Anomaly, check, history};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Judges a history of clients and a broker: one operation a line, as JSON")]
struct Arguments {
    /// The file
    history: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(found) => {
            println!("{} passed, {found} failed", Anomaly::ALL.len() - found);
            if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            eprintln!("checker: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// How many anomalies there are.
fn run(arguments: &Arguments) -> Result<usize, String> {
    let started = Instant::now();
    let name = arguments.history.display();
    let file = File::open(&arguments.history).map_err(|error| format!("{name}: {error}"))?;
    let ops = history::read(BufReader::new(file)).map_err(|error| format!("{name}: {error}"))?;
    let report = check(&ops).map_err(|error| format!("{name}: {error}"))?;
    println!("{} operations, judged in {:.1?}", ops.len(), started.elapsed());
    print!("{report}");
    for finding in report.findings.values() {
        for op in ops.iter().filter(|op| finding.ops.contains(&op.index)) {
            let line = serde_json::to_string(op).map_err(|error| error.to_string())?;
            println!("  {line}");
        }
    }
    Ok(report.findings.len())
}
