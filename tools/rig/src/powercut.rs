//! The rig `powerblk`: crash images of the disk under a loaded broker, each opened by a broker.
//!
//! The load runs once for a handful of images. With the disk held still the history is copied, then
//! the image is taken: what the copy calls acknowledged was acknowledged before the power went, and
//! has to be in the image; what was acknowledged later may be.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use powerblk::disk::{Cut, Disk};
use powerblk::filesystem::{DISK_NAME, Mounted};

use crate::check::judge;
use crate::cycles::complain;
use crate::history::{History, Shared};
use crate::load::Load;
use crate::session::{PLAN, prepare, read_back};
use crate::{Options, keep_evidence};
use rig::aims::Aims;
use rig::broker::Broker;
use rig::chance::Chance;
use rig::interrupt;
use rig::mounts::{FileSystem, LoopDevice, Mount};

/// The disk is kept in memory, as far as it is written.
const DISK_BYTES: usize = 768 << 20;

/// Of the sectors that no FLUSH covered, so many in a thousand are in the image.
const KEEP_PERMILLE: [u64; 5] = [0, 250, 500, 750, 1000];

/// How long the load runs before each image.
const LOAD_MS: (u64, u64) = (60, 400);

/// A loaded disk has something unsynced most of the time; an image without it shows little.
const UNSYNCED_WITHIN: Duration = Duration::from_secs(1);

const DROPPED: &str = "unsynced sectors dropped";
const KEPT: &str = "unsynced sectors kept";
const CUTS: &str = "tails cut";

/// A disk under power, with a file system on it. Fields are put away in this order.
pub(crate) struct Bench {
    pub(crate) mount: Mount,
    pub(crate) device: Mounted,
}

impl Bench {
    pub(crate) fn new(file_system: FileSystem, work: &Path) -> Result<Self, String> {
        let (fuse, folder) = (work.join("powerblk"), work.join("mount"));
        for folder in [&fuse, &folder] {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        }
        let device = Mounted::new(Disk::new(DISK_BYTES), &fuse)
            .map_err(|error| format!("mounting {} with FUSE: {error}", fuse.display()))?;
        let block = LoopDevice::attach(&fuse.join(DISK_NAME))?;
        file_system.make(&block)?;
        Ok(Self { mount: Mount::new(file_system, block, &folder)?, device })
    }
}

/// The disk as the cut left it, and what had been promised by then.
struct Image {
    path: PathBuf,
    keep_permille: u64,
    cut: Cut,
    promised: History,
}

/// Takes and checks `cycles` images, and returns how many held.
pub(crate) fn run(options: &Options) -> Result<u64, String> {
    let mut aims = Aims::default();
    let mut chance = Chance::new(options.seed);
    let mut done = 0;
    for file_system in [FileSystem::Ext4, FileSystem::Xfs].into_iter().cycle() {
        if done >= options.cycles {
            break;
        }
        if options.file_system.is_some_and(|only| only != file_system) {
            continue;
        }
        let count = (KEEP_PERMILLE.len() as u64).min(options.cycles - done);
        let work = options.work_folder()?;
        let outcome =
            one_load(options, file_system, work.path(), done..done + count, &mut chance, &mut aims);
        if let Err(reason) = outcome {
            return Err(keep_evidence(work, &reason));
        }
        done += count;
    }
    aims.report(&[DROPPED, KEPT, CUTS])?;
    Ok(done)
}

fn one_load(
    options: &Options,
    file_system: FileSystem,
    work: &Path,
    cycles: std::ops::Range<u64>,
    chance: &mut Chance,
    aims: &mut Aims,
) -> Result<(), String> {
    let (images, told) = take_images(options, file_system, work, cycles.clone(), chance)?;
    for (cycle, image) in cycles.zip(images) {
        let folder = work.join("image-mount");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mount = Mount::new(file_system, LoopDevice::attach(&image.path)?, &folder)
            .map_err(|reason| format!("cycle {cycle}: the image does not mount: {reason}"))?;
        let broker = Broker::start(&options.launch, &mount.folder().join("data"))?;
        let checked = check_image(cycle, &broker, &image, &told, aims);
        checked.map_err(|reason| format!("{reason}\n{}", broker.last_words(30)))?;
        broker.stop()?;
        drop(mount);
        std::fs::remove_file(&image.path).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Loads a broker and takes an image a cycle; returns them with the whole history.
fn take_images(
    options: &Options,
    file_system: FileSystem,
    work: &Path,
    cycles: std::ops::Range<u64>,
    chance: &mut Chance,
) -> Result<(Vec<Image>, History), String> {
    let bench = Bench::new(file_system, work)?;
    let broker = Broker::start(&options.launch, &bench.mount.folder().join("data"))?;
    let history = Arc::new(Shared::new(prepare(broker.address, chance.number(), PLAN)?));
    let load = Load::start(broker.address, &history, chance);
    let mut images = Vec::new();
    for (cycle, keep_permille) in cycles.zip(KEEP_PERMILLE) {
        interrupt::sleep(Duration::from_millis(chance.between(LOAD_MS.0, LOAD_MS.1)))?;
        let path = work.join(format!("image-{cycle}"));
        let disk = frozen_with_unsynced(&bench.device)?;
        // Nothing is flushed while the disk is held: what is acknowledged by now was flushed before.
        let promised = history.snapshot();
        let cut = disk
            .write_image(chance.number(), keep_permille, &path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        images.push(Image { path, keep_permille, cut, promised });
    }
    load.strike();
    broker.kill()?;
    complain(0, &load.finish())?;
    Ok((images, history.snapshot()))
}

/// The disk at a moment at which something on it is not flushed, held there.
fn frozen_with_unsynced(device: &Mounted) -> Result<MutexGuard<'_, Disk>, String> {
    let until = Instant::now() + UNSYNCED_WITHIN;
    loop {
        let disk = device.disk();
        if disk.counters().pending_writes > 0 || Instant::now() > until {
            return Ok(disk);
        }
        drop(disk);
        interrupt::sleep(Duration::from_micros(200))?;
    }
}

fn check_image(
    cycle: u64,
    broker: &Broker,
    image: &Image,
    told: &History,
    aims: &mut Aims,
) -> Result<(), String> {
    let logs = read_back(broker.address, told)
        .map_err(|reason| format!("cycle {cycle}, keep {}: {reason}", image.keep_permille))?;
    let verdict = judge(&image.promised, told, &logs);
    complain(cycle, &verdict.broken)?;
    let (cuts, bytes) = broker.tails_cut();
    let Cut { kept, dropped } = image.cut;
    println!(
        "image {cycle}: {} records, {} acknowledged; keep {}/1000: sectors kept {kept}, \
         dropped {dropped}; {cuts} tails cut; ready in {:.0?}",
        verdict.records,
        image.promised.acknowledged(),
        image.keep_permille,
        broker.ready_after
    );
    aims.restarted(broker.ready_after);
    aims.hit(DROPPED, dropped);
    aims.hit(KEPT, kept);
    aims.hit(CUTS, cuts);
    aims.hit("bytes cut", bytes);
    Ok(())
}
