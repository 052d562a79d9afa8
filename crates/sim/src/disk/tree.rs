//! Names to files and directories, as an operating system walks them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use runtime::{DirectoryEntry, Errno, FileKind};

use super::{
    IS_A_DIRECTORY, InodeId, NOT_A_DIRECTORY, NOT_EMPTY, directory::DirectoryNode, file::FileNode,
};

const ROOT: InodeId = InodeId(0);

enum Inode {
    File(FileNode),
    Directory(DirectoryNode),
}

pub(crate) struct Tree {
    inodes: BTreeMap<InodeId, Inode>,
    next: u64,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let root = Inode::Directory(DirectoryNode::default());
        Tree { inodes: BTreeMap::from([(ROOT, root)]), next: 1 }
    }

    pub(crate) fn file(&self, inode: InodeId) -> &FileNode {
        match self.inodes.get(&inode) {
            Some(Inode::File(file)) => file,
            Some(Inode::Directory(_)) | None => panic!("{inode:?} is no file"),
        }
    }

    pub(crate) fn file_mut(&mut self, inode: InodeId) -> &mut FileNode {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) => file,
            Some(Inode::Directory(_)) | None => panic!("{inode:?} is no file"),
        }
    }

    pub(crate) fn directory_mut(&mut self, inode: InodeId) -> &mut DirectoryNode {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Directory(directory)) => directory,
            Some(Inode::File(_)) | None => panic!("{inode:?} is no directory"),
        }
    }

    fn directory(&self, inode: InodeId) -> Result<&DirectoryNode, Errno> {
        match self.inodes.get(&inode) {
            Some(Inode::Directory(directory)) => Ok(directory),
            Some(Inode::File(_)) => Err(NOT_A_DIRECTORY),
            None => Err(Errno::NOT_FOUND),
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &FileNode> {
        self.inodes.values().filter_map(|inode| match inode {
            Inode::File(file) => Some(file),
            Inode::Directory(_) => None,
        })
    }

    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut FileNode> {
        self.inodes.values_mut().filter_map(|inode| match inode {
            Inode::File(file) => Some(file),
            Inode::Directory(_) => None,
        })
    }

    pub(crate) fn directories_mut(&mut self) -> impl Iterator<Item = &mut DirectoryNode> {
        self.inodes.values_mut().filter_map(|inode| match inode {
            Inode::File(_) => None,
            Inode::Directory(directory) => Some(directory),
        })
    }

    /// What a path leads to. A relative path starts at the root, too.
    pub(crate) fn walk(&self, path: &Path) -> Result<InodeId, Errno> {
        let mut at = ROOT;
        for component in path.components() {
            let Some(name) = name_of(component)? else { continue };
            at = self.directory(at)?.get(name).ok_or(Errno::NOT_FOUND)?;
        }
        Ok(at)
    }

    /// The directory that a path's last name stands in, and that name.
    pub(crate) fn split<'a>(&self, path: &'a Path) -> Result<(InodeId, &'a str), Errno> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVALID)?;
        let parent = self.walk(path.parent().unwrap_or_else(|| Path::new("")))?;
        self.directory(parent)?;
        Ok((parent, name))
    }

    pub(crate) fn get(&self, parent: InodeId, name: &str) -> Result<Option<InodeId>, Errno> {
        Ok(self.directory(parent)?.get(name))
    }

    pub(crate) fn create_file(&mut self, path: &Path, sequence: u64) -> Result<InodeId, Errno> {
        self.create(path, Inode::File(FileNode::default()), sequence)
    }

    pub(crate) fn create_directory(&mut self, path: &Path, sequence: u64) -> Result<(), Errno> {
        self.create(path, Inode::Directory(DirectoryNode::default()), sequence).map(|_| ())
    }

    fn create(&mut self, path: &Path, inode: Inode, sequence: u64) -> Result<InodeId, Errno> {
        let (parent, name) = self.split(path)?;
        if self.get(parent, name)?.is_some() {
            return Err(Errno::EXISTS);
        }
        let id = InodeId(self.next);
        self.next += 1;
        self.inodes.insert(id, inode);
        self.directory_mut(parent).set(name, id, sequence);
        Ok(id)
    }

    pub(crate) fn require_file(&self, inode: InodeId) -> Result<(), Errno> {
        match self.inodes.get(&inode) {
            Some(Inode::File(_)) => Ok(()),
            Some(Inode::Directory(_)) => Err(IS_A_DIRECTORY),
            None => Err(Errno::NOT_FOUND),
        }
    }

    pub(crate) fn remove_file(&mut self, path: &Path, sequence: u64) -> Result<(), Errno> {
        let (parent, name) = self.split(path)?;
        let inode = self.get(parent, name)?.ok_or(Errno::NOT_FOUND)?;
        self.require_file(inode)?;
        self.directory_mut(parent).unset(name, sequence);
        Ok(())
    }

    pub(crate) fn remove_directory(&mut self, path: &Path, sequence: u64) -> Result<(), Errno> {
        let (parent, name) = self.split(path)?;
        let inode = self.get(parent, name)?.ok_or(Errno::NOT_FOUND)?;
        if !self.directory(inode)?.is_empty() {
            return Err(NOT_EMPTY);
        }
        self.directory_mut(parent).unset(name, sequence);
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, sequence: u64) -> Result<(), Errno> {
        let (from_parent, from_name) = self.split(from)?;
        let (to_parent, to_name) = self.split(to)?;
        let inode = self.get(from_parent, from_name)?.ok_or(Errno::NOT_FOUND)?;
        if let Some(replaced) = self.get(to_parent, to_name)?
            && replaced != inode
            && self.directory(replaced).is_ok_and(|directory| !directory.is_empty())
        {
            return Err(NOT_EMPTY);
        }
        if from_parent == to_parent {
            self.directory_mut(from_parent).rename(from_name, to_name, inode, sequence);
        } else {
            self.directory_mut(to_parent).set(to_name, inode, sequence);
            self.directory_mut(from_parent).unset(from_name, sequence);
        }
        Ok(())
    }

    pub(crate) fn list(&self, path: &Path) -> Result<Vec<DirectoryEntry>, Errno> {
        let directory = self.directory(self.walk(path)?)?;
        let entry = |(name, inode): (&String, InodeId)| DirectoryEntry {
            name: name.clone(),
            kind: match self.inodes.get(&inode) {
                Some(Inode::File(_)) => FileKind::File,
                Some(Inode::Directory(_)) => FileKind::Directory,
                None => FileKind::Other,
            },
        };
        Ok(directory.entries().map(entry).collect())
    }

    /// All files in this directory and in those in it, by their paths.
    pub(crate) fn files_under(&self, directory: &Path) -> Vec<(PathBuf, InodeId)> {
        let mut files = Vec::new();
        let mut to_see: Vec<PathBuf> = vec![directory.to_owned()];
        while let Some(path) = to_see.pop() {
            let found = self.walk(&path).and_then(|inode| self.directory(inode));
            for (name, inode) in found.iter().flat_map(|directory| directory.entries()) {
                match self.inodes.get(&inode) {
                    Some(Inode::File(_)) => files.push((path.join(name), inode)),
                    Some(Inode::Directory(_)) => to_see.push(path.join(name)),
                    None => {}
                }
            }
        }
        files
    }

    /// A name of a file, for people.
    pub(crate) fn name_of(&self, inode: InodeId) -> String {
        for candidate in self.inodes.values() {
            if let Inode::Directory(directory) = candidate
                && let Some((name, _)) = directory.entries().find(|(_, its)| *its == inode)
            {
                return name.clone();
            }
        }
        format!("{inode:?}")
    }

    /// Forgets what neither a name nor `used` leads to.
    pub(crate) fn sweep(&mut self, used: impl IntoIterator<Item = InodeId>) {
        let mut seen: BTreeSet<InodeId> = BTreeSet::new();
        let mut to_see: Vec<InodeId> = used.into_iter().chain([ROOT]).collect();
        while let Some(inode) = to_see.pop() {
            if seen.insert(inode)
                && let Some(Inode::Directory(directory)) = self.inodes.get(&inode)
            {
                to_see.extend(directory.reachable());
            }
        }
        self.inodes.retain(|inode, _| seen.contains(inode));
    }
}

/// The name that a step of a path takes; none where it stays.
fn name_of(component: Component<'_>) -> Result<Option<&str>, Errno> {
    match component {
        Component::RootDir | Component::CurDir => Ok(None),
        Component::Normal(name) => name.to_str().map(Some).ok_or(Errno::INVALID),
        Component::ParentDir | Component::Prefix(_) => Err(Errno::INVALID),
    }
}
