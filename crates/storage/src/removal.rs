//! Removes what was deleted, in the background, one directory after the other: a topic of thousands
//! of partitions that goes must not take the disk from those that stay.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::{Path, PathBuf},
    rc::Rc,
};

use runtime::{Errno, FileKind, Runtime, TaskQueue};

/// Directories that wait to be removed.
#[derive(Clone, Default)]
pub(crate) struct Removals(Rc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<PathBuf>>,
    is_running: Cell<bool>,
}

impl Removals {
    /// Has a directory removed. It is called so that the next start removes it where this process
    /// does not come to it.
    pub(crate) fn add(&self, runtime: &Runtime, directory: PathBuf) {
        self.0.waiting.borrow_mut().push_back(directory);
        if self.0.is_running.replace(true) {
            return;
        }
        let (queue, removing) = (Rc::clone(&self.0), runtime.clone());
        runtime.spawn("removal", TaskQueue::Background, async move {
            while let Some(path) = queue.next() {
                if let Err(errno) = remove_tree(&removing, &path).await {
                    tracing::warn!(path = %path.display(), %errno, "what was deleted stays");
                }
            }
            queue.is_running.set(false);
        });
    }
}

impl Queue {
    fn next(&self) -> Option<PathBuf> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// Removes a directory of files, and the directory.
pub(crate) async fn remove_tree(runtime: &Runtime, path: &Path) -> Result<(), Errno> {
    for entry in runtime.list_directory(path).await? {
        if entry.kind == FileKind::File {
            runtime.remove_file(&path.join(&entry.name)).await?;
        }
    }
    runtime.remove_directory(path).await
}
