//! Names in directories: a partition's directory, which comes with its first segment, and syncs of
//! a directory that many logs share.
//!
//! A partition is metadata alone until its first append: neither a directory nor a sync is spent
//! on it. When many partitions get theirs at once, or a topic of many is deleted, one sync of the
//! directory above serves all whose names were changed before it began.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

use bytes::Bytes;
use model::collections::BTreeMap;
use runtime::{
    Errno, File, OpenOptions, TaskQueue,
    local::{Sender, oneshot},
};

use crate::{
    Log,
    directory::{PARTITION_METADATA, partition_metadata},
    log::Names,
    storage::StorageInner,
};

/// Is told how a sync ended.
type Waiter = Sender<Result<(), Errno>>;

/// Those who wait for a sync of a directory that has not begun. While one runs there is an entry.
#[derive(Default)]
pub(crate) struct NameSyncs(RefCell<BTreeMap<PathBuf, Vec<Waiter>>>);

impl StorageInner {
    /// Makes the names in a directory durable, in one sync with all others that want it now.
    pub(crate) async fn sync_names(self: &Rc<Self>, directory: &Path) -> Result<(), Errno> {
        let (sender, receiver) = oneshot();
        let starts = {
            let mut waiting = self.name_syncs.0.borrow_mut();
            let starts = !waiting.contains_key(directory);
            waiting.entry(directory.to_owned()).or_default().push(sender);
            starts
        };
        if starts {
            let (storage, directory) = (Rc::clone(self), directory.to_owned());
            self.runtime.spawn("name syncs", TaskQueue::Foreground, async move {
                storage.sync_names_until_idle(&directory).await;
            });
        }
        receiver.receive().await.unwrap_or(Err(Errno::CANCELED))
    }

    async fn sync_names_until_idle(&self, directory: &Path) {
        loop {
            self.runtime.end_of_turn().await;
            let served = {
                let mut waiting = self.name_syncs.0.borrow_mut();
                let served = waiting.get_mut(directory).map(std::mem::take).unwrap_or_default();
                if served.is_empty() {
                    waiting.remove(directory);
                    return;
                }
                served
            };
            let outcome = self.sync_directory(directory).await;
            for one in served {
                one.send(outcome);
            }
        }
    }
}

impl Log {
    /// Makes the partition's directory, and its topic's id in it. The names are durable when the
    /// directory and the one above it were synced, which the caller does.
    pub(crate) async fn make_directory(&self, directory: &Path) -> Result<(), Errno> {
        let runtime = self.runtime();
        match runtime.create_directory(directory).await {
            Ok(()) => {}
            // An earlier try found no space for what follows. What else is there is not ours.
            Err(Errno::EXISTS) if self.0.state.borrow().names == Names::Begun => {}
            Err(errno) => return Err(errno),
        }
        self.0.state.borrow_mut().names = Names::Begun;
        let path = directory.join(PARTITION_METADATA);
        let temporary = directory.join(format!("{PARTITION_METADATA}.tmp"));
        let file = File::open(runtime, temporary.clone(), OpenOptions::REPLACE).await?;
        file.write_all(0, Bytes::from(partition_metadata(self.topic_id()))).await?;
        file.sync().await?;
        file.close().await;
        runtime.rename(&temporary, &path).await
    }
}
