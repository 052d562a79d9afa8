//! Accepts the loss of what is damaged in a log, on a directory that no broker uses: the only way
//! in which damage leaves a log.
//!
//! Each damaged range is replaced by an empty batch that covers its offsets, as compaction leaves
//! one: consumers pass over it, here and in Apache Kafka, and every other record keeps its offset.
//! A segment is copied beside itself and takes its place durably; its indexes are removed, and
//! made again by who needs them.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;
use model::{
    LeaderEpoch, Offset, PartitionId,
    record_batch::{HEADER_BYTES, MAGIC, PREFIX_BYTES, position},
};
use runtime::{Errno, File, OpenOptions, Runtime};

use crate::{
    Damage, Error, LogDirectory, OpenMode, gone,
    inspect::{Gaps, Inspector, Rules, Step, UNKNOWN_LIMIT},
    leader_epochs::{self, LeaderEpochs, Runs},
    segment::{offset_of_name, segment_path},
    storage::read_small_file,
    tail::{length_of, position_of},
};

/// How much is copied at once.
const COPY_BYTES: u64 = 1 << 20;
/// The largest leader epoch checkpoint that is read.
const EPOCHS_BYTES_MAX: usize = 16 << 20;

/// What is to be accepted.
#[derive(Clone, Debug)]
pub struct LossToAccept {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// Only damage within these offsets; all that is found where there is none.
    pub offsets: Option<Range<Offset>>,
    /// The topic is compacted: that offsets are missing is no damage.
    pub is_compacted: bool,
}

/// What the command found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossReport {
    /// Damage that is no more: these records are lost.
    pub accepted: Vec<Damage>,
    /// Damage that is left, outside the offsets that were named.
    pub left: Vec<Damage>,
}

/// Looks at every batch of a partition and replaces what is damaged, and may be lost.
///
/// # Errors
/// [`Error::Locked`] where a broker runs on the directory; the operating system's.
pub async fn accept_loss(
    runtime: &Runtime,
    directory: &Path,
    loss: &LossToAccept,
) -> Result<LossReport, Error> {
    // The marker of a clean stop stays: the directory is as whole as it was.
    let opened = LogDirectory::look(runtime, directory, OpenMode::MustExist).await?;
    Box::pin(accept_in(runtime, &opened, loss)).await
}

async fn accept_in(
    runtime: &Runtime,
    directory: &LogDirectory,
    loss: &LossToAccept,
) -> Result<LossReport, Error> {
    let found = directory
        .partitions()
        .iter()
        .find(|one| one.topic == loss.topic && one.partition == loss.partition);
    let Some(found) = found else {
        return accept_gone(directory, loss).await;
    };
    let mut damaged = Damaged::list(runtime, &found.path, loss.is_compacted).await?;
    let damages = damaged.find(found.start.recovery_point.unwrap_or_default()).await?;
    let may_go = |damage: &Damage| {
        loss.offsets.as_ref().is_none_or(|all| all.start <= damage.from && damage.to <= all.end)
    };
    let (accepted, left): (Vec<Damage>, Vec<Damage>) = damages.into_iter().partition(may_go);
    damaged.replace(&accepted).await?;
    Ok(LossReport { accepted, left })
}

/// The partition's directory is gone, or there never was one.
async fn accept_gone(directory: &LogDirectory, loss: &LossToAccept) -> Result<LossReport, Error> {
    let name = format!("{}-{}", loss.topic, loss.partition);
    let key = (loss.topic.clone(), loss.partition);
    let Some(start) = directory.recorded().starts.get(&key) else {
        let what = format!("no partition {name}");
        return Err(Error::Malformed { path: directory.path().to_owned(), what });
    };
    let mut report = LossReport::default();
    let Some(damage) = gone::damage(&directory.path().join(name), start) else {
        return Ok(report);
    };
    if loss.offsets.as_ref().is_some_and(|all| damage.from < all.start || all.end < damage.to) {
        report.left.push(damage);
        return Ok(report);
    }
    directory.accept_gone(&loss.topic, loss.partition).await?;
    report.accepted.push(damage);
    Ok(report)
}

/// A partition that is looked at.
struct Damaged {
    runtime: Runtime,
    directory: PathBuf,
    bases: Vec<Offset>,
    snapshots: Vec<Offset>,
    epochs: LeaderEpochs,
    gaps: Gaps,
}

impl Damaged {
    async fn list(runtime: &Runtime, path: &Path, is_compacted: bool) -> Result<Damaged, Error> {
        let entries = runtime.list_directory(path).await.map_err(Error::io(path))?;
        let offsets = |suffix: &str| {
            entries.iter().filter_map(|entry| offset_of_name(&entry.name, suffix)).collect()
        };
        let epochs = path.join(leader_epochs::FILE_NAME);
        let epochs = read_small_file(runtime, &epochs, EPOCHS_BYTES_MAX).await?;
        Ok(Damaged {
            runtime: runtime.clone(),
            directory: path.to_owned(),
            bases: offsets("log"),
            snapshots: offsets("snapshot"),
            epochs: epochs.as_deref().and_then(LeaderEpochs::parse).unwrap_or_default(),
            gaps: if is_compacted { Gaps::Compacted } else { Gaps::None },
        })
    }

    /// All damage: what a start and the readers together would find. What lies above the mark and
    /// has nothing sound behind it is a torn write, and the next start's business.
    async fn find(&mut self, recovery_point: Offset) -> Result<Vec<Damage>, Error> {
        let mark = self.snapshots.iter().copied().filter(|at| *at <= recovery_point).max();
        let mark = mark.unwrap_or_default();
        let (mut damages, runs) = Box::pin(self.walk(mark, None)).await?;
        if !runs.agree_with(&self.epochs) {
            // As a reader does: which of the two is wrong is seen from the other batches.
            self.epochs = runs.into_epochs(&self.epochs);
            let epochs = Some(Rc::new(self.epochs.clone()));
            (damages, _) = Box::pin(self.walk(mark, epochs)).await?;
        }
        if let Some(last) = damages.pop_if(|last| last.to == UNKNOWN_LIMIT)
            && last.from < mark
        {
            damages.push(Damage { to: mark, ..last });
        }
        if self.bases.is_empty() && mark > Offset::ZERO {
            damages.push(Damage {
                from: Offset::ZERO,
                to: mark,
                path: segment_path(&self.directory, Offset::ZERO, "log"),
                positions: 0..0,
                what: "the segments are missing".to_owned(),
            });
        }
        Ok(damages)
    }

    /// Goes through all segments: what is damaged, and the leader epochs of what is not.
    async fn walk(
        &self,
        mark: Offset,
        epochs: Option<Rc<LeaderEpochs>>,
    ) -> Result<(Vec<Damage>, Runs), Error> {
        let (mut damages, mut runs) = (Vec::new(), Runs::default());
        for (index, base) in self.bases.iter().enumerate() {
            let limit = self.bases.get(index + 1).copied().unwrap_or(UNKNOWN_LIMIT);
            let (file, path, length) = self.open(*base).await?;
            let boundary = Some(mark).filter(|mark| *base <= *mark && *mark < limit);
            let rules = Rules { limit, gaps: self.gaps, boundary, epochs: epochs.clone() };
            let pool = self.runtime.pool();
            let mut inspector =
                Inspector::new(Rc::new(file), path.clone(), pool, 0..length, *base, rules);
            loop {
                match inspector.step().await.map_err(Error::io(&path))? {
                    Step::Sound { leader_epoch, base_offset, .. } => {
                        runs.add(leader_epoch, base_offset);
                    }
                    Step::Damaged(damage) => damages.push(damage),
                    Step::End => break,
                }
            }
        }
        Ok((damages, runs))
    }

    async fn open(&self, base: Offset) -> Result<(File, PathBuf, u64), Error> {
        let path = segment_path(&self.directory, base, "log");
        let file = File::open(&self.runtime, &path, OpenOptions::READ).await;
        let file = file.map_err(Error::io(&path))?;
        let length = file.info().length;
        Ok((file, path, length))
    }

    async fn replace(&mut self, accepted: &[Damage]) -> Result<(), Error> {
        for damage in accepted {
            let base = self.bases.iter().rev().find(|base| **base <= damage.from).copied();
            if base.is_none_or(|base| damage.to.0 - base.0 > i64::from(i32::MAX)) {
                // Nothing is there that could hold it.
                let filler = self.filler(damage);
                self.create(damage.from, filler).await?;
            }
        }
        for base in self.bases.clone() {
            let path = segment_path(&self.directory, base, "log");
            let of_segment: Vec<&Damage> = accepted
                .iter()
                .filter(|damage| damage.path == path && base <= damage.from)
                .filter(|damage| damage.to.0 - base.0 <= i64::from(i32::MAX))
                .collect();
            if !of_segment.is_empty() {
                self.copy_without(base, &of_segment).await?;
            }
        }
        let directory = &self.directory;
        self.runtime.sync_directory(directory).await.map_err(Error::io(directory))
    }

    async fn create(&self, base: Offset, content: Vec<u8>) -> Result<(), Error> {
        let path = segment_path(&self.directory, base, "log");
        self.runtime.replace_file(&path, content).await.map_err(Error::io(path))
    }

    /// Copies a segment with empty batches in the place of its damage.
    async fn copy_without(&self, base: Offset, damages: &[&Damage]) -> Result<(), Error> {
        let (source, path, length) = self.open(base).await?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let copy = File::open(&self.runtime, &temporary, OpenOptions::REPLACE).await;
        let copy = copy.map_err(Error::io(&temporary))?;
        let mut copying = Copying { source, copy, pool: self.runtime.pool(), end: 0 };
        let mut from = 0;
        let fail = || Error::io(&temporary);
        for damage in damages {
            copying.take(from..damage.positions.start).await.map_err(fail())?;
            copying.put(self.filler(damage)).await.map_err(fail())?;
            from = damage.positions.end;
        }
        copying.take(from..length).await.map_err(fail())?;
        copying.copy.sync().await.map_err(fail())?;
        for suffix in ["index", "timeindex"] {
            let index = segment_path(&self.directory, base, suffix);
            match self.runtime.remove_file(&index).await {
                Ok(()) | Err(Errno::NOT_FOUND) => {}
                Err(errno) => return Err(Error::Io { path: index, errno }),
            }
        }
        // An index of the segment as it was must not come back beside the new one.
        let directory = &self.directory;
        self.runtime.sync_directory(directory).await.map_err(Error::io(directory))?;
        self.runtime.rename(&temporary, &path).await.map_err(Error::io(path))
    }

    /// The empty batch that stands for damage; nothing where no offset is lost.
    fn filler(&self, damage: &Damage) -> Vec<u8> {
        let Ok(last_delta) = i32::try_from(damage.to.0 - damage.from.0 - 1) else {
            return Vec::new();
        };
        if last_delta < 0 {
            return Vec::new();
        }
        empty_batch(damage.from, last_delta, self.epochs.epoch_at(damage.from)).to_vec()
    }
}

/// A segment on its way into another file.
struct Copying {
    source: File,
    copy: File,
    pool: runtime::BufferPool,
    end: u64,
}

impl Copying {
    async fn take(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let bytes = length_of((range.end - at).min(COPY_BYTES));
            let read = self.source.read(at, bytes, self.pool.take(bytes)).await?;
            if read.is_empty() {
                return Err(Errno::IO);
            }
            at += position_of(read.len());
            self.put(read.to_vec()).await?;
        }
        Ok(())
    }

    async fn put(&mut self, bytes: Vec<u8>) -> Result<(), Errno> {
        let length = position_of(bytes.len());
        self.copy.write_all(self.end, Bytes::from(bytes)).await?;
        self.end += length;
        Ok(())
    }
}

/// A batch without records, which compaction, too, leaves where it keeps none.
fn empty_batch(base: Offset, last_delta: i32, epoch: LeaderEpoch) -> [u8; HEADER_BYTES] {
    let mut batch = [0u8; HEADER_BYTES];
    let mut put = |at: usize, field: &[u8]| batch[at..at + field.len()].copy_from_slice(field);
    let length = i32::try_from(HEADER_BYTES - PREFIX_BYTES).expect("a header is short");
    put(position::BASE_OFFSET, &base.0.to_be_bytes());
    put(position::BATCH_LENGTH, &length.to_be_bytes());
    put(position::PARTITION_LEADER_EPOCH, &epoch.0.to_be_bytes());
    put(position::MAGIC, &[MAGIC]);
    put(position::LAST_OFFSET_DELTA, &last_delta.to_be_bytes());
    put(position::BASE_TIMESTAMP, &(-1i64).to_be_bytes());
    put(position::MAX_TIMESTAMP, &(-1i64).to_be_bytes());
    put(position::PRODUCER_ID, &(-1i64).to_be_bytes());
    put(position::PRODUCER_EPOCH, &(-1i16).to_be_bytes());
    put(position::BASE_SEQUENCE, &(-1i32).to_be_bytes());
    let crc = crc32c::crc32c(&batch[position::ATTRIBUTES..]);
    batch[position::CRC..position::CRC + 4].copy_from_slice(&crc.to_be_bytes());
    batch
}
