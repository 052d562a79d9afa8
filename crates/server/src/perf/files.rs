//! The files beside a load: what it was asked for, what it found, and what the kernel says that it
//! cost. Small, and read and written while nothing is measured.

use std::{fs, path::Path, time::Duration};

/// Linux shows times in hundredths of a second on every machine.
const TICK: Duration = Duration::from_millis(10);

/// The bytes of a file of at most `bytes_max`.
///
/// # Errors
/// One line that names the file.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    let said = |reason: String| format!("{}: {reason}", path.display());
    let metadata = fs::metadata(path).map_err(|error| said(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > bytes_max as u64 {
        return Err(said(format!("not a file of at most {bytes_max} bytes")));
    }
    fs::read(path).map_err(|error| said(error.to_string()))
}

/// Writes a file, over one that is there.
///
/// # Errors
/// One line that names the file.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// User and system time of this process; zero where the kernel does not tell.
pub(super) fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program may have spaces; what follows its bracket begins with field 3.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read() {
        let before = cpu_time();
        // Some time of work, whatever the machine: without a reading this would never end.
        let passes = (0..100_000).find(|_| {
            std::hint::black_box(vec![1_u8; 1 << 16]);
            cpu_time() > before
        });
        assert!(passes.is_some(), "busy, and no CPU time passes");
    }

    #[test]
    fn files_are_bounded() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("file");
        write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).is_err());
        assert!(read(directory.path(), 5).is_err());
    }
}
