//! A partition's directory, or one file of it.

use std::{io::Write, path::Path};

use cluster::quorum::QuorumState;
use model::Offset;
use runtime::{DirectoryEntry, Errno, FileKind, Runtime};
use storage::{Error, files};

use super::{
    batches::{self, Indexes, LogState},
    directory,
    records::Meaning,
    report::{Item, Report},
};

/// The largest of the small files that is read; a snapshot of a million producers has 46 MB.
pub(super) const FILE_BYTES_MAX: usize = 64 << 20;
/// What a process that was killed leaves behind, and what waits for its removal.
const LEFTOVERS: &[&str] = &[".deleted", ".cleaned", ".swap", ".tmp", ".part"];

/// The offsets of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// Reports on all files of a partition.
pub(super) async fn report<W: Write>(
    runtime: &Runtime,
    path: &Path,
    entries: &[DirectoryEntry],
    report: &mut Report<W>,
) -> Result<Bounds, Error> {
    let meaning = meaning_of(path);
    let mut log = LogState::new(meaning);
    report_within(runtime, path, entries, &mut log, report).await
}

/// As [`report`], with what is known of the directory around it.
pub(super) async fn report_within<W: Write>(
    runtime: &Runtime,
    path: &Path,
    entries: &[DirectoryEntry],
    log: &mut LogState,
    report: &mut Report<W>,
) -> Result<Bounds, Error> {
    let names =
        || entries.iter().filter(|one| one.kind == FileKind::File).map(|one| one.name.as_str());
    for name in names().filter(|name| !is_segments(name) && !name.ends_with(".snapshot")) {
        Box::pin(small_file(runtime, &path.join(name), name, log, report)).await?;
    }
    if !names().any(|name| name == "partition.metadata") && log.meaning != Meaning::Metadata {
        report.begin(path);
        report.problem("partition.metadata is missing: Apache Kafka sets the directory aside");
    }
    let mut first = None;
    for name in names().filter(|name| name.ends_with(".log")) {
        let Some(base) = base_offset(name) else {
            report.begin(&path.join(name));
            report.problem("a segment is called by its first offset, in 20 digits");
            continue;
        };
        first.get_or_insert(base);
        let segment = path.join(name);
        if log.end.is_some_and(|end| base < end) {
            report.begin(&segment);
            report.problem("it begins below the end of the segment before");
        }
        let mut indexes = Indexes::load(runtime, &segment, base, report).await?;
        Box::pin(batches::report(runtime, &segment, log, &mut indexes, report)).await?;
        indexes.finish(report);
        log.end = Some(log.end.map_or(base, |end| end.max(base)));
    }
    let end = log.end.unwrap_or_default();
    let bounds = Bounds { start: first.unwrap_or_default(), end };
    for name in names().filter(|name| name.ends_with(".snapshot")) {
        Box::pin(small_file(runtime, &path.join(name), name, log, report)).await?;
        if base_offset(name).is_some_and(|at| at > end) {
            report.problem(format!("it is above the end of the log, {end}"));
        }
    }
    for name in names().filter(|name| orphan(name, entries)) {
        report.begin(&path.join(name));
        report.problem("there is no such segment");
    }
    Ok(bounds)
}

/// Reports on one file, by its name.
pub(super) async fn report_file<W: Write>(
    runtime: &Runtime,
    path: &Path,
    report: &mut Report<W>,
) -> Result<(), Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut log = LogState::new(path.parent().map_or(Meaning::Data, meaning_of));
    let segment = path.with_extension("log");
    if is_segments(name)
        && let Some(base) = base_offset(name)
    {
        let mut indexes = Indexes::load(runtime, &segment, base, report).await?;
        Box::pin(batches::report(runtime, &segment, &mut log, &mut indexes, report)).await?;
        indexes.finish(report);
        return Ok(());
    }
    if directory::report_file(runtime, path, name, report).await? {
        return Ok(());
    }
    small_file(runtime, path, name, &mut log, report).await
}

/// What the records of the partition in this directory mean.
pub(super) fn meaning_of(path: &Path) -> Meaning {
    let name = path.file_name().and_then(|name| name.to_str());
    let partition = name.and_then(files::partition_of_name);
    partition.map_or(Meaning::Data, |(topic, _)| Meaning::of_topic(&topic))
}

fn is_segments(name: &str) -> bool {
    [".log", ".index", ".timeindex", ".txnindex"].iter().any(|suffix| name.ends_with(suffix))
}

fn base_offset(name: &str) -> Option<Offset> {
    let number = name.split('.').next()?;
    let is_number = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok().map(Offset)).flatten()
}

/// An index without its segment.
fn orphan(name: &str, entries: &[DirectoryEntry]) -> bool {
    let Some((stem, "index" | "timeindex" | "txnindex")) = name.rsplit_once('.') else {
        return false;
    };
    !entries.iter().any(|one| one.name.strip_suffix(".log") == Some(stem))
}

async fn small_file<W: Write>(
    runtime: &Runtime,
    path: &Path,
    name: &str,
    log: &mut LogState,
    report: &mut Report<W>,
) -> Result<(), Error> {
    if name.ends_with(".checkpoint") {
        return metadata_snapshot(runtime, path, report).await;
    }
    report.begin(path);
    if LEFTOVERS.iter().any(|suffix| name.ends_with(suffix)) {
        report.item(Item::new("leftover"));
        return Ok(());
    }
    let content = match runtime.read_file(path, FILE_BYTES_MAX).await {
        Ok(content) => content,
        Err(Errno::INVALID) => {
            report.problem(format!("larger than {FILE_BYTES_MAX} bytes: not read"));
            return Ok(());
        }
        Err(errno) => return Err(Error::Io { path: path.to_owned(), errno }),
    };
    match name {
        "partition.metadata" => match files::topic_id(&content) {
            Some(id) => report.item(Item::new("topic").text("id", id)),
            None => report.problem("not understood"),
        },
        "leader-epoch-checkpoint" => match files::leader_epochs(&content) {
            Some(epochs) => {
                for (epoch, start) in &epochs {
                    let item = Item::new("epoch").number("epoch", epoch.0);
                    report.item(item.number("start_offset", start.0));
                }
                log.epochs = Some(epochs);
            }
            None => report.problem("not understood"),
        },
        "quorum-state" => quorum_state(&content, report),
        name if name.ends_with(".snapshot") => producer_snapshot(&content, report),
        _ => report.item(Item::new("unknown")),
    }
    Ok(())
}

fn quorum_state<W: Write>(content: &[u8], report: &mut Report<W>) {
    let state = std::str::from_utf8(content).ok().and_then(QuorumState::decode);
    let Some(state) = state else { return report.problem("not understood") };
    let id = |node: Option<model::NodeId>| node.map_or(-1, |node| node.0);
    let item = Item::new("quorum")
        .number("leader", id(state.leader_id))
        .number("epoch", state.leader_epoch)
        .number("voted", id(state.voted_id));
    report.item(match state.static_voters {
        None => item,
        Some(voters) => item.text(
            "static_voters",
            format!("{:?}", voters.iter().map(|one| one.0).collect::<Vec<_>>()),
        ),
    });
}

fn producer_snapshot<W: Write>(content: &[u8], report: &mut Report<W>) {
    let Some(producers) = files::producers(content) else {
        return report.problem("not whole, or of another version");
    };
    for producer in producers {
        report.item(
            Item::new("producer")
                .number("id", producer.id.0)
                .number("epoch", producer.epoch.0)
                .number("last_sequence", producer.last_sequence.0)
                .number("last_timestamp", producer.last_timestamp.0)
                .number("coordinator_epoch", producer.coordinator_epoch)
                .number(
                    "transaction_start",
                    producer.transaction_start.map_or(-1, |start| start.0),
                ),
        );
    }
}

/// A snapshot of the metadata has offsets of its own, a header and a footer.
async fn metadata_snapshot<W: Write>(
    runtime: &Runtime,
    path: &Path,
    report: &mut Report<W>,
) -> Result<(), Error> {
    let mut log = LogState::new(Meaning::Metadata);
    log.is_clean = true;
    let mut none = Indexes::default();
    Box::pin(batches::report(runtime, path, &mut log, &mut none, report)).await?;
    // The last record is the footer's.
    if !log.ends_with_control {
        report.problem("the snapshot has no end");
    }
    Ok(())
}
