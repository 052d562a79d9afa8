//! The files beside a load: what it was asked for and what it found. Small, and read and written
//! while nothing is measured.

use std::{fs, path::Path};

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

#[cfg(test)]
mod tests {
    use super::*;

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
