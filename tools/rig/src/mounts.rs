//! Loop devices and file systems, each put away when its owner is dropped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A file system that can be cut off from its power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Makes an empty one on `device`.
    pub fn make(self, device: &LoopDevice) -> Result<(), String> {
        let device = device.name.as_str();
        match self {
            // Lazy initialisation would go on writing under the rig.
            Self::Ext4 => {
                let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
                run("mkfs.ext4", &["-q", "-F", "-E", options, device])
            }
            Self::Xfs => run("mkfs.xfs", &["-q", "-f", "-K", device]),
        }
    }

    /// Makes one on a device that is smaller than anybody would use.
    pub fn make_small(self, device: &LoopDevice) -> Result<(), String> {
        match self {
            Self::Ext4 => self.make(device),
            // Since 5.19 it is asked for twice, before that there is no such word.
            Self::Xfs => {
                let words = ["-q", "-f", "-K", "--unsupported", &device.name];
                run("mkfs.xfs", &words).or_else(|_| self.make(device))
            }
        }
    }
}

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDevice {
    name: String,
}

impl LoopDevice {
    pub fn attach(file: &Path) -> Result<Self, String> {
        let output = output("losetup", &["--find", "--show", path(file)?])?;
        Ok(Self { name: output.trim().to_owned() })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        complain(run("losetup", &["--detach", &self.name]));
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    folder: PathBuf,
    // Detached after the unmount: fields are dropped after `drop`.
    device: LoopDevice,
    file_system: FileSystem,
}

impl Mount {
    /// Mounts what lies on `device`; replays its journal, as after a power cut.
    pub fn new(file_system: FileSystem, device: LoopDevice, folder: &Path) -> Result<Self, String> {
        mount(file_system, &device, folder)?;
        Ok(Self { folder: folder.to_owned(), device, file_system })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Cuts the power: nothing that is not on the disk gets there any more (`FS_IOC_SHUTDOWN`
    /// without a flush of the log).
    pub fn cut_power(&self) -> Result<(), String> {
        run("xfs_io", &["-x", "-c", "shutdown", path(&self.folder)?])
    }

    /// Unmounts, and mounts again what the disk kept.
    pub fn power_on_again(&self) -> Result<(), String> {
        unmount(&self.folder)?;
        mount(self.file_system, &self.device, &self.folder)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        complain(unmount(&self.folder));
    }
}

fn mount(file_system: FileSystem, device: &LoopDevice, folder: &Path) -> Result<(), String> {
    // An image carries the UUID of the file system that it was taken from.
    let options = if file_system == FileSystem::Xfs { "nouuid" } else { "defaults" };
    run("mount", &["-t", file_system.name(), "-o", options, &device.name, path(folder)?])
}

/// A process that was killed may hold its files for a moment longer.
fn unmount(folder: &Path) -> Result<(), String> {
    const TRIES: u32 = 50;
    let mut last = Ok(());
    for _ in 0..TRIES {
        last = run("umount", &[path(folder)?]);
        if last.is_ok() {
            return last;
        }
        thread::sleep(Duration::from_millis(100));
    }
    last
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{}: not UTF-8", path.display()))
}

/// A drop has nobody to return an error to.
fn complain(outcome: Result<(), String>) {
    if let Err(reason) = outcome {
        eprintln!("rig: {reason}");
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    output(program, arguments).map(drop)
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), words.trim()))
}
