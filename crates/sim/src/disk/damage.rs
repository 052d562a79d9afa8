//! What a disk does to data that were durable: bits that flip, sectors that rot, and writes that
//! it acknowledged and that are not there, wholly or in part, or are somewhere else.
//!
//! Such a fault strikes a file as it lies there; a lost write is one that the disk took back some
//! time after it was made, as long as nothing was written over it. Who runs the disk says when and
//! where, as it has to know what can still be promised: [`Disk::damage`] does as it is told.

use std::{
    collections::VecDeque,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    Disk, InodeId,
    content::BLOCK_BYTES,
    file::{InFlight, Road},
};
use crate::number::{narrow, wide};

/// How many of the last direct writes may still be taken back.
const REMEMBERED_MAX: usize = 300;

/// A write that the disk acknowledged.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    inode: InodeId,
    pub(crate) position: u64,
    pub(crate) data: Bytes,
    /// What was there before.
    before: Vec<u8>,
}

/// The last direct writes, where they are remembered.
#[derive(Default)]
pub(crate) struct Acknowledgements(Option<VecDeque<Acknowledged>>);

impl Disk {
    /// From now on writes may be taken back.
    pub(crate) fn remember_writes(&mut self) {
        self.acknowledgements.0.get_or_insert_default();
    }

    /// Called before a write lands.
    pub(super) fn acknowledge(&mut self, inode: InodeId, write: &InFlight) {
        let Some(remembered) = &mut self.acknowledgements.0 else { return };
        if write.road != Road::Direct || write.data.iter().all(|byte| *byte == 0) {
            return;
        }
        let before = self.tree.file(inode).content(write.position, write.data.len());
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        let (position, data) = (write.position, write.data.clone());
        remembered.push_back(Acknowledged { inode, position, data, before });
    }

    /// The writes that are remembered, with the names of their files; of files that are gone, none.
    pub(crate) fn acknowledged(&self, under: &Path) -> Vec<(PathBuf, Acknowledged)> {
        let files = self.tree.files_under(under);
        let remembered = self.acknowledgements.0.iter().flatten();
        let path_of = |write: &Acknowledged| {
            let named = files.iter().find(|(_, inode)| *inode == write.inode);
            named.map(|(path, _)| (path.clone(), write.clone()))
        };
        remembered.filter_map(path_of).collect()
    }

    /// All files in this directory and those in it.
    pub(crate) fn paths_under(&self, directory: &Path) -> Vec<PathBuf> {
        self.tree.files_under(directory).into_iter().map(|(path, _)| path).collect()
    }

    /// What a file holds; `None` where there is none.
    pub(crate) fn content_of(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.tree.walk(path).ok().filter(|at| self.tree.require_file(*at).is_ok())?;
        let file = self.tree.file(inode);
        Some(file.content(0, narrow(file.length())))
    }

    /// Puts `bytes` where others were durable, without a word to anybody.
    pub(crate) fn damage(&mut self, path: &Path, position: u64, bytes: &[u8]) {
        let inode = self.tree.walk(path).expect("the file is there");
        self.tree.file_mut(inode).damage(position, bytes);
    }
}

impl Acknowledged {
    /// The file's content if these blocks of the write had never been there: what was written over
    /// them since stays.
    pub(crate) fn taken_back(&self, content: &[u8], blocks: Range<usize>) -> Vec<u8> {
        let mut without = content.to_vec();
        let block = narrow(BLOCK_BYTES);
        for at in blocks.map(|number| number * block) {
            let within = at..(at + block).min(self.data.len());
            let start = narrow(self.position) + at;
            let place = start..start + within.len();
            if content.get(place.clone()) == Some(&self.data[within.clone()]) {
                without[place].copy_from_slice(&self.before[within]);
            }
        }
        without
    }

    pub(crate) fn block_count(&self) -> usize {
        narrow(wide(self.data.len()).div_ceil(BLOCK_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_taken_back_where_nothing_was_written_since() {
        let (old, new) = (vec![b'a'; 8192], vec![b'b'; 8192]);
        let write = Acknowledged {
            inode: InodeId(1),
            position: 4096,
            data: Bytes::from(new.clone()),
            before: old,
        };
        let mut content = [vec![b'x'; 4096], new].concat();
        let shown = |content: &[u8]| -> String {
            content.chunks(4096).map(|block| char::from(block[0])).collect()
        };
        assert_eq!(shown(&write.taken_back(&content, 0..2)), "xaa");
        assert_eq!(shown(&write.taken_back(&content, 0..1)), "xab");
        content[8192..].fill(b'c');
        assert_eq!(shown(&write.taken_back(&content, 0..2)), "xac");
        assert_eq!(shown(&write.taken_back(&content[..4096], 0..2)), "x");
    }
}
