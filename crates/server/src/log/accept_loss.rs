//! `odradek log accept-loss`: damaged records of a partition are given up, on the directory of a
//! broker that is stopped.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use crate::alone;
use clap::Args;
use model::{Offset, PartitionId};
use storage::{Damage, LossReport, LossToAccept};

/// Topics of the broker's own, all of which are compacted.
const INTERNAL_PREFIX: &str = "__";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek log accept-loss odradek-data --partition orders-0
  odradek log accept-loss odradek-data --partition orders-0 --from 1200 --to 1300")]
pub(crate) struct AcceptLoss {
    /// The data directory; no broker may run on it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The partition, as its directory is called
    #[arg(long, value_name = "TOPIC-PARTITION")]
    partition: String,
    /// Give up only what is damaged from this offset on
    #[arg(long, value_name = "OFFSET", requires = "to")]
    from: Option<i64>,
    /// ... and before this one
    #[arg(long, value_name = "OFFSET", requires = "from")]
    to: Option<i64>,
    /// The topic is compacted: offsets that are missing are no damage
    #[arg(long)]
    compacted: bool,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(options: &AcceptLoss) -> Result<(), String> {
    let refuse = || format!("{}: not a partition, as in topic-0", options.partition);
    let (topic, partition) = options.partition.rsplit_once('-').ok_or_else(refuse)?;
    let partition = PartitionId(partition.parse().map_err(|_| refuse())?);
    let loss = LossToAccept {
        topic: topic.to_owned(),
        partition,
        offsets: options.from.zip(options.to).map(|(from, to)| Offset(from)..Offset(to)),
        is_compacted: options.compacted || topic.starts_with(INTERNAL_PREFIX),
    };
    let directory = options.directory.clone();
    let outcome = alone::on_runtime(super::POOL_CACHED_BYTES_MAX, |runtime| async move {
        Box::pin(storage::accept_loss(&runtime, &directory, &loss)).await
    })?;
    let report = outcome.map_err(|error| error.to_string())?;
    say(&report).map_err(|error| format!("cannot write: {error}"))
}

fn say(report: &LossReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut lines = |what: &str, damages: &[Damage]| {
        damages.iter().try_for_each(|damage| writeln!(out, "{what}: {damage}"))
    };
    lines("given up", &report.accepted)?;
    lines("left as it is", &report.left)?;
    if report.accepted.is_empty() && report.left.is_empty() {
        writeln!(out, "nothing is damaged")?;
    }
    Ok(())
}
