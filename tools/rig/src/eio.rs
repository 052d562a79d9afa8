//! The rig `eio`: writes, FLUSHes and reads of the disk under a loaded broker fail.
//!
//! After a failed write or FLUSH nobody knows what is on the disk: the logs that it stood for are
//! fenced, and what is acknowledged from then on is held against the disk as a power cut leaves
//! it, sectors that no FLUSH covered dropped. A broker that tried a failed sync again and believed
//! the second answer would lose records here. What was durable is still read from the running
//! broker. A failed read costs that fetch alone: once the disk reads again, the same broker serves
//! everything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use powerblk::disk::Failures;

use crate::check::judge;
use crate::cycles::complain;
use crate::history::{History, Shared};
use crate::kafka::Connection;
use crate::load::Load;
use crate::powercut::Bench;
use crate::session::{PLAN, prepare, read_back};
use crate::{Options, keep_evidence};
use rig::aims::Aims;
use rig::broker::Broker;
use rig::chance::Chance;
use rig::interrupt;
use rig::mounts::{FileSystem, LoopDevice, Mount};

/// How long the load runs before the fault, and after it.
const LOAD_MS: (u64, u64) = (150, 500);
const AFTERWARDS_MS: (u64, u64) = (20, 400);
/// Of the sectors that no FLUSH covered, so many in a thousand survive.
const KEEP_PERMILLE: [u64; 3] = [0, 500, 1000];
/// How often a write is failed once more because none of the failures so far left a file system
/// that could be read: the kernel, not the rig, picks whose write comes next.
const TRIES_MORE: usize = 8;
/// More than the kernel tries by itself.
const FAILED_READS: u64 = 10_000;
/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;
/// What the broker says of a log that it does not trust any more.
const FENCED_WORDS: &str = "fenced: the log takes no more appends";

const FAILED: &str = "operations of the disk failed";
const FENCED: &str = "logs fenced";
const READS_REFUSED: &str = "fetches refused";
const READ_WHILE_FENCED: &str = "brokers with a fenced log that were read";

#[derive(Debug, Clone, Copy)]
enum Fault {
    Write,
    Flush,
    Read,
}

const FAULTS: [Fault; 3] = [Fault::Write, Fault::Flush, Fault::Read];

pub(crate) fn run(options: &Options) -> Result<u64, String> {
    let mut aims = Aims::default();
    let mut chance = Chance::new(options.seed);
    let all = [FileSystem::Ext4, FileSystem::Xfs];
    let wanted = |one: &FileSystem| options.file_system.is_none_or(|only| only == *one);
    let file_systems: Vec<FileSystem> = all.into_iter().filter(wanted).collect();
    let runs = file_systems.iter().flat_map(|one| FAULTS.map(|fault| (*one, fault)));
    let tries_more = std::iter::repeat_n((file_systems[0], Fault::Write), TRIES_MORE);
    let planned = usize::try_from(options.cycles).map_err(|error| error.to_string())?;
    let mut done = 0;
    for (file_system, fault) in runs.cycle().take(planned).chain(tries_more) {
        let cycle = done;
        if cycle >= options.cycles && aims.was_hit(READ_WHILE_FENCED) {
            break;
        }
        done += 1;
        let work = options.work_folder()?;
        let mut story = Story { options, file_system, cycle, chance: &mut chance, aims: &mut aims };
        let told = match fault {
            Fault::Write | Fault::Flush => story.fail_changes(fault, work.path()),
            Fault::Read => story.fail_reads(work.path()),
        };
        if let Err(reason) = told {
            let name = file_system.name();
            return Err(keep_evidence(
                work,
                &format!("cycle {cycle}, {fault:?}, {name}: {reason}"),
            ));
        }
    }
    aims.report(&[FAILED, FENCED, READS_REFUSED, READ_WHILE_FENCED])?;
    Ok(done)
}

struct Story<'a> {
    options: &'a Options,
    file_system: FileSystem,
    cycle: u64,
    chance: &'a mut Chance,
    aims: &'a mut Aims,
}

impl Story<'_> {
    /// A write or a FLUSH fails under load; then the power goes.
    fn fail_changes(&mut self, fault: Fault, work: &Path) -> Result<(), String> {
        let bench = Bench::new(self.file_system, work)?;
        let broker = Broker::start(&self.options.launch, &bench.mount.folder().join("data"))?;
        let history = prepare(broker.address, self.chance.number(), PLAN)?;
        let shared = Arc::new(Shared::new(history));
        let load = Load::start(broker.address, &shared, self.chance);
        interrupt::sleep(Duration::from_millis(self.chance.between(LOAD_MS.0, LOAD_MS.1)))?;
        load.strike();
        let count = self.chance.between(1, 3);
        bench.device.disk().failures = match fault {
            Fault::Write => Failures { writes: count, ..Failures::default() },
            Fault::Flush | Fault::Read => Failures { flushes: count, ..Failures::default() },
        };
        let afterwards = self.chance.between(AFTERWARDS_MS.0, AFTERWARDS_MS.1);
        interrupt::sleep(Duration::from_millis(afterwards))?;
        let disk = bench.device.disk();
        // With the disk held still: what is acknowledged by now was flushed before.
        let promised = shared.snapshot();
        let failed = disk.counters().failed;
        let keep_permille = KEEP_PERMILLE[self.chance.index(KEEP_PERMILLE.len())];
        let path = work.join("image");
        let cut = disk.write_image(self.chance.number(), keep_permille, &path);
        drop(disk);
        let cut = cut.map_err(|error| format!("{}: {error}", path.display()))?;
        let fenced = broker.said(FENCED_WORDS);
        // Where the file system itself gave up, nothing can be read.
        let is_alive = std::fs::write(bench.mount.folder().join("alive"), "yes").is_ok();
        if fenced > 0 && is_alive {
            self.check_durable(&broker, &shared.snapshot())?;
        }
        broker.kill_if_alive()?;
        complain(self.cycle, &load.finish())?;
        drop(bench);
        self.aims.hit(FAILED, failed);
        self.aims.hit(FENCED, fenced);
        self.check_image(&path, work, &promised, &shared.snapshot())?;
        println!(
            "cycle {}: {fault:?}, {}: {failed} failed, {fenced} logs fenced; {} acknowledged; \
             sectors dropped {}",
            self.cycle,
            self.file_system.name(),
            promised.acknowledged(),
            cut.dropped,
        );
        Ok(())
    }

    /// The broker goes on serving what was acknowledged.
    fn check_durable(&mut self, broker: &Broker, told: &History) -> Result<(), String> {
        let logs = read_back(broker.address, told).map_err(|reason| {
            format!("beside a fenced log: {reason}\n{}", broker.last_words(30))
        })?;
        complain(self.cycle, &judge(told, told, &logs).broken)?;
        self.aims.hit(READ_WHILE_FENCED, 1);
        Ok(())
    }

    fn check_image(
        &mut self,
        image: &Path,
        work: &Path,
        promised: &History,
        told: &History,
    ) -> Result<(), String> {
        let folder = work.join("image-mount");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mount = Mount::new(self.file_system, LoopDevice::attach(image)?, &folder)?;
        let broker = Broker::start(&self.options.launch, &mount.folder().join("data"))?;
        self.aims.restarted(broker.ready_after);
        let logs = read_back(broker.address, told)
            .map_err(|reason| format!("{reason}\n{}", broker.last_words(30)))?;
        complain(self.cycle, &judge(promised, told, &logs).broken)?;
        broker.stop()
    }

    /// All reads fail for a while.
    fn fail_reads(&mut self, work: &Path) -> Result<(), String> {
        let bench = Bench::new(self.file_system, work)?;
        let data = bench.mount.folder().join("data");
        let broker = Broker::start(&self.options.launch, &data)?;
        let history = prepare(broker.address, self.chance.number(), PLAN)?;
        let shared = Arc::new(Shared::new(history));
        let load = Load::start(broker.address, &shared, self.chance);
        interrupt::sleep(Duration::from_millis(LOAD_MS.1))?;
        complain(self.cycle, &load.finish())?;
        broker.stop()?;
        // Nothing of it is in memory after that.
        bench.mount.power_on_again()?;
        let broker = Broker::start(&self.options.launch, &data)?;
        let history = shared.snapshot();
        bench.device.disk().failures.reads = FAILED_READS;
        let mut connection = Connection::open(broker.address)?;
        let mut refused = 0;
        for at in &history.partitions {
            for fetched in connection.fetch(&[(at.clone(), 0)], 100)? {
                match fetched.error_code {
                    STORAGE_ERROR => refused += 1,
                    0 if fetched.records.is_empty() => {}
                    0 => return Err(format!("{at:?}: records from a disk that does not read")),
                    error_code => return Err(format!("{at:?}: error {error_code}")),
                }
            }
        }
        let failed = {
            let mut disk = bench.device.disk();
            disk.failures = Failures::default();
            disk.counters().failed
        };
        self.aims.hit(FAILED, failed);
        self.aims.hit(READS_REFUSED, refused);
        // The same broker, the same files.
        let logs = read_back(broker.address, &history)
            .map_err(|reason| format!("after failed reads: {reason}\n{}", broker.last_words(30)))?;
        complain(self.cycle, &judge(&history, &history, &logs).broken)?;
        let load = Load::start(broker.address, &shared, self.chance);
        interrupt::sleep(Duration::from_millis(LOAD_MS.0))?;
        complain(self.cycle, &load.finish())?;
        println!(
            "cycle {}: Read, {}: {failed} failed, {refused} fetches refused",
            self.cycle,
            self.file_system.name()
        );
        broker.stop()
    }
}
