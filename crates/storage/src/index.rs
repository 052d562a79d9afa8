//! The sparse indexes of a segment, in memory and as Kafka's `.index` and `.timeindex`.
//!
//! ```text
//!   .index      8 bytes: offset - base (i32), position (i32)    offset: the LAST of its batch,
//!                                                               position: that batch's START
//!   .timeindex  12 bytes: largest timestamp so far (i64), offset - base (i32)
//! ```
//! Of an active segment the files hold the entries of before the last checkpoint; `.timeindex` is
//! synced before `.index` is appended to, so that no time is missing below an offset entry.
//! An entry is added where more than `index.interval.bytes` were appended since the last one.
//! Indexes are derived from the log: one that makes no sense is dropped and rebuilt.

use model::{Offset, TimestampMs};

/// The size of an entry of `.index`.
pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
/// The size of an entry of `.timeindex`.
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) delta: u32,
    pub(crate) position: u32,
}

impl OffsetEntry {
    pub(crate) fn decode(bytes: [u8; OFFSET_ENTRY_BYTES]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = bytes;
        let delta = u32::from_be_bytes([a, b, c, d]);
        OffsetEntry { delta, position: u32::from_be_bytes([e, f, g, h]) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: TimestampMs,
    pub(crate) delta: u32,
}

impl TimeEntry {
    pub(crate) fn decode(bytes: [u8; TIME_ENTRY_BYTES]) -> TimeEntry {
        let [timestamp @ .., a, b, c, d] = bytes;
        let timestamp = TimestampMs(i64::from_be_bytes(timestamp));
        TimeEntry { timestamp, delta: u32::from_be_bytes([a, b, c, d]) }
    }
}

/// Both indexes of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexes {
    base_offset: Offset,
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    bytes_since_entry: u64,
    max_timestamp: TimestampMs,
    /// The last offset of the batch that brought `max_timestamp`.
    max_timestamp_offset: Offset,
}

/// What the indexes take from a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedBatch {
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) position: u64,
    pub(crate) size: u64,
}

impl Indexes {
    pub(crate) fn new(base_offset: Offset) -> Indexes {
        Indexes {
            base_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            bytes_since_entry: 0,
            max_timestamp: TimestampMs::NONE,
            max_timestamp_offset: base_offset,
        }
    }

    /// Notes a batch that was appended.
    pub(crate) fn add(&mut self, batch: &IndexedBatch, interval_bytes: u64) {
        if batch.max_timestamp > self.max_timestamp {
            self.max_timestamp = batch.max_timestamp;
            self.max_timestamp_offset = batch.last_offset;
        }
        if self.bytes_since_entry > interval_bytes {
            let entry = OffsetEntry {
                delta: self.delta(batch.last_offset),
                position: u32::try_from(batch.position).expect("segments end below 2^31"),
            };
            self.offsets.push(entry);
            self.add_time_entry();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += batch.size;
    }

    fn add_time_entry(&mut self) {
        let entry = TimeEntry {
            timestamp: self.max_timestamp,
            delta: self.delta(self.max_timestamp_offset),
        };
        if self.times.last().is_none_or(|last| last.timestamp < entry.timestamp) {
            self.times.push(entry);
        }
    }

    fn delta(&self, offset: Offset) -> u32 {
        u32::try_from(offset.0 - self.base_offset.0)
            .expect("a segment spans fewer than 2^31 offsets")
    }

    /// Ends the time index with the largest timestamp, as a segment that takes no more appends has
    /// it.
    pub(crate) fn finish(&mut self) {
        if self.max_timestamp > TimestampMs::NONE {
            self.add_time_entry();
        }
    }

    /// Whether either file has no room left below `bytes_max`; the time index keeps one place for
    /// the entry that ends it.
    pub(crate) fn are_full(&self, bytes_max: usize) -> bool {
        self.offsets.len() >= bytes_max / OFFSET_ENTRY_BYTES
            || self.times.len() + 1 >= bytes_max / TIME_ENTRY_BYTES
    }

    /// Where to start to read for `offset`, so many entries further back, and the last offset of
    /// the batch that has to be there; none at the segment's start.
    pub(crate) fn anchor(&self, offset: Offset, back: usize) -> (u64, Option<Offset>) {
        let after = self.offsets.partition_point(|entry| self.offset(entry.delta) <= offset);
        match after.checked_sub(back + 1).map(|index| self.offsets[index]) {
            Some(entry) => (u64::from(entry.position), Some(self.offset(entry.delta))),
            None => (0, None),
        }
    }

    /// The last entry below `timestamp`: nothing up to its offset is as new. `None` where the
    /// search has to begin at the segment's start.
    pub(crate) fn time_entry_before(
        &self,
        timestamp: TimestampMs,
    ) -> Option<(TimestampMs, Offset)> {
        let after = self.times.partition_point(|entry| entry.timestamp < timestamp);
        let entry = self.times[after.checked_sub(1)?];
        Some((entry.timestamp, self.offset(entry.delta)))
    }

    fn offset(&self, delta: u32) -> Offset {
        self.base_offset.plus(i64::from(delta))
    }

    /// The largest timestamp and the last offset of its batch.
    pub(crate) fn max_timestamp(&self) -> (TimestampMs, Offset) {
        (self.max_timestamp, self.max_timestamp_offset)
    }

    /// Drops what lies at `offset` and behind. `newest` is the largest timestamp of what is left
    /// and not yet in an entry, with its offset.
    pub(crate) fn cut(&mut self, offset: Offset, newest: Option<(TimestampMs, Offset)>) {
        let offsets = self.offsets.partition_point(|entry| self.offset(entry.delta) < offset);
        self.offsets.truncate(offsets);
        let times = self.times.partition_point(|entry| self.offset(entry.delta) < offset);
        self.times.truncate(times);
        let last = self.times.last().map(|last| (last.timestamp, self.offset(last.delta)));
        (self.max_timestamp, self.max_timestamp_offset) = last
            .into_iter()
            .chain(newest)
            .max_by_key(|(timestamp, _)| *timestamp)
            .unwrap_or((TimestampMs::NONE, self.base_offset));
    }

    /// How many entries there are, of offsets and of times.
    pub(crate) fn entry_counts(&self) -> [usize; 2] {
        [self.offsets.len(), self.times.len()]
    }

    /// `.index` as Kafka writes it.
    pub(crate) fn offset_file(&self) -> Vec<u8> {
        self.offset_file_from(0)
    }

    /// The same from this entry on.
    pub(crate) fn offset_file_from(&self, entry: usize) -> Vec<u8> {
        let entries = self.offsets.get(entry..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(entries.len() * OFFSET_ENTRY_BYTES);
        for entry in entries {
            bytes.extend_from_slice(&entry.delta.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
        }
        bytes
    }

    /// `.timeindex` as Kafka writes it.
    pub(crate) fn time_file(&self) -> Vec<u8> {
        self.time_file_from(0)
    }

    /// The same from this entry on.
    pub(crate) fn time_file_from(&self, entry: usize) -> Vec<u8> {
        let entries = self.times.get(entry..).unwrap_or_default();
        let mut bytes = Vec::with_capacity(entries.len() * TIME_ENTRY_BYTES);
        for entry in entries {
            bytes.extend_from_slice(&entry.timestamp.0.to_be_bytes());
            bytes.extend_from_slice(&entry.delta.to_be_bytes());
        }
        bytes
    }

    /// Reads both files of a segment of `size` bytes whose offsets end before `end`. `None` when
    /// they make no sense; a preallocated tail of zeros is none of that.
    pub(crate) fn parse(
        base_offset: Offset,
        offset_file: &[u8],
        time_file: &[u8],
        size: u64,
        end: Offset,
    ) -> Option<Indexes> {
        let mut indexes = Indexes::new(base_offset);
        let (entries, rest) = offset_file.as_chunks::<OFFSET_ENTRY_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        for entry in entries {
            let entry = OffsetEntry::decode(*entry);
            let OffsetEntry { delta, position } = entry;
            if position == 0 && delta == 0 {
                break;
            }
            let rises = indexes
                .offsets
                .last()
                .is_none_or(|last| last.delta < delta && last.position < position);
            if !rises || u64::from(position) >= size || indexes.offset(delta) >= end {
                return None;
            }
            indexes.offsets.push(entry);
        }
        indexes.parse_times(time_file, end)?;
        Some(indexes)
    }

    fn parse_times(&mut self, time_file: &[u8], end: Offset) -> Option<()> {
        let (entries, rest) = time_file.as_chunks::<TIME_ENTRY_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        for entry in entries {
            let entry = TimeEntry::decode(*entry);
            let TimeEntry { timestamp, delta } = entry;
            if timestamp.0 == 0 && delta == 0 {
                break;
            }
            let rises = self
                .times
                .last()
                .is_none_or(|last| last.timestamp < timestamp && last.delta <= delta);
            if !rises || self.offset(delta) >= end {
                return None;
            }
            self.times.push(entry);
        }
        if let Some(last) = self.times.last() {
            self.max_timestamp = last.timestamp;
            self.max_timestamp_offset = self.offset(last.delta);
        }
        Some(())
    }

    /// Where the last entry points to: what was scanned when it was made.
    pub(crate) fn last_position(&self) -> u64 {
        self.offsets.last().map_or(0, |entry| u64::from(entry.position))
    }

    /// Drops the entries of batches that start behind `position`.
    pub(crate) fn cut_behind(&mut self, position: u64) {
        let kept = self.offsets.partition_point(|entry| u64::from(entry.position) <= position);
        let behind = self.offsets.get(kept).map(|entry| self.offset(entry.delta));
        self.offsets.truncate(kept);
        let start = self.offsets.last().map_or(self.base_offset, |last| self.offset(last.delta));
        if behind.is_some() {
            self.cut(start.next(), None);
        }
    }

    /// Notes bytes behind the last entry whose batch is in it already.
    pub(crate) fn note_size(&mut self, bytes: u64) {
        self.bytes_since_entry += bytes;
    }

    /// Sets what a file does not tell: how much was appended behind the last entry.
    pub(crate) fn set_size(&mut self, size: u64) {
        self.bytes_since_entry = size - self.last_position();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Indexes {
        let mut indexes = Indexes::new(Offset(100));
        for batch in 0..50u32 {
            indexes.add(
                &IndexedBatch {
                    last_offset: Offset(100 + i64::from(batch) * 2 + 1),
                    max_timestamp: TimestampMs(
                        1000 + i64::from(batch % 10) * 10 + i64::from(batch),
                    ),
                    position: u64::from(batch) * 1000,
                    size: 1000,
                },
                4096,
            );
        }
        indexes.finish();
        indexes
    }

    #[test]
    fn files_round_trip() {
        let mut indexes = built();
        let read = Indexes::parse(
            Offset(100),
            &indexes.offset_file(),
            &indexes.time_file(),
            50_000,
            Offset(200),
        );
        let mut read = read.unwrap();
        read.set_size(50_000);
        indexes.set_size(50_000);
        assert_eq!(read, indexes);
    }

    #[test]
    fn an_entry_names_the_last_offset_and_the_start_of_its_batch() {
        let file = built().offset_file();
        // Five batches are 5,000 bytes, more than 4,096: the sixth gets the first entry.
        assert_eq!(file[..8], [0, 0, 0, 11, 0, 0, 0x13, 0x88]);
    }

    #[test]
    fn look_ups_never_lead_behind_the_batch() {
        let indexes = built();
        for offset in 100..200i64 {
            let batch_start = u64::try_from((offset - 100) / 2).unwrap() * 1000;
            let position = indexes.anchor(Offset(offset), 0).0;
            assert!(position <= batch_start && batch_start - position <= 6000, "{offset}");
        }
        assert_eq!(indexes.anchor(Offset(100), 0).0, 0);
    }

    #[test]
    fn files_that_make_no_sense_are_refused_and_zeros_are_none() {
        let indexes = built();
        let (offsets, times) = (indexes.offset_file(), indexes.time_file());
        let parse = |offsets: &[u8], times: &[u8], size| {
            Indexes::parse(Offset(100), offsets, times, size, Offset(200)).is_some()
        };
        assert!(parse(&[&offsets[..], &[0; 800]].concat(), &times, 50_000));
        assert!(parse(&offsets, &[&times[..], &[0; 120]].concat(), 50_000));
        let none = Indexes::parse(Offset(100), &[0; 80], &[0; 120], 50_000, Offset(200));
        assert_eq!(none, Some(Indexes::new(Offset(100))));
        assert!(!parse(&offsets[..offsets.len() - 1], &times, 50_000));
        assert!(!parse(&offsets, &times[..times.len() - 1], 50_000));
        assert!(!parse(&offsets, &times, 20_000));
        let mut falling = offsets;
        falling.rotate_left(8);
        assert!(!parse(&falling, &times, 50_000));
    }
}
