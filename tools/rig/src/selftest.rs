//! The rig `selftest`: proves powerblk on an application of a few lines, before a broker is
//! judged by it.
//!
//! The application appends blocks to files and calls them acknowledged. One that waits for
//! fdatasync keeps every block in every image; one that does not is caught.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::Options;
use crate::powercut::Bench;
use rig::aims::Aims;
use rig::chance::Chance;
use rig::mounts::{FileSystem, LoopDevice, Mount};

const FILES: usize = 4;
const BLOCK_BYTES: usize = 3000;
const KEEP_PERMILLE: [u64; 10] = [0, 500, 250, 0, 750, 0, 500, 250, 0, 750];
const BETWEEN_IMAGES_MS: (u64, u64) = (30, 90);

/// When the application says that a block is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledges {
    AfterSync,
    BeforeSync,
}

/// Runs both applications on both file systems; returns how many images were as they should be.
pub(crate) fn run(options: &Options) -> Result<u64, String> {
    let mut images = 0;
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        for application in [Acknowledges::AfterSync, Acknowledges::BeforeSync] {
            let mut aims = Aims::default();
            let work = options.work_folder()?;
            let seed = options.seed;
            let lost = images_with_loss(file_system, application, work.path(), seed, &mut aims)?;
            let name = file_system.name();
            println!(
                "{name}, {application:?}: blocks lost in {lost} of {} images",
                KEEP_PERMILLE.len()
            );
            aims.report(&["sectors dropped", "blocks acknowledged"])?;
            match (application, lost) {
                (Acknowledges::AfterSync, 0) | (Acknowledges::BeforeSync, 1..) => {}
                (Acknowledges::AfterSync, _) => {
                    return Err(format!("{name}: a correct application lost blocks"));
                }
                (Acknowledges::BeforeSync, _) => {
                    return Err(format!(
                        "{name}: an application that does not wait went unnoticed"
                    ));
                }
            }
            images += KEEP_PERMILLE.len() as u64;
        }
    }
    Ok(images)
}

fn images_with_loss(
    file_system: FileSystem,
    application: Acknowledges,
    work: &Path,
    seed: u64,
    aims: &mut Aims,
) -> Result<u64, String> {
    let mut chance = Chance::new(seed);
    let bench = Bench::new(file_system, work)?;
    let acknowledged: [AtomicU64; FILES] = Default::default();
    let stop = AtomicBool::new(false);
    let mut promises = Vec::new();
    thread::scope(|scope| -> Result<(), String> {
        let append = || append(bench.mount.folder(), application, &acknowledged, &stop);
        let writer = scope.spawn(append);
        for (number, keep_permille) in KEEP_PERMILLE.iter().enumerate() {
            thread::sleep(Duration::from_millis(
                chance.between(BETWEEN_IMAGES_MS.0, BETWEEN_IMAGES_MS.1),
            ));
            let promised: Vec<u64> =
                acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
            let image = work.join(format!("image-{number}"));
            let cut = bench.device.disk().write_image(chance.number(), *keep_permille, &image);
            let cut = cut.map_err(|error| error.to_string());
            if cut.is_err() {
                stop.store(true, Ordering::SeqCst);
            }
            aims.hit("sectors dropped", cut?.dropped);
            aims.hit("blocks acknowledged", promised.iter().sum());
            promises.push((image, promised));
        }
        stop.store(true, Ordering::SeqCst);
        let outcome = writer.join().map_err(|_| "the application panicked".to_owned())?;
        outcome.map_err(|error| format!("the application: {error}"))
    })?;
    drop(bench);
    let mut lost = 0;
    for (image, promised) in promises {
        let folder = work.join("image-mount");
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mount = Mount::new(file_system, LoopDevice::attach(&image)?, &folder)?;
        let whole = |(file, count): (usize, &u64)| {
            let bytes = std::fs::read(file_path(mount.folder(), file)).unwrap_or_default();
            (0..*count)
                .zip(bytes.chunks(BLOCK_BYTES).map(Some).chain(std::iter::repeat(None)))
                .all(|(number, found)| found == Some(&block(file, number)[..]))
        };
        lost += u64::from(!promised.iter().enumerate().all(whole));
    }
    Ok(lost)
}

/// Appends to each file in turn until told to stop.
fn append(
    folder: &Path,
    application: Acknowledges,
    acknowledged: &[AtomicU64; FILES],
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let open = |file| OpenOptions::new().create(true).append(true).open(file_path(folder, file));
    let mut files = (0..FILES).map(open).collect::<Result<Vec<_>, _>>()?;
    File::open(folder)?.sync_all()?;
    for number in 0.. {
        for (index, file) in files.iter_mut().enumerate() {
            if stop.load(Ordering::SeqCst) {
                return Ok(());
            }
            file.write_all(&block(index, number))?;
            if application == Acknowledges::BeforeSync {
                acknowledged[index].store(number + 1, Ordering::SeqCst);
            }
            file.sync_data()?;
            acknowledged[index].store(number + 1, Ordering::SeqCst);
        }
    }
    Ok(())
}

fn file_path(folder: &Path, file: usize) -> std::path::PathBuf {
    folder.join(format!("{file}.log"))
}

fn block(file: usize, number: u64) -> Vec<u8> {
    let mut chance = Chance::new(number << 8 | file as u64);
    (0..BLOCK_BYTES.div_ceil(8))
        .flat_map(|_| chance.number().to_be_bytes())
        .take(BLOCK_BYTES)
        .collect()
}
