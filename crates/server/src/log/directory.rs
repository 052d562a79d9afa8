//! A log directory: its own files, then every partition's.

use std::{collections::BTreeMap, io::Write, path::Path};

use model::{Offset, PartitionId};
use runtime::{DirectoryEntry, FileKind, Runtime};
use storage::{Error, files};

use super::{
    batches::LogState,
    partition::{self, Bounds, FILE_BYTES_MAX},
    report::{Item, Report, read_whole},
};
use crate::properties;

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const CLEANER_POINTS: &str = "cleaner-offset-checkpoint";
const CHECKPOINTS: &[&str] = &[RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS, CLEANER_POINTS];
/// Directories that wait for their removal, or that hold nothing that is served.
const ASIDE: &[&str] = &["-delete", "-stray", "-future"];

type Logs = BTreeMap<(String, PartitionId), Bounds>;

/// Whether it is a log directory, and not a partition's.
pub(super) fn is_log_directory(entries: &[DirectoryEntry]) -> bool {
    entries.iter().any(|entry| {
        entry.name == META_PROPERTIES
            || (entry.kind == FileKind::Directory
                && files::partition_of_name(&entry.name).is_some())
    })
}

/// Reports on all of it.
pub(super) async fn report<W: Write>(
    runtime: &Runtime,
    path: &Path,
    entries: &[DirectoryEntry],
    report: &mut Report<W>,
) -> Result<(), Error> {
    let is_clean = entries.iter().any(|entry| entry.name == CLEAN_SHUTDOWN);
    let mut logs = Logs::new();
    report.expect(entries.len());
    for entry in entries {
        report.next(&entry.name);
        let place = path.join(&entry.name);
        if entry.kind != FileKind::Directory {
            if !CHECKPOINTS.contains(&entry.name.as_str()) {
                report_file(runtime, &place, &entry.name, report).await?;
            }
            continue;
        }
        if ASIDE.iter().any(|suffix| entry.name.ends_with(suffix)) && entry.name.contains('.') {
            report.begin(&place);
            report.item(Item::new("aside"));
            continue;
        }
        let Some(name) = files::partition_of_name(&entry.name) else {
            report.begin(&place);
            report.item(Item::new("unknown"));
            continue;
        };
        let files = runtime.list_directory(&place).await;
        let files = files.map_err(|errno| Error::Io { path: place.clone(), errno })?;
        let mut log = LogState::new(partition::meaning_of(&place));
        log.is_clean = is_clean;
        let bounds =
            Box::pin(partition::report_within(runtime, &place, &files, &mut log, report)).await?;
        logs.insert(name, bounds);
    }
    for name in CHECKPOINTS {
        let place = path.join(name);
        if let Some(offsets) = checkpoint(runtime, &place, report).await? {
            compare(name, &offsets, &logs, report);
        }
    }
    Ok(())
}

/// Reports on a file of the directory's; false where the name is none of these.
pub(super) async fn report_file<W: Write>(
    runtime: &Runtime,
    path: &Path,
    name: &str,
    report: &mut Report<W>,
) -> Result<bool, Error> {
    if CHECKPOINTS.contains(&name) {
        return checkpoint(runtime, path, report).await.map(|_| true);
    }
    if ![META_PROPERTIES, CLEAN_SHUTDOWN].contains(&name) {
        return Ok(false);
    }
    let Some(content) = read_whole(runtime, FILE_BYTES_MAX, path, report).await? else {
        return Ok(true);
    };
    if name == CLEAN_SHUTDOWN {
        match files::clean_shutdown_epoch(&content) {
            Some(epoch) => report.item(Item::new("clean_stop").number("broker_epoch", epoch)),
            None => report.problem("not understood"),
        }
        return Ok(true);
    }
    let text = std::str::from_utf8(&content).ok();
    let Some(entries) = text.and_then(|text| properties::parse(text).ok()) else {
        report.problem("not understood");
        return Ok(true);
    };
    for (name, value) in &entries {
        report.item(Item::new("property").text("name", name).text("value", value));
    }
    for name in ["version", "cluster.id", "node.id", "directory.id"] {
        if !entries.contains_key(name) {
            report.problem(format!("{name} is missing"));
        }
    }
    Ok(true)
}

type Offsets = Vec<(String, PartitionId, Offset)>;

async fn checkpoint<W: Write>(
    runtime: &Runtime,
    path: &Path,
    report: &mut Report<W>,
) -> Result<Option<Offsets>, Error> {
    let Some(content) = read_whole(runtime, FILE_BYTES_MAX, path, report).await? else {
        return Ok(None);
    };
    let Some(offsets) = files::checkpoint_offsets(&content) else {
        report.problem("not understood");
        return Ok(None);
    };
    for (topic, partition, offset) in &offsets {
        let item = Item::new("offset").text("topic", topic).number("partition", partition.0);
        report.item(item.number("offset", offset.0));
    }
    Ok(Some(offsets))
}

/// Compares the offsets of a checkpoint with the logs that it speaks of.
fn compare<W: Write>(name: &str, offsets: &Offsets, logs: &Logs, report: &mut Report<W>) {
    for (topic, partition, offset) in offsets {
        let Some(bounds) = logs.get(&(topic.clone(), *partition)) else {
            report.item(Item::new("stale").text("topic", topic).number("partition", partition.0));
            continue;
        };
        let Bounds { start, end } = bounds;
        // Recovery points and high watermarks may lag behind: below the start they say nothing.
        if offset > end {
            report.problem(format!("{topic}-{partition}: offset {offset}, the log ends at {end}"));
        } else if name == LOG_STARTS && offset < start {
            report.problem(format!(
                "{topic}-{partition}: offset {offset}, the log starts at {start}"
            ));
        }
    }
}
