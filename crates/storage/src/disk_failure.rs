//! A failed sync concerns more than the file that it was made for: a file system's journal commits
//! the changes of many files at once, and tells one of them when that fails; a device's failed
//! flush may have lost what any write had left in its cache. So no log of the directory takes an
//! append from then on, as Apache Kafka gives a whole log directory up. What is durable is still
//! served; a start looks at what is on disk.
//!
//! The owner hands the news on to the other shards: [`Storage::disk_failure`] and
//! [`Storage::give_disk_up`].

use std::cell::Cell;

use runtime::{Errno, local::Notify};

use crate::{Error, FenceReason, Log, Storage, storage::StorageInner};

/// Whether the disk of a shard's logs has failed.
#[derive(Default)]
pub(crate) struct DiskFailure {
    errno: Cell<Option<Errno>>,
    came: Notify,
}

impl Storage {
    /// Waits until a sync has failed.
    pub async fn disk_failure(&self) -> Errno {
        let failure = &self.0.disk_failure;
        failure.came.wait_until(|| failure.errno.get().is_some()).await;
        failure.errno.get().expect("just waited for")
    }

    /// Another shard's sync has failed, or one that no log asked for: no log takes appends any
    /// more.
    pub fn give_disk_up(&self, errno: Errno) {
        self.0.give_disk_up(errno);
    }
}

impl StorageInner {
    pub(crate) fn give_disk_up(&self, errno: Errno) {
        let failure = &self.disk_failure;
        if failure.errno.get().is_some() {
            return;
        }
        failure.errno.set(Some(errno));
        tracing::error!(%errno, "a sync failed: no log takes appends until the next start");
        for log in self.all_logs() {
            log.fence_by(FenceReason::Sync(errno));
        }
        failure.came.notify_all();
    }

    /// What a log that is made now has to know.
    pub(crate) fn failed_sync(&self) -> Option<FenceReason> {
        self.disk_failure.errno.get().map(FenceReason::Sync)
    }

    /// A small file or the final form of a segment could not be written: where the device failed,
    /// the sync that failed is one like any other.
    pub(crate) fn note_failure(&self, error: &Error) {
        if let Error::Io { errno, .. } = error
            && errno.is_device_failure()
        {
            self.give_disk_up(*errno);
        }
    }
}

impl Log {
    /// The same of what became of this log's files.
    pub(crate) fn noted<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|error| self.0.storage.note_failure(error))
    }
}
