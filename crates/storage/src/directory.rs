//! A log directory: its lock, its properties, its checkpoint files and the partitions in it.
//!
//! Opened by one shard for all. Every file is replaced as a whole and durably; the clean-shutdown
//! marker is deleted, durably, when the directory is opened, and written last at a clean stop.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
};

use model::{Offset, PartitionId, TopicId, collections::BTreeMap};
use runtime::{Access, Cache, Create, Errno, File, FileKind, OpenOptions, Runtime};

use crate::{
    Error, RecordedPartitions, RecoveryPoint, checkpoint, gone,
    recovery::{CleanStop, RecoveryStart, parse_partition_name},
    removal::{Removals, remove_tree},
    storage::{read_small_file, replace_file},
};

const LOCK: &str = ".lock";
const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const CLEANED: &str = "cleaner-offset-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
const DELETED_SUFFIX: &str = "-delete";
/// Files and directories of Apache Kafka's that hold nothing that is needed here.
const KNOWN_NAMES: &[&str] = &[
    LOCK,
    META_PROPERTIES,
    RECOVERY_POINTS,
    LOG_STARTS,
    HIGH_WATERMARKS,
    CLEANED,
    gone::FILE_NAME,
    "bootstrap.checkpoint",
];
/// The largest property file that is read.
const PROPERTIES_BYTES_MAX: usize = 1 << 20;
/// The largest checkpoint that is read: a million partitions with long names.
const CHECKPOINT_BYTES_MAX: usize = 256 << 20;

/// What becomes of a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It is created; its parent has to be there.
    CreateIfMissing,
    /// It is an error.
    MustExist,
}

/// A partition in a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The topic's id; `None` where `partition.metadata` is missing or makes no sense.
    pub topic_id: Option<TopicId>,
    /// What the checkpoint files say of it.
    pub start: RecoveryStart,
}

/// An open log directory. The lock goes with it.
pub struct LogDirectory {
    runtime: Runtime,
    path: PathBuf,
    _lock: File,
    meta_properties: Option<String>,
    stop: CleanStop,
    broker_epoch: Option<i64>,
    partitions: Vec<PartitionDirectory>,
    recorded: RecordedPartitions,
    deleted: Vec<PathBuf>,
    unknown: Vec<String>,
    /// The checkpoint files as they were last written.
    checkpoints: RefCell<BTreeMap<&'static str, Vec<u8>>>,
}

impl LogDirectory {
    /// Locks and reads a log directory, and takes it: [`LogDirectory::look`], then
    /// [`LogDirectory::take`].
    ///
    /// # Errors
    /// Theirs.
    pub async fn open(
        runtime: &Runtime,
        path: &Path,
        mode: OpenMode,
    ) -> Result<LogDirectory, Error> {
        let directory = LogDirectory::look(runtime, path, mode).await?;
        directory.take().await?;
        Ok(directory)
    }

    /// Locks and reads a log directory. Nothing that was in it is changed.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it; the operating system's; a checkpoint that
    /// makes no sense is none: what it says is derived.
    pub async fn look(
        runtime: &Runtime,
        path: &Path,
        mode: OpenMode,
    ) -> Result<LogDirectory, Error> {
        let listed = match (runtime.list_directory(path).await, mode) {
            (Err(Errno::NOT_FOUND), OpenMode::CreateIfMissing) => {
                create_with_parents(runtime, path).await
            }
            (outcome, _) => outcome.map(drop).map_err(Error::io(path)),
        };
        listed?;
        let lock = lock(runtime, path).await?;
        let mut directory = LogDirectory {
            runtime: runtime.clone(),
            path: path.to_owned(),
            _lock: lock,
            meta_properties: None,
            stop: CleanStop::Unclean,
            broker_epoch: None,
            partitions: Vec::new(),
            recorded: RecordedPartitions::default(),
            deleted: Vec::new(),
            unknown: Vec::new(),
            checkpoints: RefCell::default(),
        };
        directory.read_meta_properties().await?;
        directory.read_marker().await?;
        directory.list().await?;
        Ok(directory)
    }

    /// Removes the clean-shutdown marker, durably: a crash from here on is one.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn take(&self) -> Result<(), Error> {
        if self.stop == CleanStop::Clean {
            let marker = self.path.join(CLEAN_SHUTDOWN);
            self.runtime.remove_file(&marker).await.map_err(Error::io(marker))?;
            let synced = self.runtime.sync_directory(&self.path).await;
            synced.map_err(Error::io(&self.path))?;
        }
        self.make_names_durable().await
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of `meta.properties`; `None` for a new directory.
    #[must_use]
    pub fn meta_properties(&self) -> Option<&str> {
        self.meta_properties.as_deref()
    }

    /// How the last process ended. A new directory counts as stopped uncleanly: there is nothing
    /// to be recovered in it.
    #[must_use]
    pub fn stop(&self) -> CleanStop {
        self.stop
    }

    /// The broker epoch in the clean-shutdown marker.
    #[must_use]
    pub fn broker_epoch(&self) -> Option<i64> {
        self.broker_epoch
    }

    /// The partitions in it, by name.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionDirectory] {
        &self.partitions
    }

    /// What its files say of partitions, those that are not there too.
    #[must_use]
    pub fn recorded(&self) -> &RecordedPartitions {
        &self.recorded
    }

    /// Partitions that were deleted and are still there; see [`LogDirectory::remove_deleted`].
    #[must_use]
    pub fn deleted(&self) -> &[PathBuf] {
        &self.deleted
    }

    /// Names that mean nothing here; they are left alone.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Removes what [`LogDirectory::deleted`] tells of, in the background.
    pub fn remove_deleted(&self) {
        let removals = Removals::default();
        for path in &self.deleted {
            removals.add(&self.runtime, path.clone());
        }
    }

    /// Replaces `meta.properties`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_meta_properties(&self, content: &str) -> Result<(), Error> {
        let path = self.path.join(META_PROPERTIES);
        replace_file(&self.runtime, path, content.as_bytes().to_vec()).await
    }

    /// Replaces the checkpoint files: the recovery points, the log start offsets that are not 0, up
    /// to where logs are compacted, the high watermarks. One that is as it was is left alone: an idle node writes nothing.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_checkpoints(&self, points: &[RecoveryPoint]) -> Result<(), Error> {
        self.write_recovery_points(points).await?;
        let cleaned = text(points, |point| Some(point.cleaned_to).filter(|to| to.0 > 0));
        self.write_checkpoint(CLEANED, cleaned).await?;
        self.write_checkpoint(HIGH_WATERMARKS, text(points, |point| Some(point.high_watermark)))
            .await
    }

    /// Replaces what recovery reads: the log start offsets that are not 0, the recovery points, and
    /// whose these are.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_recovery_points(&self, points: &[RecoveryPoint]) -> Result<(), Error> {
        let starts = text(points, |point| {
            let is_kept = !cfg!(feature = "mutant_log_start_not_persisted");
            Some(point.log_start_offset).filter(|at| at.0 > 0 && is_kept)
        });
        self.write_checkpoint(LOG_STARTS, starts).await?;
        self.write_checkpoint(RECOVERY_POINTS, text(points, |point| Some(point.recovery_point)))
            .await?;
        self.write_checkpoint(gone::FILE_NAME, gone::file(points)).await
    }

    /// Lets the log start of a partition be at its recovery point: what lay below is lost.
    pub(crate) async fn accept_gone(
        &self,
        topic: &str,
        partition: PartitionId,
    ) -> Result<(), Error> {
        let mut starts = self.read_checkpoint(LOG_STARTS).await?;
        let key = (topic.to_owned(), partition);
        let recorded = self.recorded.starts.get(&key).and_then(|start| start.recovery_point);
        starts.insert(key, recorded.unwrap_or_default());
        let lines = starts
            .iter()
            .map(|((topic, partition), offset)| format!("{topic} {partition} {offset}\n"));
        let content = format!("0\n{}\n{}", starts.len(), lines.collect::<String>());
        replace_file(&self.runtime, self.path.join(LOG_STARTS), content.into_bytes()).await
    }

    async fn write_checkpoint(&self, name: &'static str, content: Vec<u8>) -> Result<(), Error> {
        if self.checkpoints.borrow().get(name) == Some(&content) {
            return Ok(());
        }
        replace_file(&self.runtime, self.path.join(name), content.clone()).await?;
        self.checkpoints.borrow_mut().insert(name, content);
        Ok(())
    }

    /// Says that everything was closed: the last thing at a clean stop, after the checkpoints.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn write_clean_shutdown(&self, broker_epoch: i64) -> Result<(), Error> {
        let content = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        replace_file(&self.runtime, self.path.join(CLEAN_SHUTDOWN), content.into_bytes()).await
    }

    async fn read_meta_properties(&mut self) -> Result<(), Error> {
        let path = self.path.join(META_PROPERTIES);
        let Some(content) = read_small_file(&self.runtime, &path, PROPERTIES_BYTES_MAX).await?
        else {
            return Ok(());
        };
        let what = "not UTF-8".to_owned();
        let content = String::from_utf8(content).map_err(|_| Error::Malformed { path, what })?;
        self.meta_properties = Some(content);
        Ok(())
    }

    async fn read_marker(&mut self) -> Result<(), Error> {
        let path = self.path.join(CLEAN_SHUTDOWN);
        let Some(content) = read_small_file(&self.runtime, &path, PROPERTIES_BYTES_MAX).await?
        else {
            return Ok(());
        };
        self.stop = CleanStop::Clean;
        self.broker_epoch = broker_epoch_of(&content);
        Ok(())
    }

    /// A process that was killed may have made directories whose names are not durable yet.
    async fn make_names_durable(&self) -> Result<(), Error> {
        if self.stop == CleanStop::Clean || cfg!(feature = "mutant_no_directory_sync") {
            return Ok(());
        }
        if self.meta_properties.is_none() {
            let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or_else(|| Path::new("."));
            let synced = self.runtime.sync_directory(parent).await;
            // Where it is refused, somebody else made the directory, in one that we may not read.
            if let Err(errno @ (Errno::IO | Errno::NO_SPACE)) = synced {
                return Err(Error::io(parent)(errno));
            }
        }
        self.runtime.sync_directory(&self.path).await.map_err(Error::io(&self.path))
    }

    async fn list(&mut self) -> Result<(), Error> {
        let recovery_points = self.read_checkpoint(RECOVERY_POINTS).await?;
        let log_starts = self.read_checkpoint(LOG_STARTS).await?;
        let cleaned = self.read_checkpoint(CLEANED).await?;
        let stop = self.stop;
        let start_of = |key: &(String, PartitionId)| RecoveryStart {
            recovery_point: recovery_points.get(key).copied(),
            log_start_offset: log_starts.get(key).copied(),
            cleaned_to: cleaned.get(key).copied(),
            stop,
        };
        let starts = recovery_points.keys().map(|key| (key.clone(), start_of(key))).collect();
        let path = self.path.join(gone::FILE_NAME);
        let content = read_small_file(&self.runtime, &path, CHECKPOINT_BYTES_MAX).await?;
        let had_records = content.as_deref().and_then(gone::parse).unwrap_or_default();
        self.recorded = RecordedPartitions { starts, had_records };
        let entries =
            self.runtime.list_directory(&self.path).await.map_err(Error::io(&self.path))?;
        for entry in entries {
            let path = self.path.join(&entry.name);
            if entry.kind != FileKind::Directory {
                let is_known =
                    KNOWN_NAMES.contains(&entry.name.as_str()) || entry.name.ends_with(".tmp");
                if !is_known {
                    self.unknown.push(entry.name);
                }
                continue;
            }
            if entry.name.ends_with(DELETED_SUFFIX) && entry.name.contains('.') {
                self.deleted.push(path);
                continue;
            }
            let Some((topic, partition)) = parse_partition_name(&entry.name) else {
                self.unknown.push(entry.name);
                continue;
            };
            let topic_id = self.read_topic_id(&path).await?;
            if topic_id.is_none() && self.is_unfinished(&path).await? {
                remove_tree(&self.runtime, &path).await.map_err(Error::io(&path))?;
                continue;
            }
            let key = (topic.clone(), partition);
            let start = start_of(&key);
            self.partitions.push(PartitionDirectory { path, topic, partition, topic_id, start });
        }
        Ok(())
    }

    async fn read_topic_id(&self, partition: &Path) -> Result<Option<TopicId>, Error> {
        let path = partition.join(PARTITION_METADATA);
        let content = read_small_file(&self.runtime, &path, PROPERTIES_BYTES_MAX).await?;
        Ok(content.as_deref().and_then(topic_id_of))
    }

    /// True for a directory whose process ended between making it and the topic's id in it.
    async fn is_unfinished(&self, partition: &Path) -> Result<bool, Error> {
        let entries = self.runtime.list_directory(partition).await;
        let entries = entries.map_err(Error::io(partition))?;
        let temporary = |name: &str| name.strip_suffix(".tmp") == Some(PARTITION_METADATA);
        Ok(entries.iter().all(|entry| temporary(&entry.name)))
    }

    async fn read_checkpoint(
        &self,
        name: &str,
    ) -> Result<BTreeMap<(String, PartitionId), Offset>, Error> {
        let path = self.path.join(name);
        let content = read_small_file(&self.runtime, &path, CHECKPOINT_BYTES_MAX).await?;
        let Some(content) = content.filter(|content| !content.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let parsed = parse_offsets(&content);
        if parsed.is_none() {
            tracing::warn!(path = %path.display(), "a checkpoint that makes no sense: ignored");
        }
        Ok(parsed.unwrap_or_default())
    }
}

async fn lock(runtime: &Runtime, directory: &Path) -> Result<File, Error> {
    let path = directory.join(LOCK);
    let options = OpenOptions {
        create: Create::IfMissing,
        access: Access::ReadWrite,
        cache: Cache::Buffered,
    };
    let file = File::open(runtime, &path, options).await.map_err(Error::io(&path))?;
    match file.lock().await {
        Ok(()) => Ok(file),
        Err(Errno::WOULD_BLOCK) => Err(Error::Locked(directory.to_owned())),
        Err(errno) => Err(Error::Io { path, errno }),
    }
}

/// Writes `partition.metadata` of a new partition, durably.
pub(crate) async fn write_partition_metadata(
    runtime: &Runtime,
    directory: &Path,
    topic_id: TopicId,
) -> Result<(), Error> {
    let path = directory.join(PARTITION_METADATA);
    replace_file(runtime, path, partition_metadata(topic_id)).await
}

/// The content of `partition.metadata`.
pub(crate) fn partition_metadata(topic_id: TopicId) -> Vec<u8> {
    format!("version: 0\ntopic_id: {topic_id}\n").into_bytes()
}

/// The partition that a directory's path tells.
pub(crate) fn partition_of_path(path: &Path) -> Option<(String, PartitionId)> {
    parse_partition_name(path.file_name()?.to_str()?)
}

pub(crate) fn topic_id_of(content: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.lines().map(str::trim);
    let is_known = lines.next()? == "version: 0";
    let id = lines.next()?.strip_prefix("topic_id:")?.trim().parse().ok()?;
    is_known.then_some(id)
}

pub(crate) fn broker_epoch_of(content: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(content).ok()?;
    let rest = text.split_once("\"brokerEpoch\"")?.1.trim_start().strip_prefix(':')?;
    let number: String = rest
        .trim_start()
        .chars()
        .take_while(|character| character.is_ascii_digit() || *character == '-')
        .collect();
    number.parse().ok()
}

pub(crate) fn parse_offsets(content: &[u8]) -> Option<BTreeMap<(String, PartitionId), Offset>> {
    checkpoint::lines(content)?
        .into_iter()
        .map(|line| {
            let (rest, offset) = line.rsplit_once(' ')?;
            let (topic, partition) = rest.rsplit_once(' ')?;
            let partition = PartitionId(partition.parse().ok()?);
            Some(((topic.to_owned(), partition), Offset(offset.parse().ok()?)))
        })
        .collect()
}

fn text(points: &[RecoveryPoint], offset: impl Fn(&RecoveryPoint) -> Option<Offset>) -> Vec<u8> {
    let lines: Vec<String> = points
        .iter()
        .filter_map(|point| {
            let offset = offset(point)?;
            Some(format!("{} {} {offset}\n", point.topic, point.partition))
        })
        .collect();
    format!("0\n{}\n{}", lines.len(), lines.concat()).into_bytes()
}

/// Creates a directory, and those above it that are missing. Each of these is made durable in the
/// one above it before anything is put into it; the last one is by [`LogDirectory::take`].
async fn create_with_parents(runtime: &Runtime, path: &Path) -> Result<(), Error> {
    // Up to one that can be made or is there, then down again, each once.
    let mut missing = Vec::new();
    let mut current = path;
    loop {
        let parent = current.parent().filter(|parent| !parent.as_os_str().is_empty());
        match (runtime.create_directory(current).await, parent) {
            (Err(Errno::NOT_FOUND), Some(parent)) => {
                missing.push(current);
                current = parent;
            }
            (Ok(()) | Err(Errno::EXISTS), _) => break,
            (Err(errno), _) => return Err(Error::io(path)(errno)),
        }
    }
    while let Some(next) = missing.pop() {
        let parent = current.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        runtime.sync_directory(parent).await.map_err(Error::io(parent))?;
        runtime.create_directory(next).await.map_err(Error::io(path))?;
        current = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partitions_are_told_from_others() {
        let parse = |name: &str| {
            parse_partition_name(name).map(|(topic, partition)| format!("{topic}/{partition}"))
        };
        assert_eq!(parse("topic-0").as_deref(), Some("topic/0"));
        assert_eq!(parse("a-b-12").as_deref(), Some("a-b/12"));
        for name in ["topic", "-1", "topic-", "topic-x", "topic-99999999999", "t.u-delete"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn small_files_round_trip() {
        let point = RecoveryPoint {
            topic: "a-b".to_owned(),
            topic_id: TopicId::from_random(3, 4),
            partition: PartitionId(3),
            recovery_point: Offset(17),
            log_start_offset: Offset(0),
            high_watermark: Offset(17),
            cleaned_to: Offset(0),
        };
        let points = std::slice::from_ref(&point);
        let content = text(points, |point| Some(point.recovery_point));
        assert_eq!(content, b"0\n1\na-b 3 17\n");
        let key = ("a-b".to_owned(), PartitionId(3));
        assert_eq!(parse_offsets(&content).unwrap().get(&key), Some(&Offset(17)));
        assert_eq!(broker_epoch_of(b"{\"version\":0,\"brokerEpoch\":42}"), Some(42));
        let id = TopicId::from_random(1, 2);
        let metadata = format!("version: 0\ntopic_id: {id}");
        assert_eq!(topic_id_of(metadata.as_bytes()), Some(id));
        assert_eq!(topic_id_of(b"version: 1\ntopic_id: x"), None);
    }
}
