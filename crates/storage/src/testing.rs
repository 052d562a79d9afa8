//! A disk in memory for this room's tests: operations complete in any order, by seed, and a power
//! cut keeps what a real disk would, and of the rest what the seed says.
//!
//! - A block becomes committed by a sync of its own file. Before that a power cut leaves zeros or
//!   its content, whatever other files' syncs did.
//! - A write to a committed block is durable after the flush of ANY file's sync; before that a
//!   power cut keeps any subset of its sectors.
//! - A file's length is durable after its own sync; names are after a sync of their directory.
//! - Two writes in flight to one block are a broken program.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an operation that no test of this room needs is a broken test"
)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    rc::Rc,
};

use runtime::{
    BufferPool, Cache, Create, DirectoryEntry, Driver, DriverKind, Errno, Event, Executor,
    FileInfo, FileKind, Instant, Message, Op, OpenOptions, Output, ShardIndex, Space, Wait,
    driver::{FileId, Token},
};

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// Repeatable chance.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    durable_length: usize,
    committed: BTreeSet<usize>,
    /// Sectors of committed blocks that no flush has covered.
    unflushed: BTreeSet<usize>,
    /// Written blocks that no sync of this file has covered.
    uncommitted: BTreeSet<usize>,
}

impl Inode {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[position..end].copy_from_slice(bytes);
        for sector in position / SECTOR..end.div_ceil(SECTOR) {
            let block = sector * SECTOR / BLOCK;
            if self.committed.contains(&block) {
                self.unflushed.insert(sector);
            } else {
                self.uncommitted.insert(block);
            }
        }
    }

    fn keep(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(bytes);
    }

    fn piece(&self, start: usize, length: usize) -> Vec<u8> {
        let end = (start + length).min(self.content.len());
        self.content.get(start..end).unwrap_or_default().to_vec()
    }

    fn padded(&self, start: usize, length: usize) -> Vec<u8> {
        let mut piece = self.piece(start, length);
        piece.resize(length, 0);
        piece
    }

    fn set_length(&mut self, length: usize) {
        if length < self.content.len() {
            let first_gone = length.div_ceil(BLOCK);
            self.committed.retain(|block| *block < first_gone);
            self.uncommitted.retain(|block| *block < first_gone);
            self.unflushed.retain(|sector| *sector * SECTOR < length);
            if !length.is_multiple_of(BLOCK) {
                self.uncommitted.insert(length / BLOCK);
            }
        }
        self.content.resize(length, 0);
    }
}

#[derive(Clone, Default)]
struct Directory {
    current: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

#[derive(Clone)]
enum Node {
    File(Inode),
    Directory(Directory),
}

/// What an operation needs at its completion.
enum Started {
    Op(Op),
    /// What a sync covers: the pieces of all files as they were when it was submitted.
    Sync {
        file: FileId,
        pieces: Vec<(usize, usize, Vec<u8>)>,
        length: usize,
    },
}

/// The disk; survives its drivers.
pub(crate) struct Disk {
    nodes: Vec<Node>,
    open: BTreeMap<u32, (usize, OpenOptions)>,
    next_file: u32,
    in_flight: Vec<(Token, Started)>,
    locked: BTreeSet<usize>,
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    pub(crate) completions: usize,
    /// Syncs of each directory, by path.
    pub(crate) directory_syncs: BTreeMap<String, usize>,
    /// The most files that were open at a time.
    pub(crate) open_max: usize,
    pub(crate) is_direct: bool,
    /// Bytes that allocations may still take.
    pub(crate) space: u64,
    /// All that the file system claims to hold: the reserve is a share of it.
    pub(crate) total_space: u64,
    /// The write, sync or read after so many more fails.
    pub(crate) fail_write_in: Option<usize>,
    pub(crate) fail_sync_in: Option<usize>,
}

/// A disk that several drivers use, one after the other.
#[derive(Clone)]
pub(crate) struct SharedDisk(pub(crate) Rc<RefCell<Disk>>);

impl SharedDisk {
    pub(crate) fn new(seed: u64) -> SharedDisk {
        SharedDisk(Rc::new(RefCell::new(Disk {
            nodes: vec![Node::Directory(Directory::default())],
            open: BTreeMap::new(),
            next_file: 0,
            in_flight: Vec::new(),
            locked: BTreeSet::new(),
            chance: Chance::new(seed),
            now: 1_000_000_000,
            completions: 0,
            directory_syncs: BTreeMap::new(),
            open_max: 0,
            is_direct: true,
            space: u64::MAX,
            total_space: 0,
            fail_write_in: None,
            fail_sync_in: None,
        })))
    }

    /// Another disk with the same content, between two processes.
    pub(crate) fn copy(&self) -> SharedDisk {
        let copy = SharedDisk::new(1);
        copy.0.borrow_mut().nodes = self.0.borrow().nodes.clone();
        copy
    }

    /// A new process on this disk.
    pub(crate) fn start(&self) -> Executor {
        let driver =
            MemoryDriver { disk: self.clone(), pool: BufferPool::new(4 << 20), submitted: 0 };
        Executor::new(ShardIndex(0), 1, Box::new(driver))
    }

    /// Runs one future to its end in a new process, which then ends by itself.
    pub(crate) fn run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        act: impl FnOnce(runtime::Runtime) -> F,
    ) -> T {
        let mut executor = self.start();
        let result = executor.block_on(act(executor.runtime()));
        drop(executor);
        self.kill();
        result
    }

    /// The process is killed: what was submitted happens or does not, the page cache stays.
    pub(crate) fn kill(&self) {
        let mut disk = self.0.borrow_mut();
        disk.land_some();
        disk.open.clear();
        disk.locked.clear();
    }

    /// The power goes.
    pub(crate) fn cut_power(&self) {
        self.kill();
        self.0.borrow_mut().forget();
    }

    /// A file's content as a reader sees it.
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        let disk = self.0.borrow();
        match &disk.nodes[disk.find(Path::new(path)).ok()?] {
            Node::File(inode) => Some(inode.content.clone()),
            Node::Directory(_) => None,
        }
    }

    /// Changes a file behind everybody's back, durably.
    pub(crate) fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.borrow_mut();
        let index = disk.find(Path::new(path)).unwrap();
        let Node::File(inode) = &mut disk.nodes[index] else { panic!("{path} is a directory") };
        change(&mut inode.content);
        inode.durable = inode.content.clone();
        inode.durable_length = inode.content.len();
    }

    /// Puts a file there behind everybody's back, durably.
    pub(crate) fn put(&self, path: &str, content: Vec<u8>) {
        let mut disk = self.0.borrow_mut();
        let (parent, name) = disk.parent(Path::new(path)).unwrap();
        let durable_length = content.len();
        let durable = content.clone();
        let inode = Inode { content, durable, durable_length, ..Inode::default() };
        disk.nodes.push(Node::File(inode));
        let node = disk.nodes.len() - 1;
        disk.directory(parent).current.insert(name.clone(), node);
        disk.directory(parent).durable.insert(name, node);
    }

    /// Removes a file behind everybody's back.
    pub(crate) fn remove(&self, path: &str) {
        let mut disk = self.0.borrow_mut();
        let (parent, name) = disk.parent(Path::new(path)).unwrap();
        disk.directory(parent).current.remove(&name);
        disk.directory(parent).durable.remove(&name);
    }

    /// The names in a directory.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let disk = self.0.borrow();
        let Ok(index) = disk.find(Path::new(path)) else { return Vec::new() };
        match &disk.nodes[index] {
            Node::Directory(directory) => directory.current.keys().cloned().collect(),
            Node::File(_) => Vec::new(),
        }
    }
}

impl Disk {
    fn find(&self, path: &Path) -> Result<usize, Errno> {
        let mut at = 0;
        for part in path.components().filter_map(|part| part.as_os_str().to_str()) {
            if part == "/" {
                continue;
            }
            let Node::Directory(directory) = &self.nodes[at] else { return Err(Errno::NOT_FOUND) };
            at = *directory.current.get(part).ok_or(Errno::NOT_FOUND)?;
        }
        Ok(at)
    }

    fn parent(&self, path: &Path) -> Result<(usize, String), Errno> {
        let parent = self.find(path.parent().ok_or(Errno::INVALID)?)?;
        Ok((parent, path.file_name().unwrap().to_str().unwrap().to_owned()))
    }

    fn directory(&mut self, index: usize) -> &mut Directory {
        match &mut self.nodes[index] {
            Node::Directory(directory) => directory,
            Node::File(_) => panic!("a file is used as a directory"),
        }
    }

    fn inode(&mut self, file: FileId) -> &mut Inode {
        let (index, _) = self.open[&file.0];
        match &mut self.nodes[index] {
            Node::File(inode) => inode,
            Node::Directory(_) => panic!("a directory is used as a file"),
        }
    }

    fn start(&mut self, token: Token, op: Op) {
        let started = match op {
            Op::Sync { file, .. } => {
                let own = self.open[&file.0].0;
                let mut pieces = Vec::new();
                for (index, node) in self.nodes.iter().enumerate() {
                    let Node::File(inode) = node else { continue };
                    for sector in &inode.unflushed {
                        let start = sector * SECTOR;
                        pieces.push((index, start, inode.padded(start, SECTOR)));
                    }
                    if index == own {
                        for block in &inode.uncommitted {
                            let start = block * BLOCK;
                            pieces.push((index, start, inode.padded(start, BLOCK)));
                        }
                    }
                }
                let length = self.inode(file).content.len();
                Started::Sync { file, pieces, length }
            }
            op => {
                self.check(&op);
                Started::Op(op)
            }
        };
        self.in_flight.push((token, started));
    }

    /// What the runtime promises of every driver.
    fn check(&self, op: &Op) {
        let Op::Write { file, position, slices } = op else { return };
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let start = usize::try_from(*position).unwrap();
        if self.is_direct && self.open[&file.0].1.cache == Cache::Direct {
            assert!(start.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK));
            for slice in slices {
                assert!(slice.as_ptr().addr().is_multiple_of(BLOCK));
                assert!(slice.len().is_multiple_of(BLOCK));
            }
        }
        let blocks = start / BLOCK..(start + length).div_ceil(BLOCK);
        for (_, other) in &self.in_flight {
            let Started::Op(Op::Write { file: other_file, position, slices }) = other else {
                continue;
            };
            let length: usize = slices.iter().map(|slice| slice.len()).sum();
            let start = usize::try_from(*position).unwrap();
            let others = start / BLOCK..(start + length).div_ceil(BLOCK);
            let is_same = self.open[&other_file.0].0 == self.open[&file.0].0;
            let overlaps = others.start < blocks.end && blocks.start < others.end;
            assert!(!is_same || !overlaps, "two writes in flight to one block");
        }
    }

    fn complete_one(&mut self, events: &mut Vec<Event>) {
        let index = self.chance.below(self.in_flight.len());
        let (token, started) = self.in_flight.swap_remove(index);
        self.completions += 1;
        let result = match started {
            Started::Op(op) => self.act(op),
            Started::Sync { file, pieces, length } => self.sync(file, pieces, length),
        };
        events.push(Event::Completed { token, result });
    }

    fn sync(
        &mut self,
        file: FileId,
        pieces: Vec<(usize, usize, Vec<u8>)>,
        length: usize,
    ) -> Result<Output, Errno> {
        if is_due(&mut self.fail_sync_in) {
            return Err(Errno::IO);
        }
        for (index, start, bytes) in pieces {
            let Node::File(inode) = &mut self.nodes[index] else { continue };
            let (sector, block) = (start / SECTOR, start / BLOCK);
            // Another sync that was submitted later may have been faster.
            if bytes.len() <= SECTOR && inode.unflushed.contains(&sector) {
                inode.keep(start, &bytes);
                if inode.padded(start, SECTOR) == bytes {
                    inode.unflushed.remove(&sector);
                }
            }
            if bytes.len() > SECTOR && inode.uncommitted.remove(&block) {
                inode.keep(start, &bytes);
                inode.committed.insert(block);
                inode.unflushed.extend(start / SECTOR..(start + BLOCK) / SECTOR);
            }
        }
        self.inode(file).durable_length = length;
        Ok(Output::Done)
    }

    fn act(&mut self, op: Op) -> Result<Output, Errno> {
        match op {
            Op::Open { path, options } => self.open(&path, options),
            Op::Read { file, position, length, mut buffer } => {
                let start = usize::try_from(position).unwrap();
                let piece = self.inode(file).piece(start, length);
                buffer.set_length(0);
                buffer.append(&piece);
                Ok(Output::Buffer(buffer))
            }
            Op::Write { file, position, slices } => {
                if is_due(&mut self.fail_write_in) {
                    return Err(Errno::IO);
                }
                let bytes = slices.concat();
                self.inode(file).write(usize::try_from(position).unwrap(), &bytes);
                Ok(Output::Count(bytes.len()))
            }
            Op::Allocate { file, position, length } => {
                let end = usize::try_from(position + length).unwrap();
                let grown = end.saturating_sub(self.inode(file).content.len());
                let grown = u64::try_from(grown).unwrap();
                if grown > self.space {
                    return Err(Errno::NO_SPACE);
                }
                self.space -= grown;
                let inode = self.inode(file);
                let length = inode.content.len().max(end);
                inode.content.resize(length, 0);
                Ok(Output::Done)
            }
            Op::SetLength { file, length } => {
                self.inode(file).set_length(usize::try_from(length).unwrap());
                Ok(Output::Done)
            }
            Op::Describe { file } => Ok(Output::Opened(file, self.info(file))),
            Op::Lock { file } => {
                let (index, _) = self.open[&file.0];
                if self.locked.insert(index) { Ok(Output::Done) } else { Err(Errno::WOULD_BLOCK) }
            }
            Op::CloseFile { file } => {
                self.open.remove(&file.0);
                Ok(Output::Done)
            }
            other => self.act_on_names(other),
        }
    }

    fn act_on_names(&mut self, op: Op) -> Result<Output, Errno> {
        match op {
            Op::Rename { from, to } => {
                let (from, from_name) = self.parent(&from)?;
                let (to, to_name) = self.parent(&to)?;
                let node =
                    self.directory(from).current.remove(&from_name).ok_or(Errno::NOT_FOUND)?;
                self.directory(to).current.insert(to_name, node);
            }
            Op::Remove { path } | Op::RemoveDirectory { path } => {
                let (parent, name) = self.parent(&path)?;
                self.directory(parent).current.remove(&name).ok_or(Errno::NOT_FOUND)?;
            }
            Op::CreateDirectory { path } => {
                let (parent, name) = self.parent(&path)?;
                if self.directory(parent).current.contains_key(&name) {
                    return Err(Errno::EXISTS);
                }
                self.nodes.push(Node::Directory(Directory::default()));
                let node = self.nodes.len() - 1;
                self.directory(parent).current.insert(name, node);
            }
            Op::SyncDirectory { path } => {
                *self.directory_syncs.entry(path.display().to_string()).or_default() += 1;
                let index = self.find(&path)?;
                let directory = self.directory(index);
                directory.durable = directory.current.clone();
            }
            Op::DescribeSpace { .. } => {
                let space = Space { total_bytes: self.total_space, free_bytes: self.space };
                return Ok(Output::Space(space));
            }
            Op::ListDirectory { path } => {
                let index = self.find(&path)?;
                let names = self.directory(index).current.clone();
                let entries = names.into_iter().map(|(name, node)| {
                    let kind = match &self.nodes[node] {
                        Node::File(_) => FileKind::File,
                        Node::Directory(_) => FileKind::Directory,
                    };
                    DirectoryEntry { name, kind }
                });
                return Ok(Output::Listing(entries.collect()));
            }
            other => panic!("no test of this room needs {other:?}"),
        }
        Ok(Output::Done)
    }

    fn open(&mut self, path: &Path, options: OpenOptions) -> Result<Output, Errno> {
        let (parent, name) = self.parent(path)?;
        let found = self.directory(parent).current.get(&name).copied();
        let node = match (found, options.create) {
            (Some(_), Create::New) => return Err(Errno::EXISTS),
            (None, Create::Never) => return Err(Errno::NOT_FOUND),
            (Some(node), _) => node,
            (None, _) => {
                self.nodes.push(Node::File(Inode::default()));
                let node = self.nodes.len() - 1;
                self.directory(parent).current.insert(name, node);
                node
            }
        };
        let file = FileId(self.next_file);
        self.next_file += 1;
        self.open.insert(file.0, (node, options));
        self.open_max = self.open_max.max(self.open.len());
        if options.create == Create::Truncate {
            self.inode(file).set_length(0);
        }
        Ok(Output::Opened(file, self.info(file)))
    }

    fn info(&mut self, file: FileId) -> FileInfo {
        let direct = self.is_direct && self.open[&file.0].1.cache == Cache::Direct;
        FileInfo {
            length: u64::try_from(self.inode(file).content.len()).unwrap(),
            direct,
            alignment: if direct { 4096 } else { 1 },
            device: 1,
            modified_ms: 0,
        }
    }

    /// The end of a process: each write in flight lands in full, in part or not at all.
    fn land_some(&mut self) {
        for (_, started) in std::mem::take(&mut self.in_flight) {
            let Started::Op(Op::Write { file, position, slices }) = started else { continue };
            let bytes = slices.concat();
            let start = usize::try_from(position).unwrap();
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                if !self.chance.one_in(3) {
                    self.inode(file).write(start + index * SECTOR, sector);
                }
            }
        }
    }

    /// The power cut itself.
    fn forget(&mut self) {
        let chance = &mut self.chance;
        for node in &mut self.nodes {
            match node {
                Node::File(inode) => {
                    for sector in std::mem::take(&mut inode.unflushed) {
                        if chance.one_in(2) {
                            let bytes = inode.piece(sector * SECTOR, SECTOR);
                            inode.keep(sector * SECTOR, &bytes);
                        }
                    }
                    for block in std::mem::take(&mut inode.uncommitted) {
                        if chance.one_in(2) {
                            let bytes = inode.piece(block * BLOCK, BLOCK);
                            inode.keep(block * BLOCK, &bytes);
                        }
                    }
                    let length =
                        if chance.one_in(2) { inode.content.len() } else { inode.durable_length };
                    inode.durable.resize(length, 0);
                    inode.durable_length = length;
                    inode.content = inode.durable.clone();
                    inode.committed = (0..length.div_ceil(BLOCK)).collect();
                }
                Node::Directory(directory) => {
                    if !chance.one_in(3) {
                        directory.current = directory.durable.clone();
                    }
                    directory.durable = directory.current.clone();
                }
            }
        }
    }
}

/// True for the operation that is to fail.
fn is_due(countdown: &mut Option<usize>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

struct MemoryDriver {
    disk: SharedDisk,
    pool: BufferPool,
    submitted: usize,
}

impl Driver for MemoryDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.submitted += 1;
        self.disk.0.borrow_mut().start(token, op);
    }

    fn cancel(&mut self, _token: Token) {}

    fn send(&mut self, _to: ShardIndex, message: Message) -> Result<(), Message> {
        Err(message)
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) {
        let mut disk = self.disk.0.borrow_mut();
        disk.now += 20_000;
        if disk.in_flight.is_empty() {
            if let Wait::Until(deadline) = wait {
                disk.now = disk.now.max(deadline.0);
            }
            assert!(wait != Wait::Forever, "everybody waits for nothing");
            return;
        }
        let count = 1 + disk.chance.below(3);
        for _ in 0..count {
            if !disk.in_flight.is_empty() {
                disk.complete_one(events);
            }
        }
    }

    fn now(&self) -> Instant {
        Instant(self.disk.0.borrow().now)
    }

    fn wall_clock_ms(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.disk.0.borrow().now / 1_000_000).unwrap()
    }

    fn random(&mut self) -> u64 {
        self.disk.0.borrow_mut().chance.next()
    }

    fn pool(&self) -> BufferPool {
        self.pool.clone()
    }
}
