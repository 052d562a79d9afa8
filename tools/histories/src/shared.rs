//! What the clients' thread and the one that breaks the broker share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use checker::history::{Action, Kind, Op, Recorder};

/// What the clients are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Topics are created.
    SetUp,
    /// Everybody works.
    Load,
    /// Nothing is broken any more: everybody comes to an end.
    Heal,
    /// All is read.
    Done,
}

const PHASES: [Phase; 4] = [Phase::SetUp, Phase::Load, Phase::Heal, Phase::Done];

/// The history, the broker's address, and what is counted.
#[derive(Debug)]
pub(crate) struct Shared {
    started: Instant,
    recorder: Mutex<Recorder>,
    address: Mutex<SocketAddr>,
    phase: AtomicU8,
    /// Transactions that have begun and not ended.
    pub(crate) open: AtomicU64,
    /// Transactions whose abort was answered.
    pub(crate) aborted: AtomicU64,
    /// Transactional ids that were taken over while their transaction was open.
    pub(crate) taken_over: AtomicU64,
    /// Requests of replaced producers.
    pub(crate) zombies: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            started: Instant::now(),
            recorder: Mutex::default(),
            address: Mutex::new(address),
            phase: AtomicU8::new(0),
            open: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            taken_over: AtomicU64::new(0),
            zombies: AtomicU64::new(0),
            complaints: Mutex::default(),
        }
    }

    /// Notes an operation, now.
    pub(crate) fn note(&self, process: u64, kind: Kind, action: Action) -> u64 {
        let mut recorder = lock(&self.recorder);
        let now = self.now_ns();
        recorder.note(process, now, kind, action);
        now
    }

    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The history up to now. What is noted from here on begins another.
    pub(crate) fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut *lock(&self.recorder)).into_ops()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *lock(&self.address)
    }

    pub(crate) fn set_address(&self, address: SocketAddr) {
        *lock(&self.address) = address;
    }

    pub(crate) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::SeqCst))]
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// An answer that no client of Kafka can live with.
    pub(crate) fn complain(&self, complaint: String) {
        lock(&self.complaints).push(complaint);
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
