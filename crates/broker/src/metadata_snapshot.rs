//! Snapshots of the metadata, in KRaft's format, and what they make needless.
//!
//! ```text
//!   <end offset, 20 digits>-<epoch, 10 digits>.checkpoint
//!   header | KRaftVersion, Voters (of a dynamic quorum) | the image's records | footer
//! ```
//! One is written after as many bytes of log, or as long after the first record since the last
//! one, as Kafka's settings say; never on a node whose metadata does not change. The one before
//! and the log behind it are kept, so that a snapshot that turns out to be damaged costs nothing;
//! older ones go, and the log is cut off at the start of what the older one needs.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use cluster::{
    MetadataRecord,
    feature::{KRAFT_VERSION_LEVEL, METADATA_VERSION_MAX},
    quorum::{BOOTSTRAP_SNAPSHOT_FILE, Voter},
};
use model::{LeaderEpoch, Offset, TimestampMs};
use runtime::{Runtime, local::Notify};
use wire::{
    control_record::ControlRecord,
    kraft_version_record::KRaftVersionRecord,
    snapshot_footer_record::SnapshotFooterRecord,
    snapshot_header_record::SnapshotHeaderRecord,
    voters_record::{Endpoint, KRaftVersionFeature, Voter as WireVoter, VotersRecord},
};

use crate::{
    Error,
    connection::first_of,
    controller::{self, RECORDS_A_BATCH_MAX},
    metadata_log::{self, CONTROLLER_LISTENER, QuorumRecords},
    shard::Shard,
};

/// When the next snapshot is due; on shard 0.
pub(crate) struct SnapshotNeed {
    directory: PathBuf,
    quorum: QuorumRecords,
    /// Bytes of the log behind the newest snapshot.
    bytes: Cell<u64>,
    grown: Notify,
    /// The ends of the snapshots that are there, the newest last.
    ends: RefCell<Vec<Offset>>,
}

impl SnapshotNeed {
    pub(crate) fn new(
        directory: PathBuf,
        quorum: QuorumRecords,
        bytes: u64,
        newest: Option<Offset>,
    ) -> SnapshotNeed {
        let ends = RefCell::new(newest.into_iter().collect());
        SnapshotNeed { directory, quorum, bytes: Cell::new(bytes), grown: Notify::new(), ends }
    }

    /// Notes bytes that were appended.
    pub(crate) fn note(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        self.grown.notify_all();
    }
}

impl Shard {
    /// Writes snapshots when they are due, until a stop is asked for. Runs on shard 0.
    pub(crate) async fn write_snapshots(self: Rc<Self>) {
        loop {
            let asked = self.stopping.wait_until(|| self.stop_asked.get());
            if first_of(self.until_snapshot_is_due(), asked).await.is_none() {
                return;
            }
            if let Err(error) = Box::pin(self.write_snapshot()).await {
                // The log has everything; the next one is due after as much again.
                tracing::error!(%error, "no snapshot of the metadata was written");
                self.snapshot_need().bytes.set(0);
            }
        }
    }

    fn snapshot_need(&self) -> &SnapshotNeed {
        &self.controller.get().expect("called once the node has started").snapshots
    }

    async fn until_snapshot_is_due(&self) {
        let need = self.snapshot_need();
        let max = self.config.metadata_snapshot_bytes;
        need.grown.wait_until(|| need.bytes.get() > 0).await;
        let is_grown = need.grown.wait_until(|| need.bytes.get() >= max);
        match self.config.metadata_snapshot_interval_ms {
            // Either is as good a reason.
            Some(interval) => {
                let _ =
                    first_of(self.runtime.sleep(Duration::from_millis(interval)), is_grown).await;
            }
            None => is_grown.await,
        }
    }

    /// Writes one, and removes what it makes needless.
    async fn write_snapshot(&self) -> Result<(), Error> {
        let host = self.controller.get().expect("called once the node has started");
        let need = &host.snapshots;
        // No decision changes the image meanwhile, and none is torn by the snapshot's end.
        let turn = host.order.enter().await;
        let (records, end, level) = {
            let image = self.image.borrow();
            (image.to_records(), image.next_offset(), image.metadata_version())
        };
        let snapshot = Snapshot { quorum: need.quorum.clone(), epoch: host.epoch, level };
        let bytes = need.bytes.replace(0);
        drop(turn);
        let content = snapshot.encode(&self.runtime, &records).await?;
        let name = format!("{:020}-{:010}.checkpoint", end.0, host.epoch.0);
        let path = need.directory.join(name);
        let size = content.len();
        self.runtime.replace_file(&path, content).await.map_err(Error::io(&path))?;
        tracing::info!(offset = end.0, bytes = size, log = bytes, "snapshot of the metadata");
        let before = {
            let mut ends = need.ends.borrow_mut();
            let before = ends.last().copied();
            ends.push(end);
            before
        };
        // The next log bytes go into a file of their own, so that this one can be let go.
        host.log.roll();
        let Some(before) = before.filter(|before| *before > Offset::ZERO) else { return Ok(()) };
        host.log.delete_records(before).await.map_err(Error::Storage)?;
        // Its log start need not be durable first: it is where the snapshots say.
        Box::pin(host.log.checkpoint()).await.map_err(Error::Storage)?;
        Box::pin(host.log.remove_retained()).await.map_err(Error::Storage)?;
        remove_older(&self.runtime, &need.directory, before).await
    }
}

/// Removes the snapshots that end below `keep`.
async fn remove_older(runtime: &Runtime, directory: &Path, keep: Offset) -> Result<(), Error> {
    let entries = runtime.list_directory(directory).await.map_err(Error::io(directory))?;
    let ends = entries.iter().filter_map(|entry| metadata_log::snapshot_of_name(&entry.name));
    for (_, _, name) in ends.filter(|(end, ..)| *end < keep.0) {
        let path = directory.join(name);
        runtime.remove_file(&path).await.map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Writes the first snapshot of a new directory: who votes, and the features.
///
/// # Errors
/// The operating system's.
pub(crate) async fn write_first(
    runtime: &Runtime,
    directory: &Path,
    voter: Voter,
) -> Result<(), Error> {
    let (name, host, port) = CONTROLLER_LISTENER;
    let version = ControlRecord::KRaftVersion(KRaftVersionRecord {
        version: 0,
        k_raft_version: KRAFT_VERSION_LEVEL,
    });
    let voters = ControlRecord::Voters(VotersRecord {
        version: 0,
        voters: vec![WireVoter {
            voter_id: voter.id.0,
            voter_directory_id: voter.directory_id,
            endpoints: vec![Endpoint { name, host, port }],
            k_raft_version_feature: KRaftVersionFeature {
                min_supported_version: 0,
                max_supported_version: KRAFT_VERSION_LEVEL,
            },
        }],
    });
    let encoded = |record: &ControlRecord<'_>| record.encode().map_err(metadata_log::codec);
    let quorum =
        QuorumRecords { kraft_version: Some(encoded(&version)?), voters: Some(encoded(&voters)?) };
    let snapshot = Snapshot { quorum, epoch: LeaderEpoch(0), level: METADATA_VERSION_MAX };
    let records = cluster::controller::bootstrap_snapshot();
    let content = snapshot.encode(runtime, &records).await?;
    let path = directory.join(BOOTSTRAP_SNAPSHOT_FILE);
    runtime.replace_file(&path, content).await.map_err(Error::io(&path))
}

/// What a snapshot holds beside the image's records.
struct Snapshot {
    quorum: QuorumRecords,
    epoch: LeaderEpoch,
    /// Of `metadata.version`.
    level: i16,
}

impl Snapshot {
    /// The file's content: batches with offsets of their own, from 0 on.
    async fn encode(self, runtime: &Runtime, records: &[MetadataRecord]) -> Result<Vec<u8>, Error> {
        let now = TimestampMs(runtime.wall_clock_ms());
        let header = ControlRecord::SnapshotHeader(SnapshotHeaderRecord {
            version: 0,
            last_contained_log_timestamp: now.0,
        });
        let footer = ControlRecord::SnapshotFooter(SnapshotFooterRecord { version: 0 });
        let mut next = Offset::ZERO;
        let mut content = Vec::new();
        let mut controls = vec![header.encode().map_err(metadata_log::codec)?];
        controls.extend(self.quorum.kraft_version);
        controls.extend(self.quorum.voters);
        content.extend_from_slice(&metadata_log::control_batch(&controls, next, self.epoch, now));
        next = behind(next, controls.len());
        for records in records.chunks(RECORDS_A_BATCH_MAX) {
            let batch = controller::batch_at(records, self.level, next, self.epoch, now);
            content.extend_from_slice(&batch.map_err(Error::Cluster)?);
            next = behind(next, records.len());
            runtime.yield_now().await;
        }
        let footer = [footer.encode().map_err(metadata_log::codec)?];
        content.extend_from_slice(&metadata_log::control_batch(&footer, next, self.epoch, now));
        Ok(content)
    }
}

fn behind(offset: Offset, count: usize) -> Offset {
    offset.plus(i64::try_from(count).expect("a slice's length fits 63 bits"))
}
