//! The metadata log on disk: `__cluster_metadata-0`, its snapshots as they are read, and
//! `quorum-state`. Snapshots are written by [`crate::metadata_snapshot`].
//!
//! Everything in it is KRaft's, so that Apache Kafka can take the directory over, and this node one
//! of Apache Kafka's whose only voter it is.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cluster::{
    MetadataImage, MetadataRecord,
    quorum::{QUORUM_STATE_FILE, QuorumState, Voter},
};
use model::{
    LeaderEpoch, NodeId, Offset, TimestampMs, Uuid,
    record_batch::{BatchOptions, NewRecord, RecordBatch, RecordBatchBuilder, attribute, batches},
};
use runtime::{Errno, Runtime};
use storage::{
    FirstBatch, Log,
    files::{Piece, SegmentReader},
};
use wire::{
    control_record::ControlRecord,
    leader_change_message::{LeaderChangeMessage, Voter as LeaderVoter},
};

use crate::{Error, metadata_records};

/// The largest snapshot or log that is read at a start, as a guard against nonsense.
const SNAPSHOT_BYTES_MAX: usize = 256 << 20;
/// How much of the log is read at a time.
const READ_BYTES: usize = 1 << 20;
/// The name and place of a controller's listener that is never opened: this node's only voter is
/// in this process. Apache Kafka, taking the directory over, puts its own here.
pub(crate) const CONTROLLER_LISTENER: (&str, &str, u16) = ("CONTROLLER", "localhost", 9093);

/// Metadata as it was read: what a snapshot says and what follows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    /// The records of the snapshot, which stands for everything below an offset.
    pub(crate) snapshot: Option<(Offset, Vec<MetadataRecord>)>,
    /// Data records of the log by the offset of their batch's first.
    pub(crate) batches: Vec<(Offset, Vec<MetadataRecord>)>,
}

impl Metadata {
    /// Replays all of it.
    ///
    /// # Errors
    /// When it says what cannot be.
    pub(crate) fn image(&self) -> Result<MetadataImage, cluster::Error> {
        let mut image = match &self.snapshot {
            Some((end, records)) => MetadataImage::from_snapshot(records, *end)?,
            None => MetadataImage::new(),
        };
        for (base, records) in &self.batches {
            image.apply(*base, records)?;
        }
        Ok(image)
    }
}

/// The last control records that say how the quorum votes, key and value as they were read; none
/// in a static quorum.
#[derive(Clone, Debug, Default)]
pub(crate) struct QuorumRecords {
    pub(crate) kraft_version: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) voters: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a metadata log says, in order.
#[derive(Default)]
pub(crate) struct Contents {
    /// The data records.
    pub(crate) metadata: Metadata,
    /// The voters of the last Voters record.
    pub(crate) voters: Option<Vec<Voter>>,
    /// The same, as a snapshot repeats it.
    pub(crate) quorum: QuorumRecords,
    /// The epoch of the last batch.
    pub(crate) last_epoch: i32,
    /// Bytes of the log's batches behind the snapshot.
    pub(crate) log_bytes: u64,
    /// A snapshot was read to its end.
    has_snapshot_footer: bool,
}

impl Contents {
    /// Adds what the batches in `bytes` say.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for batch in batches(bytes) {
            let batch = batch.map_err(|error| Error::Metadata(error.to_string()))?;
            batch.verify_crc().map_err(|error| Error::Metadata(error.to_string()))?;
            self.add_batch(&batch)?;
        }
        Ok(())
    }

    /// Adds what a batch with a right CRC says.
    fn add_batch(&mut self, batch: &RecordBatch<'_>) -> Result<(), Error> {
        self.last_epoch = self.last_epoch.max(batch.leader_epoch().0);
        if batch.is_control() { self.add_control(batch) } else { self.add_data(batch) }
    }

    fn add_control(&mut self, batch: &RecordBatch<'_>) -> Result<(), Error> {
        for record in batch.records() {
            let record = record.map_err(|error| Error::Metadata(error.to_string()))?;
            let (Some(key), Some(value)) = (record.key, record.value) else { continue };
            let control = ControlRecord::decode(key, value)
                .map_err(|error| Error::Metadata(error.to_string()))?;
            self.has_snapshot_footer |= matches!(control, ControlRecord::SnapshotFooter(_));
            if matches!(control, ControlRecord::KRaftVersion(_)) {
                self.quorum.kraft_version = Some((key.to_vec(), value.to_vec()));
            }
            if let ControlRecord::Voters(voters) = control {
                self.quorum.voters = Some((key.to_vec(), value.to_vec()));
                self.voters = Some(
                    voters
                        .voters
                        .iter()
                        .map(|voter| Voter {
                            id: NodeId(voter.voter_id),
                            directory_id: voter.voter_directory_id,
                        })
                        .collect(),
                );
            }
        }
        Ok(())
    }

    fn add_data(&mut self, batch: &RecordBatch<'_>) -> Result<(), Error> {
        let mut records = Vec::new();
        for record in batch.records() {
            let record = record.map_err(|error| Error::Metadata(error.to_string()))?;
            let value = record.value.unwrap_or_default();
            let decoded = metadata_records::decode(value)
                .map_err(|error| Error::Metadata(error.to_string()))?;
            records.push(decoded);
        }
        self.metadata.batches.push((batch.base_offset(), records));
        Ok(())
    }
}

/// Reads the whole log.
///
/// # Errors
/// When it cannot be read, or holds what is no metadata.
pub(crate) async fn read_log(log: &Log, contents: &mut Contents) -> Result<(), Error> {
    let snapshot_end = contents.metadata.snapshot.as_ref().map_or(Offset::ZERO, |(end, _)| *end);
    let mut from = log.log_start_offset().max(snapshot_end);
    let end = log.log_end_offset();
    if from > snapshot_end || snapshot_end > end {
        return Err(Error::Metadata(format!(
            "the newest whole snapshot ends at offset {snapshot_end}, and the log is {from} to {end}"
        )));
    }
    while from < end {
        let read = log
            .read(from, READ_BYTES, FirstBatch::Whole, end)
            .await
            .map_err(|error| Error::Metadata(error.to_string()))?;
        if read.batches.is_empty() {
            return Err(Error::Metadata(format!("nothing at offset {from}, the end is {end}")));
        }
        let bytes = read.batches.concat();
        contents.add(&bytes)?;
        contents.log_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        from = read.next_offset;
    }
    Ok(())
}

/// Reads the metadata without opening its log, as far as it is whole, and changes nothing.
///
/// # Errors
/// The operating system's; when there is what is no metadata.
pub(crate) async fn look(
    runtime: &Runtime,
    directory: &Path,
    contents: &mut Contents,
) -> Result<(), Error> {
    read_snapshot(runtime, directory, contents).await?;
    let from = contents.metadata.snapshot.as_ref().map_or(Offset::ZERO, |(end, _)| *end);
    let entries = runtime.list_directory(directory).await.map_err(Error::io(directory))?;
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort_unstable();
    for name in names {
        let reader = SegmentReader::open(runtime, &directory.join(name)).await;
        let mut reader = reader.map_err(Error::Storage)?;
        let Some(mut next) = first_offset_of(name) else { return Ok(()) };
        loop {
            match reader.next().await.map_err(Error::Storage)? {
                Some(Piece::Batch { batch, .. }) if is_next(&batch, next) => {
                    next = batch.next_offset();
                    if batch.base_offset() >= from {
                        contents.add_batch(&batch)?;
                    }
                }
                None => break,
                // Recovery will judge it.
                Some(_) => return Ok(()),
            }
        }
    }
    Ok(())
}

/// The offset of the first batch of a segment, by its name.
fn first_offset_of(name: &str) -> Option<Offset> {
    name.strip_suffix(".log")?.parse().ok().map(Offset)
}

/// Whether a batch is whole and continues those before it. No CRC covers its offset, and a write of
/// a process that was just killed may have landed without the sector that has it.
fn is_next(batch: &RecordBatch<'_>, next: Offset) -> bool {
    batch.verify_crc().is_ok() && batch.base_offset() == next
}

/// The end offset and the epoch that the name of a snapshot tells, and the name.
pub(crate) fn snapshot_of_name(name: &str) -> Option<(i64, i32, &str)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    Some((offset.parse().ok()?, epoch.parse().ok()?, name))
}

/// Reads the newest snapshot in `directory` that is whole, if there is one.
///
/// # Errors
/// The operating system's; when there are snapshots and none is whole.
pub(crate) async fn read_snapshot(
    runtime: &Runtime,
    directory: &Path,
    contents: &mut Contents,
) -> Result<(), Error> {
    let entries = runtime.list_directory(directory).await.map_err(Error::io(directory))?;
    let mut snapshots: Vec<(i64, i32, &str)> =
        entries.iter().filter_map(|entry| snapshot_of_name(&entry.name)).collect();
    snapshots.sort_unstable();
    let mut refused = None;
    while let Some((offset, epoch, name)) = snapshots.pop() {
        let path = directory.join(name);
        let bytes = runtime.read_file(&path, SNAPSHOT_BYTES_MAX).await.map_err(Error::io(&path))?;
        let mut read = Contents::default();
        let whole = read.add(&bytes).and_then(|()| {
            let is_whole = read.has_snapshot_footer;
            is_whole.then_some(()).ok_or_else(|| Error::Metadata("it has no end".to_owned()))
        });
        if let Err(error) = whole {
            tracing::warn!(path = %path.display(), %error, "a snapshot that is not whole");
            refused = Some(error);
            continue;
        }
        // The batches of a snapshot have offsets of their own.
        let batches = std::mem::take(&mut read.metadata.batches);
        let records = batches.into_iter().flat_map(|(_, records)| records).collect();
        read.metadata.snapshot = Some((Offset(offset), records));
        read.last_epoch = read.last_epoch.max(epoch);
        *contents = read;
        return Ok(());
    }
    refused.map_or(Ok(()), Err)
}

/// The batch that opens an epoch: who leads it.
///
/// # Errors
/// Never for one voter; the codec's otherwise.
pub(crate) fn leader_change(
    voter: Voter,
    epoch: LeaderEpoch,
    now: TimestampMs,
) -> Result<Bytes, Error> {
    let one = || LeaderVoter { voter_id: voter.id.0, voter_directory_id: voter.directory_id };
    // Apache Kafka 4.4 reads this record as version 0, whatever it says of itself.
    let message = LeaderChangeMessage {
        version: 0,
        leader_id: voter.id.0,
        voters: vec![one()],
        granting_voters: vec![one()],
    };
    let record = ControlRecord::LeaderChange(message).encode().map_err(codec)?;
    Ok(control_batch(&[record], Offset(0), epoch, now))
}

/// A control batch of these keys and values.
pub(crate) fn control_batch(
    records: &[(Vec<u8>, Vec<u8>)],
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    timestamp: TimestampMs,
) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset,
        leader_epoch,
        flags: attribute::CONTROL,
        ..BatchOptions::default()
    });
    for (key, value) in records {
        builder.append(&NewRecord { timestamp, key: Some(key), value: Some(value), headers: &[] });
    }
    builder.build()
}

/// A record that cannot be encoded.
pub(crate) fn codec(error: wire::Error) -> Error {
    Error::Metadata(error.to_string())
}

fn quorum_state_path(directory: &Path) -> PathBuf {
    directory.join(QUORUM_STATE_FILE)
}

/// The state of the quorum, if the file is there.
///
/// # Errors
/// The operating system's, and when the file is not understood.
pub(crate) async fn read_quorum_state(
    runtime: &Runtime,
    directory: &Path,
) -> Result<Option<QuorumState>, Error> {
    let path = quorum_state_path(directory);
    let content = match runtime.read_file(&path, 1 << 16).await {
        Ok(content) => content,
        Err(Errno::NOT_FOUND) => return Ok(None),
        Err(errno) => return Err(Error::io(&path)(errno)),
    };
    let text = String::from_utf8_lossy(&content);
    match QuorumState::decode(&text) {
        Some(state) => Ok(Some(state)),
        None => Err(Error::Metadata(format!("{}: not understood", path.display()))),
    }
}

/// Writes the state of the quorum, durably.
///
/// # Errors
/// The operating system's.
pub(crate) async fn write_quorum_state(
    runtime: &Runtime,
    directory: &Path,
    state: &QuorumState,
) -> Result<(), Error> {
    let path = quorum_state_path(directory);
    runtime.replace_file(&path, state.encode().into_bytes()).await.map_err(Error::io(&path))
}

/// A fresh id that no directory, topic or cluster has.
pub(crate) fn new_id(runtime: &Runtime) -> Uuid {
    Uuid::from_random(runtime.random(), runtime.random())
}

#[cfg(test)]
mod tests {
    use model::record_batch::{BatchOptions, NewRecord, RecordBatchBuilder};

    use super::*;

    #[test]
    fn a_batch_whose_offset_is_not_written_yet_is_left_to_recovery() {
        let options = BatchOptions { base_offset: Offset(40), ..BatchOptions::default() };
        let mut builder = RecordBatchBuilder::new(options);
        builder.append(&NewRecord { value: Some(b"v"), ..Default::default() });
        let mut bytes = builder.build().to_vec();
        let is_taken = |bytes: &[u8], next| is_next(&RecordBatch::first(bytes).unwrap(), next);
        assert!(is_taken(&bytes, Offset(40)));
        assert!(!is_taken(&bytes, Offset(39)));
        // The sector ends behind the offset, and is still as it was.
        bytes[..8].fill(0);
        assert!(RecordBatch::first(&bytes).unwrap().verify_crc().is_ok());
        assert!(!is_taken(&bytes, Offset(40)));
        let name = "00000000000000000040.log";
        assert_eq!(first_offset_of(name), Some(Offset(40)));
    }
}
