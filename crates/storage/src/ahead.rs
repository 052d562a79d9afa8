//! Space zeroed ahead of a log's end and synced, so that a write into it needs the device's flush
//! alone and shares it with others (`commit`).
//!
//! ```text
//!   |..written..|......|0000000000000000|------------|
//!               ^ end  ^ vouched        ^            ^ allocated
//! ```
//! What is zeroed ahead is what the log takes in about two seconds: a busy log pays a zeroed stretch
//! now and then instead of a sync of its own with each write, an idle one pays nothing. Where there
//! is time the zeros are written piece by piece, with pauses: an append's write waits for one piece.
//! `write` calls this with each write; the zeroing runs beside the appends.

use std::{ops::Range, rc::Rc, time::Duration};

use model::Offset;
use runtime::{Errno, Instant, TaskQueue};

use crate::{
    FenceReason, Log,
    segment::{Phase, Segment},
    storage::{FileSystem, StorageInner},
    tail::{block_ceil, length_of},
};

/// The longest stretch: what a disk takes in some hundredths of a second at its full rate.
const STRETCH_BYTES_MAX: u64 = 8 << 20;
/// The shortest stretch, and what others are multiples of.
const STRETCH_BYTES_MIN: u64 = 64 << 10;
/// How many windows' traffic a stretch is for. Each costs an allocation, its writes and a sync of
/// the file's metadata, whatever its length; a start after a crash reads what was zeroed.
const STRETCH_WINDOWS: u64 = 2;
/// The space that is left to appends while the first stretch is being zeroed, as a part of what a
/// window takes: zeroing takes a few milliseconds.
const MARGIN_DIVISOR: u64 = 64;
/// One write of zeros: an append's write may have to wait for it.
const ZERO_WRITE_BYTES: u64 = 2 << 20;
/// One write of zeros where there is time: what an append's write waits for then, some tenths of a
/// millisecond.
const PACED_WRITE_BYTES: u64 = 512 << 10;
/// The longest and the shortest pause behind such a write.
const PAUSE_MAX: Duration = Duration::from_millis(5);
const PAUSE_MIN: Duration = Duration::from_micros(500);
/// The zeros in memory, written several times over in one write.
const ZEROS_BYTES: u64 = 1 << 20;
/// What the rate of a log is taken over.
const WINDOW: Duration = Duration::from_secs(1);
/// A log with as many writes in a window is worth a stretch: it costs two syncs' time and saves
/// that of most of its writes.
const WARM_WRITES: u32 = 4;
/// How many stretches of a shard are zeroed at the same time. Each takes a worker of the driver
/// for its sync, and the group commit needs workers too.
const ZEROING_MAX: usize = 4;

/// What a log has taken lately.
pub(crate) struct Traffic {
    since: Instant,
    bytes: u64,
    writes: u32,
    bytes_before: u64,
    writes_before: u32,
}

impl Traffic {
    pub(crate) fn new(now: Instant) -> Traffic {
        Traffic { since: now, bytes: 0, writes: 0, bytes_before: 0, writes_before: 0 }
    }

    fn note(&mut self, now: Instant, bytes: u64) {
        let elapsed = now.since(self.since);
        if elapsed >= WINDOW {
            let is_recent = elapsed < WINDOW * 2;
            let (bytes, writes) = if is_recent { (self.bytes, self.writes) } else { (0, 0) };
            (self.bytes_before, self.writes_before) = (bytes, writes);
            (self.since, self.bytes, self.writes) = (now, 0, 0);
        }
        self.bytes += bytes;
        self.writes += 1;
    }

    fn is_warm(&self) -> bool {
        self.writes.max(self.writes_before) >= WARM_WRITES
    }

    /// What a window is expected to take.
    fn expected_bytes(&self) -> u64 {
        self.bytes.max(self.bytes_before)
    }

    fn stretch_bytes(&self) -> u64 {
        let expected = self.expected_bytes() * STRETCH_WINDOWS;
        let expected = expected.next_multiple_of(STRETCH_BYTES_MIN);
        expected.clamp(STRETCH_BYTES_MIN, STRETCH_BYTES_MAX)
    }

    fn margin_bytes(&self) -> u64 {
        block_ceil(self.expected_bytes() / MARGIN_DIVISOR)
    }
}

/// What is to be zeroed next ahead of a segment's end, if anything.
fn next_stretch(segment: &Segment, traffic: &Traffic, segment_bytes: u64) -> Option<Range<u64>> {
    if segment.phase != Phase::Active || segment.allocated == u64::MAX || !traffic.is_warm() {
        return None;
    }
    let (end, length) = (block_ceil(segment.size()), traffic.stretch_bytes());
    let start = if segment.vouched.end <= end {
        end + traffic.margin_bytes()
    } else if segment.vouched.end - end > length / 2 {
        return None;
    } else {
        segment.vouched.end
    };
    let stop = (start + length).min(block_ceil(segment_bytes));
    (start < stop).then_some(start..stop)
}

/// How long to let appends through behind each write of zeros, so many bytes of which are left:
/// until the appends come to them half of the time may pass. `None` where that leaves no pause.
fn pause_between(segment: &Segment, traffic: &Traffic, bytes_left: u64) -> Option<Duration> {
    let ahead = segment.vouched.end.saturating_sub(segment.size());
    let writes = bytes_left.div_ceil(PACED_WRITE_BYTES).max(1);
    let parts = traffic.expected_bytes().max(1).saturating_mul(writes * 2);
    let window_ns = u64::try_from(WINDOW.as_nanos()).expect("a small constant");
    let pause = Duration::from_nanos(window_ns.saturating_mul(ahead) / parts);
    (pause >= PAUSE_MIN).then(|| pause.min(PAUSE_MAX))
}

/// Counts among the stretches that are being zeroed while it lives.
struct Zeroing(Rc<StorageInner>);

impl Drop for Zeroing {
    fn drop(&mut self) {
        self.0.zeroing_count.set(self.0.zeroing_count.get() - 1);
    }
}

impl StorageInner {
    fn begin_zeroing(self: &Rc<Self>) -> Option<Zeroing> {
        let count = self.zeroing_count.get();
        (count < ZEROING_MAX).then(|| {
            self.zeroing_count.set(count + 1);
            Zeroing(Rc::clone(self))
        })
    }
}

impl Log {
    /// A write of so many bytes begins: zeroes a stretch ahead of it where that is worth it.
    pub(crate) fn zero_ahead(&self, base_offset: Offset, bytes: u64) {
        let now = self.runtime().now();
        let mut state = self.0.state.borrow_mut();
        state.traffic.note(now, bytes);
        let is_free = !state.is_securing && !state.is_space_low;
        if !is_free || self.0.storage.file_system(&state) != FileSystem::Vouching {
            return;
        }
        let segment_bytes = u64::try_from(state.config.segment_bytes).unwrap_or(0);
        let segment = state.segment(base_offset).expect("a segment with work is kept");
        let Some(stretch) = next_stretch(segment, &state.traffic, segment_bytes) else { return };
        // Where others are at it the next write asks again.
        let Some(permit) = self.0.storage.begin_zeroing() else { return };
        state.is_securing = true;
        state.segment_mut(base_offset).expect("just seen").zeroing = stretch.clone();
        drop(state);
        let log = self.clone();
        self.runtime().spawn("log zeroing", TaskQueue::Foreground, async move {
            log.zero(base_offset, stretch).await;
            drop(permit);
        });
    }

    /// Waits until a write up to `end` would touch nothing that is being zeroed.
    pub(crate) async fn wait_for_zeroing(&self, base_offset: Offset, end: u64) {
        self.0
            .progress
            .wait_until(|| {
                let state = self.0.state.borrow();
                state.segment(base_offset).is_none_or(|segment| {
                    let zeroing = &segment.zeroing;
                    zeroing.is_empty() || block_ceil(end) <= zeroing.start
                })
            })
            .await;
    }

    async fn zero(&self, base_offset: Offset, stretch: Range<u64>) {
        let claim = self.claim_spare(stretch.end - stretch.start).await;
        let outcome = match &claim {
            Some(_) => self.zero_file(base_offset, &stretch).await,
            None => Err(Errno::NO_SPACE),
        };
        let mut state = self.0.state.borrow_mut();
        state.is_securing = false;
        let low = outcome.is_err_and(Errno::is_no_space);
        // What is not zeroed ahead is allocated as it is needed, down to the reserve.
        state.is_space_low |= low && claim.is_some();
        if let Some(segment) = state.segment_mut(base_offset) {
            segment.zeroing = 0..0;
            if outcome.is_ok() {
                segment.allocated = segment.allocated.max(stretch.end);
                let is_adjacent = segment.vouched.end == stretch.start;
                let start = if is_adjacent { segment.vouched.start } else { stretch.start };
                segment.vouched = start..stretch.end;
            }
        }
        drop(state);
        self.0.progress.notify_all();
        if let Err(errno) = outcome
            && !low
        {
            // The error may have been that of an append's write, told to this sync alone.
            self.fence(FenceReason::Sync(errno));
        }
    }

    async fn zero_file(&self, base_offset: Offset, stretch: &Range<u64>) -> Result<(), Errno> {
        let Some(file) = self.open_file(base_offset) else { return Err(Errno::NO_SPACE) };
        let allocated = {
            let state = self.0.state.borrow();
            state.segment(base_offset).map_or(stretch.end, |segment| segment.allocated)
        };
        if allocated < stretch.end {
            file.allocate(allocated, stretch.end - allocated).await?;
        }
        let mut position = stretch.start;
        while position < stretch.end {
            let pause = self.pause_in_zeroing(base_offset, stretch.end - position);
            let most = if pause.is_some() { PACED_WRITE_BYTES } else { ZERO_WRITE_BYTES };
            let bytes = (stretch.end - position).min(most);
            let zeros = self.0.storage.zeros(length_of(bytes.min(ZEROS_BYTES)));
            let mut slices = vec![zeros.clone(); length_of(bytes / ZEROS_BYTES)];
            slices.push(zeros.slice(..length_of(bytes % ZEROS_BYTES)));
            slices.retain(|slice| !slice.is_empty());
            if file.write(position, slices).await? < length_of(bytes) {
                return Err(Errno::NO_SPACE);
            }
            position += bytes;
            if let Some(pause) = pause {
                self.runtime().sleep(pause).await;
            }
        }
        file.sync().await
    }

    /// Where others wait for their turn there is no time.
    fn pause_in_zeroing(&self, base_offset: Offset, bytes_left: u64) -> Option<Duration> {
        let state = self.0.state.borrow();
        let is_alone = self.0.storage.zeroing_count.get() <= 1;
        let segment =
            state.segment(base_offset).filter(|segment| segment.phase == Phase::Active)?;
        is_alone.then(|| pause_between(segment, &state.traffic, bytes_left)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::*;
    use crate::tail::Tail;

    const SEGMENT_BYTES: u64 = 1 << 30;

    fn segment(size: u64, vouched: Range<u64>) -> Segment {
        let mut segment = Segment::new(Offset(0), 0);
        segment.tail = Tail::idle(size, &[]);
        segment.vouched = vouched;
        segment
    }

    fn traffic(writes: u32, bytes: u64) -> Traffic {
        Traffic { writes, bytes, ..Traffic::new(Instant::default()) }
    }

    #[test]
    fn zeros_are_written_slowly_where_appends_are_far_from_them() {
        const MIB: u64 = 1 << 20;
        let cases = [
            // 4 MiB at 50 MiB a second: 80 ms, half of them over 16 writes.
            (segment(5 * MIB, MIB..9 * MIB), 50 * MIB, 8 * MIB, Some(2_500)),
            (segment(5 * MIB, MIB..9 * MIB), 50 * MIB, MIB, Some(5_000)),
            (segment(5 * MIB, MIB..9 * MIB), 1, 8 * MIB, Some(5_000)),
            // At the full rate, at the first stretch, where it was outrun.
            (segment(5 * MIB, MIB..9 * MIB), 800 * MIB, 8 * MIB, None),
            (segment(8192, 0..0), 50 * MIB, 8 * MIB, None),
            (segment(9 * MIB, MIB..9 * MIB), 50 * MIB, 8 * MIB, None),
        ];
        for (index, (segment, bytes, left, expected)) in cases.into_iter().enumerate() {
            let pause = pause_between(&segment, &traffic(100, bytes), left);
            assert_eq!(pause, expected.map(Duration::from_micros), "case {index}");
        }
    }

    #[test]
    fn a_stretch_is_what_two_seconds_take_and_follows_the_one_before() {
        const MIB: u64 = 1 << 20;
        let cases = [
            // Too few writes, whatever their size.
            (segment(8192, 0..0), traffic(3, 64 * MIB), None),
            (segment(8192, 0..0), traffic(4, 400), Some(12_288..77_824)),
            (segment(8192, 0..0), traffic(25, 400 << 10), Some(16_384..868_352)),
            (segment(8192, 0..0), traffic(900, 64 * MIB), Some(MIB + 8192..9 * MIB + 8192)),
            // The end has not come to the stretch yet: another further on would never be reached.
            (segment(8192, MIB..9 * MIB), traffic(900, 64 * MIB), None),
            (segment(4 * MIB, MIB..9 * MIB), traffic(900, 64 * MIB), None),
            (segment(5 * MIB, MIB..9 * MIB), traffic(900, 64 * MIB), Some(9 * MIB..17 * MIB)),
            // Outrun.
            (segment(5 * MIB, MIB..5 * MIB), traffic(900, 64 * MIB), Some(6 * MIB..14 * MIB)),
            // Up to the segment's end, and no further.
            (
                segment(SEGMENT_BYTES - MIB, 0..0),
                traffic(9, MIB),
                Some(SEGMENT_BYTES - MIB + (16 << 10)..SEGMENT_BYTES),
            ),
            (segment(SEGMENT_BYTES, 0..0), traffic(900, 64 * MIB), None),
        ];
        for (index, (segment, traffic, expected)) in cases.into_iter().enumerate() {
            let found = next_stretch(&segment, &traffic, SEGMENT_BYTES);
            assert_eq!(found, expected, "case {index}");
        }
    }
}
