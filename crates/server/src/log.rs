//! `odradek log`: what lies in a data directory, this program's or Apache Kafka's, and what is
//! wrong with it. For people whose broker does not run, and for tests.
//!
//! Looking only reads, and takes no lock, so it works beside a running broker; what it then finds
//! at the end of a log may be a write that is under way. Nothing that the files say makes it take
//! more memory than a constant or the size of the file. Accepting a loss takes the directory's
//! lock.

mod accept_loss;
mod batches;
mod directory;
pub(crate) mod in_use;
mod partition;
mod records;
mod report;

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::Runtime;

use crate::alone;
use report::{Format, Report, Show};

/// Free memory that is kept for the next read.
const POOL_CACHED_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek log verify odradek-data
  odradek log dump odradek-data/orders-0 --records
  odradek log dump odradek-data/orders-0/00000000000000000000.log --format json")]
pub(crate) enum Command {
    /// Show what is in a data directory, a partition's directory or a file; exit 1 if it has problems
    Dump(Dump),
    /// Show only what is wrong with it
    Verify(Verify),
    /// Give up records of a partition that are damaged: nothing else does
    AcceptLoss(accept_loss::AcceptLoss),
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// A data directory, a partition's directory, or one of their files
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Lines for people, or an object of JSON a line
    #[arg(long, value_enum, default_value_t = Lines::Table)]
    format: Lines,
    /// Show the records within the batches, too
    #[arg(long)]
    records: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A data directory, a partition's directory, or one of their files
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,
    /// Lines for people, or an object of JSON a line
    #[arg(long, value_enum, default_value_t = Lines::Table)]
    format: Lines,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Lines {
    Table,
    Json,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(command: &Command) -> Result<(), String> {
    let (path, lines, show) = match command {
        Command::Dump(Dump { path, format, records: true }) => (path, *format, Show::Records),
        Command::Dump(Dump { path, format, records: false }) => (path, *format, Show::Batches),
        Command::Verify(Verify { path, format }) => (path, *format, Show::Problems),
        Command::AcceptLoss(options) => return accept_loss::run(options),
    };
    let format = match lines {
        Lines::Table => Format::Table,
        Lines::Json => Format::Json,
    };
    let bar = match show {
        Show::Problems => ProgressBar::new(0),
        Show::Batches | Show::Records => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {msg}");
    bar.set_style(style.expect("a template of its fields"));
    let report = Report::new(BufWriter::new(io::stdout().lock()), format, show, bar);
    let problems =
        alone::on_runtime(POOL_CACHED_BYTES_MAX, |runtime| inspect(runtime, path.clone(), report))?;
    match problems? {
        0 => Ok(()),
        1 => Err(format!("{}: 1 problem", path.display())),
        problems => Err(format!("{}: {problems} problems", path.display())),
    }
}

/// Reports on whatever lies at `path`; gives the number of problems.
async fn inspect<W: Write>(
    runtime: Runtime,
    path: PathBuf,
    mut report: Report<W>,
) -> Result<u64, String> {
    let report = &mut report;
    let found = match runtime.list_directory(&path).await {
        Ok(entries) => {
            if let Some(note) = in_use::note(&path) {
                report.note(note);
            }
            if directory::is_log_directory(&entries) {
                Box::pin(directory::report(&runtime, &path, &entries, report)).await
            } else {
                Box::pin(partition::report(&runtime, &path, &entries, report)).await.map(drop)
            }
        }
        Err(_) => Box::pin(partition::report_file(&runtime, &path, report)).await,
    };
    found.map_err(|error| error.to_string())?;
    report.finish().map_err(|error| format!("cannot write: {error}"))
}
