//! One directory: its names as programs see them, and as a power cut leaves them.
//!
//! A name is durable only after a sync of its directory: syncing the file does not help, whatever
//! some file systems do beyond POSIX. A rename within one directory is atomic.

use std::collections::BTreeMap;

use super::{InodeId, Tally};
use crate::Rng;

#[derive(Default)]
pub(crate) struct DirectoryNode {
    current: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    pending: Vec<(u64, Change)>,
}

enum Change {
    Set(String, InodeId),
    Unset(String),
    Rename { from: String, to: String, inode: InodeId },
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, InodeId>) {
        match self {
            Change::Set(name, inode) => {
                entries.insert(name.clone(), *inode);
            }
            Change::Unset(name) => {
                entries.remove(name);
            }
            Change::Rename { from, to, inode } => {
                entries.remove(from);
                entries.insert(to.clone(), *inode);
            }
        }
    }
}

impl DirectoryNode {
    pub(crate) fn get(&self, name: &str) -> Option<InodeId> {
        self.current.get(name).copied()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, InodeId)> {
        self.current.iter().map(|(name, inode)| (name, *inode))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// Everything that a name leads to, or led to or may lead to after a power cut.
    pub(crate) fn reachable(&self) -> impl Iterator<Item = InodeId> {
        let pending = self.pending.iter().filter_map(|(_, change)| match change {
            Change::Set(_, inode) | Change::Rename { inode, .. } => Some(*inode),
            Change::Unset(_) => None,
        });
        self.current.values().chain(self.durable.values()).copied().chain(pending)
    }

    pub(crate) fn set(&mut self, name: &str, inode: InodeId, sequence: u64) {
        self.change(Change::Set(name.to_owned(), inode), sequence);
    }

    pub(crate) fn unset(&mut self, name: &str, sequence: u64) {
        self.change(Change::Unset(name.to_owned()), sequence);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str, inode: InodeId, sequence: u64) {
        let change = Change::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        self.change(change, sequence);
    }

    fn change(&mut self, change: Change, sequence: u64) {
        change.apply(&mut self.current);
        self.pending.push((sequence, change));
    }

    pub(crate) fn sync(&mut self, upto: u64) {
        let count = self.pending.partition_point(|(sequence, _)| *sequence <= upto);
        for (_, change) in self.pending.drain(..count) {
            change.apply(&mut self.durable);
        }
    }

    /// The power is gone. Of the changes that were not synced, a file system with a journal keeps
    /// the first so many, one without keeps any.
    pub(crate) fn power_cut(&mut self, rng: &mut Rng, tally: &mut Tally) {
        let pending = std::mem::take(&mut self.pending);
        let journaled = rng.chance(500);
        let first = rng.index(pending.len() + 1);
        // Half of the time the cut comes long before anything was written back.
        let none = rng.chance(500);
        for (index, (_, change)) in pending.iter().enumerate() {
            let kept = !none && if journaled { index < first } else { rng.chance(500) };
            if kept {
                change.apply(&mut self.durable);
            } else {
                tally.names_lost += 1;
            }
        }
        self.current = self.durable.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &DirectoryNode) -> String {
        directory.entries().map(|(name, inode)| format!("{name}={} ", inode.0)).collect()
    }

    /// What a power cut left in each of many runs.
    fn outcomes(change: impl Fn(&mut DirectoryNode)) -> Vec<String> {
        let mut outcomes = Vec::new();
        for seed in 0..50 {
            let mut directory = DirectoryNode::default();
            directory.set("old", InodeId(1), 1);
            directory.sync(1);
            change(&mut directory);
            directory.power_cut(&mut Rng::new(seed), &mut Tally::default());
            outcomes.push(names(&directory));
        }
        outcomes.sort();
        outcomes.dedup();
        outcomes
    }

    #[test]
    fn a_name_is_durable_only_after_a_sync_of_the_directory() {
        let created = outcomes(|directory| directory.set("new", InodeId(2), 2));
        assert_eq!(created, ["new=2 old=1 ", "old=1 "]);
        let synced = outcomes(|directory| {
            directory.set("new", InodeId(2), 2);
            directory.sync(2);
        });
        assert_eq!(synced, ["new=2 old=1 "]);
        let removed = outcomes(|directory| directory.unset("old", 2));
        assert_eq!(removed, ["", "old=1 "]);
    }

    #[test]
    fn a_rename_is_atomic() {
        let renamed = outcomes(|directory| directory.rename("old", "new", InodeId(1), 2));
        assert_eq!(renamed, ["new=1 ", "old=1 "]);
    }

    #[test]
    fn a_sync_covers_what_was_done_before_it_started() {
        let later = outcomes(|directory| {
            directory.set("new", InodeId(2), 2);
            directory.set("later", InodeId(3), 3);
            directory.sync(2);
        });
        assert_eq!(later, ["later=3 new=2 old=1 ", "new=2 old=1 "]);
    }
}
