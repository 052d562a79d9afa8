//! Keeps a round's slices short: work is counted, not timed, so that the same input makes the same
//! slices in the simulator.

use runtime::Runtime;

/// How much work a slice may do, in bytes walked over: a few hundred microseconds of hashing and
/// copying, under a millisecond with the slowest codec that reads.
pub(super) const SLICE_WORK: usize = 128 << 10;
/// What a record costs beside its bytes.
pub(super) const RECORD_WORK: usize = 128;

/// See the module.
pub(super) struct Pace {
    runtime: Runtime,
    left: usize,
}

impl Pace {
    pub(super) fn new(runtime: &Runtime) -> Pace {
        Pace { runtime: runtime.clone(), left: SLICE_WORK }
    }

    /// Counts work; true once the slice is over.
    pub(super) fn spend(&mut self, work: usize) -> bool {
        self.left = self.left.saturating_sub(work);
        self.left == 0
    }

    /// Lets the shard's other tasks run.
    pub(super) async fn rest(&mut self) {
        self.left = SLICE_WORK;
        self.runtime.yield_now().await;
    }
}
