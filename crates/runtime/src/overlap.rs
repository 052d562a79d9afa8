//! Checks that no two writes in flight touch the same bytes of a file: they are unordered, and
//! either content may stay. Whoever lets it happen is a broken program, so it stops.

use std::collections::BTreeMap;

use crate::driver::FileId;

/// The writes in flight of a driver: the end of each by its file and start.
#[derive(Debug, Default)]
pub(crate) struct WritesInFlight(BTreeMap<(FileId, u64), u64>);

impl WritesInFlight {
    /// A write starts.
    ///
    /// # Panics
    /// When another one in flight touches its range.
    pub(crate) fn start(&mut self, file: FileId, position: u64, length: usize) {
        let length = u64::try_from(length).expect("usize is at most 64 bits");
        let end = position.saturating_add(length);
        if end == position {
            return;
        }
        // None of the others overlap, so the last that starts before our end is the one to ask.
        let last = self.0.range((file, 0)..(file, end)).next_back();
        if let Some(((_, other_start), other_end)) = last {
            assert!(
                *other_end <= position,
                "writes to {position}..{end} and {other_start}..{other_end} of a file are in \
                 flight together"
            );
        }
        self.0.insert((file, position), end);
    }

    /// The write that started at `position` has ended.
    pub(crate) fn end(&mut self, file: FileId, position: u64) {
        self.0.remove(&(file, position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start_all(ranges: &[(u32, u64, usize)]) {
        let mut writes = WritesInFlight::default();
        for (file, position, length) in ranges {
            writes.start(FileId(*file), *position, *length);
        }
    }

    #[test]
    fn writes_side_by_side_are_fine() {
        start_all(&[(1, 4096, 4096), (1, 0, 4096), (1, 8192, 1), (1, 8193, 10), (1, 0, 0)]);
    }

    #[test]
    fn writes_to_different_files_are_fine() {
        start_all(&[(1, 0, 4096), (2, 0, 4096), (0, 0, 4096)]);
    }

    #[test]
    fn a_range_is_free_again_after_its_write() {
        let mut writes = WritesInFlight::default();
        writes.start(FileId(3), 0, 10);
        writes.end(FileId(3), 0);
        writes.start(FileId(3), 5, 10);
    }

    #[test]
    #[should_panic(expected = "in flight together")]
    fn a_write_over_the_end_of_another_is_refused() {
        start_all(&[(1, 0, 4096), (1, 4095, 10)]);
    }

    #[test]
    #[should_panic(expected = "in flight together")]
    fn a_write_over_the_start_of_another_is_refused() {
        start_all(&[(1, 4096, 4096), (1, 0, 4097)]);
    }

    #[test]
    #[should_panic(expected = "in flight together")]
    fn a_write_inside_another_is_refused() {
        start_all(&[(1, 0, 4096), (1, 100, 10)]);
    }
}
