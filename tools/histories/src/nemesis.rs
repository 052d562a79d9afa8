//! What breaks the broker, one thing after the other, until the time is over.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use checker::history::{Action, Kind};
use rig::aims::Aims;
use rig::broker::{Broker, Launch};
use rig::chance::Chance;
use rig::ground::Ground;
use rig::interrupt;

use crate::shared::{Phase, Shared};

/// How long the broker is left alone between two faults.
const QUIET_MS: (u64, u64) = (300, 3000);
/// How long it stands still: less than a client waits, and more.
const PAUSE_MS: (u64, u64) = (50, 4000);
/// How long the disk stays full.
const FULL_MS: (u64, u64) = (200, 2000);
/// A piece of what fills the disk.
const BALLAST_BYTES: usize = 1 << 20;
/// A restarted broker is killed again after so long at most, now and then: while it recovers.
const AGAIN_MS: u64 = 60;

pub(crate) const KILLS: &str = "kills";
pub(crate) const KILLS_IN_TRANSACTIONS: &str = "kills while transactions were open";
pub(crate) const POWER_CUTS: &str = "power cuts";
pub(crate) const PAUSES: &str = "pauses";
pub(crate) const FULL: &str = "full disks";
pub(crate) const STOPS: &str = "clean stops";

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    PowerCut,
    Pause,
    FullDisk,
    Stop,
}

pub(crate) struct Nemesis<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) ground: &'a Ground,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) aims: &'a mut Aims,
    pub(crate) chance: Chance,
}

impl Nemesis<'_> {
    /// Breaks the broker until the time is over and each fault has struck, or the clients have given up; it works again then.
    pub(crate) fn run(&mut self, mut broker: Broker, time: Duration) -> Result<Broker, String> {
        let until = Instant::now() + time;
        let mut faults = vec![Fault::Kill, Fault::Kill, Fault::Pause, Fault::Stop];
        if let Ground::Disk(_) = self.ground {
            faults.extend([Fault::PowerCut, Fault::PowerCut, Fault::FullDisk]);
        }
        // Each once, in any order, and then any.
        let mut first = faults.clone();
        while (Instant::now() < until || !first.is_empty()) && self.shared.phase() != Phase::Done {
            self.wait(QUIET_MS)?;
            let fault = if first.is_empty() {
                faults[self.chance.index(faults.len())]
            } else {
                first.remove(self.chance.index(first.len()))
            };
            broker = self.strike(fault, broker)?;
        }
        self.note("heal");
        self.shared.set_phase(Phase::Heal);
        Ok(broker)
    }

    fn wait(&mut self, (least, most): (u64, u64)) -> Result<(), String> {
        interrupt::sleep(Duration::from_millis(self.chance.between(least, most)))
    }

    fn note(&self, what: &str) {
        self.shared.note(0, Kind::Info, Action::Nemesis(what.to_owned()));
    }

    fn strike(&mut self, fault: Fault, broker: Broker) -> Result<Broker, String> {
        match fault {
            Fault::Kill => self.kill(broker),
            Fault::PowerCut => {
                self.aims.hit(POWER_CUTS, 1);
                self.note("power cut");
                self.ground.strike(broker)?;
                self.start()
            }
            Fault::Pause => {
                self.aims.hit(PAUSES, 1);
                self.note("pause");
                broker.pause()?;
                let waited = self.wait(PAUSE_MS);
                broker.go_on()?;
                self.note("go on");
                waited.map(|()| broker)
            }
            Fault::FullDisk => {
                self.aims.hit(FULL, 1);
                self.note("full disk");
                let ballast = self.ground.data().with_file_name("ballast");
                let filled = fill(&ballast).and_then(|()| self.wait(FULL_MS));
                std::fs::remove_file(&ballast).map_err(|error| error.to_string())?;
                self.note("free disk");
                filled.map(|()| broker)
            }
            Fault::Stop => {
                self.aims.hit(STOPS, 1);
                self.note("stop");
                broker.stop()?;
                self.start()
            }
        }
    }

    /// Kills it, and now and then again while it recovers or has just begun.
    fn kill(&mut self, broker: Broker) -> Result<Broker, String> {
        let open = self.shared.open.load(Ordering::SeqCst);
        self.aims.hit(KILLS, 1);
        self.aims.hit(KILLS_IN_TRANSACTIONS, u64::from(open > 0));
        self.note("kill");
        broker.kill()?;
        let broker = self.start()?;
        if self.chance.between(1, 3) > 1 {
            return Ok(broker);
        }
        self.wait((0, AGAIN_MS))?;
        self.aims.hit(KILLS, 1);
        self.note("kill");
        broker.kill()?;
        self.start()
    }

    fn start(&mut self) -> Result<Broker, String> {
        let broker = Broker::start(self.launch, &self.ground.data())?;
        self.shared.set_address(broker.address);
        self.aims.restarted(broker.ready_after);
        self.note("start");
        Ok(broker)
    }
}

/// Writes until nothing more fits.
fn fill(ballast: &Path) -> Result<(), String> {
    let mut file = File::create(ballast).map_err(|error| error.to_string())?;
    let mut piece = vec![0x5a; BALLAST_BYTES];
    while piece.len() > 1 {
        match file.write_all(&piece).and_then(|()| file.sync_data()) {
            Ok(()) => {}
            // The rest fits a smaller piece.
            Err(_) => piece.truncate(piece.len() / 4),
        }
        interrupt::check()?;
    }
    Ok(())
}
