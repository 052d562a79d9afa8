//! What lies under the log directory: whether it can be written, past the page cache, how long a
//! sync takes, and how much room there is.

use std::{
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use broker::config::BrokerConfig;
use runtime::{
    Access, Cache, Create, Errno, File, OpenOptions, Runtime, Space,
    mount::{Mount, mount_of},
};
use storage::{CommitStrategy, spare_bytes};

use super::{Finding, size};
use crate::{alone, log::in_use::is_in_use};

const POOL_CACHED_BYTES_MAX: usize = 1 << 20;
/// What a small batch is written as.
const BLOCK_BYTES: usize = 4096;
/// The file that is written over and over: as the broker writes, into space that was written before.
const BLOCKS: u64 = 64;
/// Syncs that are measured at most,
const SYNCS_MAX: usize = 500;
/// and how long that may take.
const MEASURED_AT_MOST: Duration = Duration::from_secs(2);
/// A p99 above this is what clients feel: Kafka's usual end-to-end times are a few milliseconds.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// Less room than one segment (`log.segment.bytes` by default) does not last.
const ROOM_COMFORTABLE_BYTES: u64 = 1 << 30;

/// How long syncs took, and whether they went around the page cache.
struct Measured {
    direct: bool,
    /// Sorted; not empty.
    times: Vec<Duration>,
}

pub(super) fn look(config: &BrokerConfig, findings: &mut Vec<Finding>) {
    let (directory, asked_for) = (nearest(&config.data_dir), &config.data_dir);
    if is_in_use(asked_for) {
        let found = asked_for.display().to_string();
        let meaning = "a broker has this directory; a second one would not start";
        let advice = "nothing, if it is this one; what follows is measured beside it";
        findings.push(Finding::warn("lock", found, meaning, advice));
    }
    let mount = mount_of(&directory);
    let measured_in = directory.clone();
    let looked = alone::on_runtime(POOL_CACHED_BYTES_MAX, async move |runtime: Runtime| {
        (runtime.space(&measured_in).await, measure(&runtime, &measured_in).await)
    });
    let (space, measured) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let meaning = "not even what measures it can be had";
            findings.push(Finding::bad("disk", error, meaning, "look at the line files"));
            return;
        }
    };
    match measured {
        Ok(measured) => {
            let place = place(asked_for, &directory);
            findings.push(judge_directory(&place, mount.as_ref().ok(), &measured));
            findings.push(judge_syncs(&measured));
        }
        Err(error) => {
            let advice = if error == Errno::NO_SPACE {
                "free space: see the line space"
            } else {
                "give the broker's user the directory, or name another one with --data-dir"
            };
            let found = format!("{}: {error}", directory.display());
            let meaning = "nothing can be written there: the broker would not serve";
            findings.push(Finding::bad("disk", found, meaning, advice));
        }
    }
    findings.push(judge_commits(config.commit_strategy, &mount));
    findings.push(judge_space(space));
}

/// The directory, or the one above it that it would be made in.
fn nearest(path: &Path) -> PathBuf {
    match path.ancestors().find(|path| path.exists()) {
        Some(found) if !found.as_os_str().is_empty() => found.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

fn place(asked_for: &Path, found: &Path) -> String {
    if asked_for == found {
        return found.display().to_string();
    }
    format!("{} (to be made in {})", asked_for.display(), found.display())
}

/// Writes a block and syncs it, again and again, in a file that is gone afterwards.
async fn measure(runtime: &Runtime, directory: &Path) -> Result<Measured, Errno> {
    let path = directory.join(format!(".odradek-doctor-{}", process::id()));
    let measured = write_and_sync(runtime, &path).await;
    match runtime.remove_file(&path).await {
        Ok(()) | Err(Errno::NOT_FOUND) => measured,
        Err(error) => measured.and(Err(error)),
    }
}

async fn write_and_sync(runtime: &Runtime, path: &Path) -> Result<Measured, Errno> {
    let options =
        OpenOptions { create: Create::New, access: Access::ReadWrite, cache: Cache::Direct };
    let file = File::open(runtime, path, options).await?;
    let block = || {
        let mut block = runtime.pool().take(BLOCK_BYTES);
        block.append(&[0; BLOCK_BYTES]);
        block.freeze()
    };
    let position = |index: u64| index % BLOCKS * u64::try_from(BLOCK_BYTES).unwrap_or(0);
    for index in 0..BLOCKS {
        file.write_all(position(index), block()).await?;
    }
    file.sync().await?;
    let begun = runtime.now();
    let mut times = Vec::new();
    while times.len() < SYNCS_MAX && runtime.now().since(begun) < MEASURED_AT_MOST {
        file.write_all(position(u64::try_from(times.len()).unwrap_or(0)), block()).await?;
        let before = runtime.now();
        file.sync().await?;
        times.push(runtime.now().since(before));
    }
    times.sort_unstable();
    Ok(Measured { direct: file.info().direct, times })
}

fn judge_directory(place: &str, mount: Option<&Mount>, measured: &Measured) -> Finding {
    let file_system = mount.map_or("an unknown file system", |mount| mount.file_system.as_str());
    let found = format!("{place} on {file_system}");
    if matches!(file_system, "tmpfs" | "ramfs") {
        let meaning = "it is memory: what is acknowledged is gone with the machine";
        return Finding::warn("disk", found, meaning, "name a directory on a disk with --data-dir");
    }
    if measured.direct {
        return Finding::ok("disk", found, "writes go past the page cache (O_DIRECT)");
    }
    let meaning = "no O_DIRECT there: writes go through the page cache, which is slower";
    Finding::warn("disk", found, meaning, "ext4 or XFS on a disk of its own")
}

fn judge_syncs(measured: &Measured) -> Finding {
    let times = &measured.times;
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let ms = |time: Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
    let (half, most) = (at(50), at(99));
    let found = format!("p50 {} p99 {} ms over {} syncs", ms(half), ms(most), times.len());
    if most <= SYNC_SLOW {
        return Finding::ok(
            "sync",
            found,
            "what acknowledgements of acks=all wait for (fdatasync)",
        );
    }
    let meaning = "slow: every acknowledgement of acks=all waits for an fdatasync";
    let advice = "who else writes to this disk? a disk of its own (NVMe, with a cache that survives a \
                  power cut), or durability=replicated where that will do";
    Finding::warn("sync", found, meaning, advice)
}

fn judge_commits(asked_for: CommitStrategy, mount: &std::io::Result<Mount>) -> Finding {
    if asked_for == CommitStrategy::PerFile {
        let meaning = "every file is synced by itself, as odradek.commit.strategy asks for";
        return Finding::ok("commit", "per-file", meaning);
    }
    let (strategy, why) = storage::commit_strategy(mount);
    match strategy {
        CommitStrategy::Shared => {
            Finding::ok("commit", "shared", format!("one sync stands for many files: {why}"))
        }
        CommitStrategy::PerFile => {
            let meaning = format!("every file is synced by itself: {why}");
            let advice = "ext4 or XFS, mounted with its defaults, where many partitions are busy";
            Finding::warn("commit", "per-file", meaning, advice)
        }
    }
}

fn judge_space(space: Result<Space, Errno>) -> Finding {
    let advice = "free space, a larger file system, or a shorter retention.ms";
    let space = match space {
        Ok(space) => space,
        Err(error) => {
            return Finding::warn("space", format!("{error}"), "not known", "look at df");
        }
    };
    let spare = spare_bytes(space);
    let found = format!("{} of {} free", size(space.free_bytes), size(space.total_bytes));
    if spare == 0 {
        let meaning =
            "full: no more is left than the broker's own reserve, and produces are refused";
        return Finding::bad("space", found, meaning, advice);
    }
    let for_clients = format!("{} for clients' records", size(spare));
    if spare < ROOM_COMFORTABLE_BYTES {
        let meaning = format!("{for_clients}, less than one segment: soon produces are refused");
        return Finding::warn("space", found, meaning, advice);
    }
    Finding::ok("space", found, for_clients)
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use runtime::mount::Told;

    fn measured(direct: bool, ms: u64) -> Measured {
        Measured { direct, times: vec![Duration::from_millis(ms); 10] }
    }

    #[test]
    fn a_directory_is_judged_by_its_file_system() {
        let mount = |name: &str| Mount {
            file_system: name.to_owned(),
            options: Vec::new(),
            told: Told::All,
        };
        let judge = |name, direct| judge_directory("d", Some(&mount(name)), &measured(direct, 1));
        assert_eq!(judge("ext4", true).status, Status::Ok);
        assert_eq!(judge("overlay", false).status, Status::Warn);
        assert!(judge("tmpfs", false).meaning.contains("memory"));
    }

    #[test]
    fn slow_syncs_and_little_room_are_told() {
        assert_eq!(judge_syncs(&measured(true, 1)).status, Status::Ok);
        assert_eq!(judge_syncs(&measured(true, 50)).status, Status::Warn);
        let space = |total_bytes, free_bytes| judge_space(Ok(Space { total_bytes, free_bytes }));
        assert_eq!(space(100 << 30, 50 << 30).status, Status::Ok);
        assert_eq!(space(100 << 30, 1 << 30).status, Status::Warn);
        assert_eq!(space(100 << 30, 200 << 20).status, Status::Bad);
        assert_eq!(space(32 << 20, 2 << 20).status, Status::Bad);
    }

    #[test]
    fn what_is_not_there_is_judged_by_what_is_above_it() {
        let directory = tempfile::TempDir::new().unwrap();
        assert_eq!(nearest(&directory.path().join("a/b")), directory.path());
        assert_eq!(nearest(Path::new("no-such/thing")), Path::new("."));
    }
}
