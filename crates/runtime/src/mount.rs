//! Which file system a path lies on, and how it is mounted: facts for whoever has to know what an
//! fdatasync does there. Asked once, before any shard runs: it blocks.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// How much of one of the kernel's lists is read: 4 MiB are tens of thousands of mounts.
const LIST_BYTES_MAX: u64 = 4 << 20;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its type, as the kernel calls it: `ext4`, `xfs`.
    pub file_system: String,
    /// What it was mounted with, defaults included where the kernel tells them.
    pub options: Vec<String>,
    /// Whether all options are told, or those alone that are not the default of this file system.
    pub told: Told,
}

/// How much the kernel tells of a mount's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// All of them.
    All,
    /// Those that differ from the defaults, which may be the file system's own (`tune2fs -o`).
    NotTheDefaults,
}

/// The file system of `path`, or of the nearest directory above it that is there.
///
/// # Errors
/// When the kernel does not say.
pub fn mount_of(path: &Path) -> io::Result<Mount> {
    let device = device_of(path)?;
    let (major, minor) = (libc::major(device), libc::minor(device));
    let list = read(Path::new("/proc/self/mountinfo"))?;
    let (file_system, options) = find_in_mountinfo(&list, &format!("{major}:{minor}"))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no mount has this device"))?;
    // Of ext4 the options that superblock asks for are not in the list of mounts.
    if file_system == "ext4"
        && let Ok(event) = read(Path::new(&format!("/sys/dev/block/{major}:{minor}/uevent")))
        && let Some(name) = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))
        && let Ok(all) = read(&Path::new("/proc/fs/ext4").join(name).join("options"))
    {
        let options = all.lines().map(str::to_owned).collect();
        return Ok(Mount { file_system, options, told: Told::All });
    }
    Ok(Mount { file_system, options, told: Told::NotTheDefaults })
}

fn device_of(path: &Path) -> io::Result<u64> {
    for path in path.ancestors() {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(path) {
            Ok(found) => return Ok(found.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "no directory above it is there"))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LIST_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Type and options of the file system on `device`, from a list of mounts:
///
/// ```text
/// 27 1 254:0 / /data rw,relatime shared:1 - ext4 /dev/vda rw,discard
///      ^device       ^of the mount        ^type  ^source  ^of the file system
/// ```
/// One file system may be mounted in several places; its own options are the same in all.
fn find_in_mountinfo(list: &str, device: &str) -> Option<(String, Vec<String>)> {
    list.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        if mount.split(' ').nth(2) != Some(device) {
            return None;
        }
        let mut fields = file_system.split(' ');
        let (kind, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
        Some((kind.to_owned(), options.split(',').map(str::to_owned).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 27 0:20 / /proc rw,nosuid - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 27 254:0 /sub /bound ro,relatime shared:2 master:1 - ext4 /dev/vda rw,discard
42 27 7:0 / /mnt/a\\040name rw,noatime shared:5 - xfs /dev/loop0 rw,attr2,inode64,logbsize=32k
broken line
43 27 7:1 / /cut rw - ext4
";

    #[test]
    fn the_mount_of_a_device_is_found_with_the_file_system_s_own_options() {
        for (device, expected) in [
            ("254:0", Some(("ext4", "rw,discard"))),
            ("7:0", Some(("xfs", "rw,attr2,inode64,logbsize=32k"))),
            ("0:20", Some(("proc", "rw"))),
            ("7:1", None),
            ("8:1", None),
            ("54:0", None),
        ] {
            let found = find_in_mountinfo(MOUNTS, device);
            let found = found.map(|(kind, options)| (kind, options.join(",")));
            let expected = expected.map(|(kind, options)| (kind.to_owned(), options.to_owned()));
            assert_eq!(found, expected, "{device}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_yet_lies_where_its_parent_does() {
        let directory = tempfile::tempdir().unwrap();
        let expected = device_of(directory.path()).unwrap();
        assert_eq!(device_of(&directory.path().join("a/b/c")).unwrap(), expected);
        assert_eq!(
            device_of(Path::new("no/such/name")).unwrap(),
            device_of(Path::new(".")).unwrap()
        );
        assert!(mount_of(Path::new("/proc/self")).is_ok_and(|mount| mount.file_system == "proc"));
    }
}
