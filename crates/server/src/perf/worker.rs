//! One thread's share of the load: its producers and consumers, and what they count.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use runtime::{Instant, Runtime, local::Notify};

use super::{tally::Tally, workload::Workload};

/// How often those who wait for something else look whether the run is over.
pub(super) const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// The pause after an error: a broker that restarts is back within milliseconds.
pub(super) const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How often counts go to the thread that reports.
pub(super) const REPORT_PERIOD: Duration = Duration::from_secs(1);

/// What threads tell the one that reports.
pub(super) enum Told {
    /// What a thread counted in second `second` of the run.
    Counted { second: u64, tally: Box<Tally> },
    /// A thread is done, at this time of the run.
    Ended { at: Duration },
}

/// What all threads share.
pub(super) struct Run {
    pub(super) workload: Workload,
    pub(super) bootstrap: std::net::SocketAddr,
    /// In each record that is timed, so that records of other runs are not.
    pub(super) run_id: u64,
    pub(super) over: AtomicBool,
    /// Bytes that were answered for, for consumers that wait for a backlog.
    pub(super) produced_bytes: AtomicU64,
    pub(super) producers_left: AtomicU32,
}

/// One thread of the load.
pub(super) struct Worker {
    pub(super) runtime: Runtime,
    pub(super) run: Arc<Run>,
    pub(super) start: Instant,
    pub(super) tally: RefCell<Tally>,
    /// Producers and consumers at work.
    active: Cell<usize>,
    ended: Notify,
}

impl Run {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Worker {
    pub(super) fn new(runtime: Runtime, run: Arc<Run>, start: Instant) -> Rc<Worker> {
        let tally = RefCell::default();
        Rc::new(Worker { runtime, run, start, tally, active: Cell::new(0), ended: Notify::new() })
    }

    pub(super) fn begin(&self) {
        self.active.set(self.active.get() + 1);
    }

    pub(super) fn end(&self) {
        self.active.set(self.active.get() - 1);
        self.ended.notify_all();
    }

    /// Tells the counts of each second until nobody is at work.
    pub(super) async fn report(&self, told: &mpsc::Sender<Told>) {
        let mut second = 0_u64;
        while self.active.get() > 0 {
            let next = self.start + REPORT_PERIOD * u32::try_from(second + 1).unwrap_or(u32::MAX);
            let all_ended = self.ended.wait_until(|| self.active.get() == 0);
            // Either the second or the load is over: both are told in the same way.
            let _whichever = self.runtime.deadline(next, all_ended).await;
            self.tell(told, second);
            second += 1;
        }
        let at = self.runtime.now().since(self.start);
        let _nobody_listens = told.send(Told::Ended { at });
    }

    fn tell(&self, told: &mpsc::Sender<Told>, second: u64) {
        let tally = Box::new(self.tally.take());
        let _nobody_listens = told.send(Told::Counted { second, tally });
    }
}
