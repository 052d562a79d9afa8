//! Where a broker's data lies while it is broken: a folder, or a disk that loses power.

use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::mounts::{FileSystem, LoopDevice, Mount};

/// What has to be put away afterwards.
#[derive(Debug)]
pub enum Ground {
    Folder(PathBuf),
    Disk(Mount),
}

impl Ground {
    /// A folder below `work`.
    pub fn folder(work: &Path) -> Self {
        Self::Folder(work.join("data"))
    }

    /// A file system of its own, of so many bytes; the file behind it, below `work`, has holes.
    pub fn disk(file_system: FileSystem, bytes: u64, work: &Path) -> Result<Self, String> {
        let image = work.join("disk.img");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        let folder = work.join("mount");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let device = LoopDevice::attach(&image)?;
        file_system.make(&device)?;
        Ok(Self::Disk(Mount::new(file_system, device, &folder)?))
    }

    /// The broker's directory.
    pub fn data(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::Disk(mount) => mount.folder().join("data"),
        }
    }

    /// Kills the broker; where there is a disk, that loses power first.
    pub fn strike(&self, broker: Broker) -> Result<(), String> {
        match self {
            Self::Folder(_) => broker.kill(),
            Self::Disk(mount) => {
                mount.cut_power()?;
                broker.kill_if_alive()?;
                mount.power_on_again()
            }
        }
    }
}
