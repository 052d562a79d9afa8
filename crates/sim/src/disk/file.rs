//! One file: what programs see, what a power cut leaves, and the changes in between.
//!
//! ```text
//!   current    what reads give: every completed write
//!   pending    completed changes that no sync covered, in order, data cut at blocks
//!   durable    what is on the platter for sure
//!   committed  blocks that were written and then synced: only here does another file's flush help
//! ```
//!
//! What a flush of the device does for a write of another file depends on where it went (measured
//! on ext4 and XFS): in a committed block it is durable, since only the device's cache held it back;
//! in space that was only reserved, or behind the end, the data reach the platter but the extent or
//! the size that leads to them does not. What went through the page cache stays there until the
//! file's own sync.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Tally,
    content::{BLOCK_BYTES, Content, pieces},
    ranges::Ranges,
};
use crate::{
    Rng,
    number::{narrow, wide},
};

/// What a device writes as a whole: a write is torn at its borders.
pub(crate) const SECTOR_BYTES: usize = 512;

#[derive(Default)]
pub(crate) struct FileNode {
    current: Content,
    length: u64,
    durable: Content,
    durable_length: u64,
    committed: Ranges,
    allocated: Ranges,
    pending: Vec<Pending>,
    in_flight: Vec<InFlight>,
    pub(crate) modified_ms: i64,
}

struct Pending {
    sequence: u64,
    change: Change,
}

enum Change {
    /// Lies within one block.
    Write {
        position: u64,
        data: Bytes,
        road: Road,
        flushed: bool,
    },
    SetLength(u64),
    Grow(u64),
}

/// How a write reaches the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// At once, into the device's cache.
    Direct,
    /// Through the page cache.
    Cached,
}

/// A write that was submitted and has not completed.
pub(crate) struct InFlight {
    pub(crate) operation: u64,
    pub(crate) position: u64,
    pub(crate) data: Bytes,
    pub(crate) road: Road,
}

impl InFlight {
    fn range(&self) -> Range<u64> {
        self.position..self.position + wide(self.data.len())
    }
}

/// How much of what was not synced a power cut keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Of 1,000 unsynced sectors so many reached the platter.
    pub(crate) sectors_permille: u32,
    /// Of 1,000 files so many had some of their unsynced sizes and extents written back.
    pub(crate) metadata_permille: u32,
}

impl FileNode {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn allocated_bytes(&self) -> u64 {
        self.allocated.total()
    }

    /// How many more bytes the file would own after taking `range`.
    pub(crate) fn missing_bytes(&self, range: Range<u64>) -> u64 {
        if self.allocated.contains(range.clone()) {
            return 0;
        }
        let mut after = self.allocated.clone();
        after.insert(blocks(range));
        after.total() - self.allocated.total()
    }

    /// Registers a write; false if it overlaps one that is in flight.
    #[must_use]
    pub(crate) fn start_write(&mut self, write: InFlight) -> bool {
        let range = write.range();
        let alone = self.in_flight.iter().all(|other| {
            let other = other.range();
            other.end <= range.start || range.end <= other.start
        });
        self.in_flight.push(write);
        alone
    }

    pub(crate) fn has_writes_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// True if a write in flight goes around the page cache.
    pub(crate) fn is_direct(&self, operation: u64) -> bool {
        self.in_flight
            .iter()
            .any(|write| write.operation == operation && write.road == Road::Direct)
    }

    /// Takes a write out of those in flight, to be landed or dropped.
    pub(crate) fn end_write(&mut self, operation: u64) -> InFlight {
        let index = self
            .in_flight
            .iter()
            .position(|write| write.operation == operation)
            .expect("a write ends once");
        self.in_flight.remove(index)
    }

    /// The first `length` bytes of a write have completed.
    pub(crate) fn land(&mut self, write: &InFlight, length: usize, sequence: u64) {
        let data = write.data.slice(..length);
        self.current.write(write.position, &data);
        self.length = self.length.max(write.position + wide(length));
        self.allocated.insert(blocks(write.position..write.position + wide(length)));
        self.remember(write, &data, sequence);
    }

    /// Some sectors of a write have reached the file, and nobody is told which.
    pub(crate) fn land_torn(&mut self, write: &InFlight, sequence: u64, rng: &mut Rng) {
        for start in (0..write.data.len()).step_by(SECTOR_BYTES) {
            if rng.chance(500) {
                let end = (start + SECTOR_BYTES).min(write.data.len());
                let sector = InFlight {
                    operation: write.operation,
                    position: write.position + wide(start),
                    data: write.data.slice(start..end),
                    road: write.road,
                };
                self.land(&sector, end - start, sequence);
            }
        }
    }

    fn remember(&mut self, write: &InFlight, data: &Bytes, sequence: u64) {
        for piece in pieces(write.position, data.len()) {
            let change = Change::Write {
                position: write.position + wide(piece.from),
                data: data.slice(piece.from..piece.from + piece.length),
                road: write.road,
                flushed: false,
            };
            self.pending.push(Pending { sequence, change });
        }
    }

    /// Reads into `into`, whose end lies within the file. Where a write is in flight each sector is
    /// the old or the new one.
    pub(crate) fn read(&self, position: u64, into: &mut [u8], rng: &mut Rng) {
        self.current.read(position, into);
        let end = position + wide(into.len());
        for write in &self.in_flight {
            let range = write.range();
            let mut at = range.start.max(position);
            while at < range.end.min(end) {
                let next =
                    (at - at % wide(SECTOR_BYTES) + wide(SECTOR_BYTES)).min(range.end).min(end);
                if rng.chance(500) {
                    let source = narrow(at - range.start)..narrow(next - range.start);
                    into[narrow(at - position)..narrow(next - position)]
                        .copy_from_slice(&write.data[source]);
                }
                at = next;
            }
        }
    }

    /// What a reader would get now; zeros beyond the end.
    pub(crate) fn content(&self, position: u64, length: usize) -> Vec<u8> {
        let mut content = vec![0; length];
        self.current.read(position, &mut content);
        content
    }

    /// Other bytes are on the platter, and nobody has written them. What is pending still comes.
    pub(crate) fn damage(&mut self, position: u64, bytes: &[u8]) {
        self.current.write(position, bytes);
        self.durable.write(position, bytes);
    }

    pub(crate) fn set_length(&mut self, length: u64, sequence: u64) {
        if length < self.length {
            self.current.cut(length);
            self.committed.cut(length.next_multiple_of(BLOCK_BYTES));
            self.allocated.cut(length.next_multiple_of(BLOCK_BYTES));
        }
        self.length = length;
        self.pending.push(Pending { sequence, change: Change::SetLength(length) });
    }

    pub(crate) fn allocate(&mut self, range: Range<u64>, sequence: u64) {
        self.length = self.length.max(range.end);
        self.pending.push(Pending { sequence, change: Change::Grow(range.end) });
        self.allocated.insert(blocks(range));
    }

    /// The file's own sync, of what had completed by `upto`.
    pub(crate) fn sync(&mut self, upto: u64) {
        let count = self.pending.partition_point(|pending| pending.sequence <= upto);
        for pending in self.pending.drain(..count).collect::<Vec<Pending>>() {
            self.make_durable(&pending.change);
        }
    }

    /// A sync of the file failed. Of the data that it was to write some sectors are there and some
    /// are not, and no later sync will write the rest.
    pub(crate) fn fail_sync(&mut self, upto: u64, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        for pending in pending {
            let is_data = matches!(pending.change, Change::Write { .. });
            if !is_data || pending.sequence > upto {
                self.pending.push(pending);
            } else if !self.needs_metadata(&pending.change) {
                self.keep_sectors(&pending.change, 500, rng);
            }
        }
    }

    /// Another file of the device was synced, or the device was flushed.
    pub(crate) fn flush(&mut self, upto: u64) {
        let pending = std::mem::take(&mut self.pending);
        for mut pending in pending {
            let reached = pending.sequence <= upto
                && matches!(pending.change, Change::Write { road: Road::Direct, .. });
            if reached && !self.needs_metadata(&pending.change) {
                self.make_durable(&pending.change);
                continue;
            }
            if reached && let Change::Write { flushed, .. } = &mut pending.change {
                *flushed = true;
            }
            self.pending.push(pending);
        }
    }

    /// True if the change cannot be read back without a size or an extent that is not durable.
    fn needs_metadata(&self, change: &Change) -> bool {
        match change {
            Change::Write { position, data, .. } => {
                let range = *position..*position + wide(data.len());
                range.end > self.durable_length || !self.committed.contains(blocks(range))
            }
            Change::SetLength(_) | Change::Grow(_) => true,
        }
    }

    fn make_durable(&mut self, change: &Change) {
        match change {
            Change::Write { position, data, .. } => {
                let range = *position..*position + wide(data.len());
                self.durable.write(*position, data);
                self.durable_length = self.durable_length.max(range.end);
                self.committed.insert(blocks(range));
            }
            Change::SetLength(length) => {
                self.durable.cut(*length);
                self.durable_length = *length;
                self.committed.cut(length.next_multiple_of(BLOCK_BYTES));
            }
            Change::Grow(end) => self.durable_length = self.durable_length.max(*end),
        }
    }

    /// Keeps each sector of a write whose extent is there with a chance; gives how many were kept
    /// and how many lost.
    fn keep_sectors(&mut self, change: &Change, permille: u32, rng: &mut Rng) -> (u64, u64) {
        let Change::Write { position, data, .. } = change else { return (0, 0) };
        let range = *position..*position + wide(data.len());
        self.durable_length = self.durable_length.max(range.end);
        self.committed.insert(blocks(range));
        let (mut kept, mut lost) = (0, 0);
        for start in (0..data.len()).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(data.len());
            if rng.chance(permille) {
                self.durable.write(*position + wide(start), &data[start..end]);
                kept += 1;
            } else {
                lost += 1;
            }
        }
        (kept, lost)
    }

    /// The power is gone: what was synced is there, of the rest what `keep` and chance say.
    pub(crate) fn power_cut(&mut self, keep: Keep, rng: &mut Rng, tally: &mut Tally) {
        for write in std::mem::take(&mut self.in_flight) {
            self.remember(&write, &write.data, u64::MAX);
        }
        let pending = std::mem::take(&mut self.pending);
        let metadata_upto = match pending.len() {
            0 => 0,
            count if rng.chance(keep.metadata_permille) => pending[rng.index(count)].sequence,
            _ => 0,
        };
        // Of the write at hand: its sequence, sectors kept, sectors lost.
        let mut write = (0, 0, 0);
        for Pending { sequence, change } in pending {
            if write.0 != sequence {
                tally.note_write(write.1, write.2);
                write = (sequence, 0, 0);
            }
            let leads_there = sequence <= metadata_upto || !self.needs_metadata(&change);
            match &change {
                Change::SetLength(_) | Change::Grow(_) if leads_there => self.make_durable(&change),
                Change::SetLength(_) | Change::Grow(_) => tally.lengths_lost += 1,
                Change::Write { flushed, data, .. } if !leads_there => {
                    write.2 += wide(data.len().div_ceil(SECTOR_BYTES));
                    tally.extents_lost += u64::from(*flushed);
                }
                Change::Write { flushed: true, .. } => self.make_durable(&change),
                Change::Write { .. } => {
                    let (kept, lost) = self.keep_sectors(&change, keep.sectors_permille, rng);
                    write.1 += kept;
                    write.2 += lost;
                }
            }
        }
        tally.note_write(write.1, write.2);
        self.current = self.durable.clone();
        self.length = self.durable_length;
        self.allocated.cut(self.length.next_multiple_of(BLOCK_BYTES));
    }
}

/// The whole blocks that `range` touches.
fn blocks(range: Range<u64>) -> Range<u64> {
    let start = range.start - range.start % BLOCK_BYTES;
    start..range.end.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSE_ALL: Keep = Keep { sectors_permille: 0, metadata_permille: 0 };

    struct Bench {
        file: FileNode,
        sequence: u64,
        rng: Rng,
        tally: Tally,
    }

    impl Bench {
        fn new(seed: u64) -> Bench {
            let (rng, tally) = (Rng::new(seed), Tally::default());
            Bench { file: FileNode::default(), sequence: 0, rng, tally }
        }

        fn write_by(&mut self, road: Road, position: u64, length: usize, value: u8) {
            self.sequence += 1;
            let data = Bytes::from(vec![value; length]);
            let write = InFlight { operation: 0, position, data, road };
            self.file.land(&write, length, self.sequence);
        }

        fn write(&mut self, position: u64, length: usize, value: u8) {
            self.write_by(Road::Direct, position, length, value);
        }

        fn sync(&mut self) {
            self.file.sync(self.sequence);
        }

        fn flush_by_another_file(&mut self) {
            self.file.flush(self.sequence);
        }

        fn allocate(&mut self, range: Range<u64>) {
            self.sequence += 1;
            self.file.allocate(range, self.sequence);
        }

        fn set_length(&mut self, length: u64) {
            self.sequence += 1;
            self.file.set_length(length, self.sequence);
        }

        /// What a power cut leaves of the first `length` bytes, a character for each block.
        fn after_power_cut(&mut self, keep: Keep) -> String {
            self.file.power_cut(keep, &mut self.rng, &mut self.tally);
            let mut content = vec![0; narrow(self.file.length())];
            self.file.read(0, &mut content, &mut self.rng);
            let name = |block: &[u8]| match (block[0], block.iter().all(|b| *b == block[0])) {
                (0, true) => '.',
                (value, true) => char::from(value),
                (_, false) => '?',
            };
            content.chunks(4096).map(name).collect()
        }
    }

    #[test]
    fn a_power_cut_loses_what_no_sync_covered() {
        let mut bench = Bench::new(1);
        bench.write(0, 8192, b'a');
        bench.sync();
        bench.write(4096, 4096, b'b');
        bench.write(8192, 4096, b'c');
        assert_eq!(bench.after_power_cut(LOSE_ALL), "aa");
    }

    #[test]
    fn a_flush_vouches_for_committed_blocks_only() {
        let mut bench = Bench::new(1);
        bench.allocate(0..16384);
        bench.write(0, 8192, 0);
        bench.sync();
        bench.write(4096, 8192, b'b');
        bench.flush_by_another_file();
        // Block 1 was written and synced before; block 2 was only reserved.
        assert_eq!(bench.after_power_cut(LOSE_ALL), ".b..");
        assert_eq!(bench.tally.extents_lost, 1);
    }

    #[test]
    fn a_flush_does_not_vouch_for_a_growing_file() {
        let mut bench = Bench::new(1);
        bench.write(0, 4096, b'a');
        bench.flush_by_another_file();
        assert_eq!(bench.after_power_cut(LOSE_ALL), "");
    }

    #[test]
    fn a_flush_does_not_reach_the_page_cache() {
        let mut bench = Bench::new(1);
        bench.write_by(Road::Cached, 0, 4096, b'a');
        bench.sync();
        bench.write_by(Road::Cached, 0, 4096, b'b');
        bench.flush_by_another_file();
        assert_eq!(bench.after_power_cut(LOSE_ALL), "a");
    }

    #[test]
    fn space_that_was_cut_off_is_no_longer_committed() {
        let mut bench = Bench::new(1);
        bench.write(0, 8192, b'a');
        bench.sync();
        bench.set_length(0);
        bench.allocate(0..8192);
        bench.sync();
        bench.write(0, 4096, b'b');
        bench.flush_by_another_file();
        assert_eq!(bench.after_power_cut(LOSE_ALL), "..");
    }

    #[test]
    fn a_later_flush_is_not_undone_by_an_earlier_write() {
        let mut bench = Bench::new(1);
        bench.write(0, 4096, b'a');
        bench.sync();
        bench.write(0, 8192, b'b');
        bench.write(0, 4096, b'c');
        bench.flush_by_another_file();
        bench.sync();
        assert_eq!(bench.after_power_cut(LOSE_ALL), "cb");
    }

    #[test]
    fn unsynced_sectors_are_lost_one_by_one() {
        let mut torn = 0;
        for seed in 0..20 {
            let mut bench = Bench::new(seed);
            bench.write(0, 8192, b'a');
            bench.sync();
            bench.write(0, 8192, b'b');
            bench.after_power_cut(Keep { sectors_permille: 500, metadata_permille: 0 });
            assert_eq!(bench.tally.sectors_kept + bench.tally.sectors_dropped, 16);
            torn += bench.tally.writes_torn;
        }
        assert!(torn >= 18, "{torn} of 20 writes torn");
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let mut bench = Bench::new(4);
        bench.write(0, 4096, b'a');
        bench.sync();
        bench.write(0, 4096, b'b');
        bench.file.fail_sync(bench.sequence, &mut bench.rng);
        bench.sync();
        let mut seen = vec![0; 4096];
        bench.file.read(0, &mut seen, &mut bench.rng);
        assert_eq!(seen, vec![b'b'; 4096], "the page cache still shows it");
        assert_eq!(bench.after_power_cut(LOSE_ALL), "?");
    }

    #[test]
    fn a_cut_file_comes_back_unless_the_cut_was_synced() {
        for synced in [true, false] {
            let mut bench = Bench::new(1);
            bench.write(0, 8192, b'a');
            bench.sync();
            bench.set_length(4096);
            if synced {
                bench.sync();
            }
            assert_eq!(bench.after_power_cut(LOSE_ALL), if synced { "a" } else { "aa" });
        }
    }

    #[test]
    fn a_write_under_way_is_read_as_either() {
        let mut bench = Bench::new(1);
        bench.write(0, 4096, b'a');
        let data = Bytes::from(vec![b'b'; 4096]);
        let write = InFlight { operation: 1, position: 0, data, road: Road::Direct };
        assert!(bench.file.start_write(write));
        let mut seen = vec![0; 4096];
        bench.file.read(0, &mut seen, &mut bench.rng);
        assert!(seen.contains(&b'a') && seen.contains(&b'b'));
    }

    #[test]
    fn writes_in_flight_must_not_overlap() {
        let mut file = FileNode::default();
        let write = |operation, position, length| InFlight {
            operation,
            position,
            data: Bytes::from(vec![0; length]),
            road: Road::Direct,
        };
        assert!(file.start_write(write(1, 0, 4096)));
        assert!(file.start_write(write(2, 4096, 4096)));
        assert!(!file.start_write(write(3, 0, 8192)));
    }
}
