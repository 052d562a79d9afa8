//! Whether one file's fdatasync may vouch for others on a mounted file system: decided once, by
//! whoever starts the shards, from what the kernel says of the mount. What is not understood is
//! refused, and every file is then synced by itself.
//!
//! What has to hold (docs/STORAGE.md): a direct write into space that was written and synced before
//! changes no metadata, and an fdatasync of any file makes the device flush its cache.
//!
//! Whether blocks are shared with another file need not be asked: the zeros that are written and
//! synced ahead have given the stretch blocks of its own before anything is vouched for in it.

use runtime::mount::{Mount, Told};

use crate::CommitStrategy;

/// How writes on this mount are to be made durable, and why.
#[must_use]
pub fn commit_strategy(mount: &std::io::Result<Mount>) -> (CommitStrategy, String) {
    let refusal = match mount {
        Ok(mount) => match refusal(mount) {
            None => {
                let why = format!("{} with barriers overwrites in place", mount.file_system);
                return (CommitStrategy::Shared, why);
            }
            Some(refusal) => refusal,
        },
        Err(error) => format!("the mount is not known: {error}"),
    };
    (CommitStrategy::PerFile, refusal)
}

/// Why one file's sync cannot stand for others there.
fn refusal(mount: &Mount) -> Option<String> {
    let has = |name: &str| mount.options.iter().any(|option| option == name);
    // Memory that is the device is not flushed by a device's flush.
    let dax =
        mount.options.iter().find(|option| option.starts_with("dax") && *option != "dax=never");
    if let Some(option) = dax {
        return Some(format!("mounted with {option}"));
    }
    match mount.file_system.as_str() {
        "ext4" => {
            if mount.told == Told::NotTheDefaults {
                return Some("ext4 whose options the kernel does not tell in full".to_owned());
            }
            // Without a journal there is no `data`, and a sync flushes likewise.
            let data = mount.options.iter().filter(|option| option.starts_with("data="));
            let unsuitable = data
                .filter(|option| !["data=ordered", "data=writeback"].contains(&option.as_str()))
                .chain(mount.options.iter().filter(|option| *option == "journal_async_commit"))
                .next();
            match unsuitable {
                Some(option) => Some(format!("ext4 mounted with {option}")),
                None if !has("barrier") || has("nobarrier") => {
                    Some("ext4 without barriers: a sync does not flush the device".to_owned())
                }
                None => None,
            }
        }
        // It has flushed always since Linux 4.19; a realtime device is another than the one that
        // the log and other files' data lie on.
        "xfs" => mount
            .options
            .iter()
            .find(|option| *option == "nobarrier" || option.starts_with("rtdev"))
            .map(|option| format!("xfs mounted with {option}")),
        other => Some(format!("{other} is not known to overwrite in place")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file_system: &str, told: Told, options: &str, expected: Result<(), &str>) {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        let mount = Mount { file_system: file_system.to_owned(), options, told };
        let (strategy, why) = commit_strategy(&Ok(mount.clone()));
        match expected {
            Ok(()) => assert_eq!(strategy, CommitStrategy::Shared, "{mount:?}: {why}"),
            Err(reason) => {
                assert_eq!(strategy, CommitStrategy::PerFile, "{mount:?}");
                assert!(why.contains(reason), "{mount:?}: {why}");
            }
        }
    }

    #[test]
    fn one_sync_stands_for_others_only_where_the_conditions_are_known_to_hold() {
        for (options, expected) in [
            ("rw,delalloc,barrier,data=ordered,dax=never", Ok(())),
            ("rw,barrier,data=writeback", Ok(())),
            ("rw,discard,barrier,commit=5", Ok(())),
            ("rw,barrier,data=journal", Err("data=journal")),
            ("rw,barrier,data=something", Err("data=something")),
            ("rw,nobarrier,data=ordered", Err("without barriers")),
            ("rw,barrier=0,data=ordered", Err("without barriers")),
            ("rw,data=ordered", Err("without barriers")),
            ("rw,barrier,data=ordered,journal_async_commit", Err("journal_async_commit")),
            ("rw,barrier,data=ordered,dax=always", Err("dax=always")),
            ("rw,barrier,data=ordered,dax", Err("dax")),
            ("", Err("without barriers")),
        ] {
            check("ext4", Told::All, options, expected);
            check("ext4", Told::NotTheDefaults, options, Err(""));
        }
        for (options, expected) in [
            ("rw,attr2,inode64,logbufs=8,logbsize=32k,noquota", Ok(())),
            ("rw,attr2,nobarrier", Err("nobarrier")),
            ("rw,rtdev=/dev/sdb", Err("rtdev")),
            ("rw,dax=inode", Err("dax=inode")),
        ] {
            check("xfs", Told::NotTheDefaults, options, expected);
        }
        for other in ["btrfs", "overlay", "tmpfs", "ext3", "fuse", "zfs"] {
            check(other, Told::All, "rw,barrier,data=ordered", Err(other));
        }
        let unknown = Err(std::io::Error::from_raw_os_error(libc_enoent()));
        assert_eq!(commit_strategy(&unknown).0, CommitStrategy::PerFile);
    }

    fn libc_enoent() -> i32 {
        runtime::Errno::NOT_FOUND.0
    }
}
