//! The disk behind the block device: what was written, and what a power cut leaves of it.
//!
//! A drive with a volatile cache promises only what it wrote before the last FLUSH. Of every
//! 512-byte sector written since, any subset may have reached the medium, in any order. An image
//! is one such subset, chosen by a seed. With `Drive::Lying` a FLUSH is answered and ignored.
//! Failures are counted down: the next N writes, flushes or reads fail with EIO.
//!
//! Cost: the disk lives in memory twice (as seen, as flushed), untouched parts for nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a drive writes as one: it may tear between two of these, not within one.
pub const SECTOR_BYTES: usize = 512;

/// An image is written in pieces of this size, those that nobody ever wrote left as holes.
const CHUNK_BYTES: usize = 64 << 10;

/// Whether the drive keeps the promise of FLUSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    Honest,
    Lying,
}

/// How many of the next operations fail with EIO.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failures {
    pub writes: u64,
    /// Writes below this position are spared.
    pub writes_from: u64,
    pub flushes: u64,
    pub reads: u64,
}

/// What the drive has seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub writes: u64,
    pub flushes: u64,
    pub failed: u64,
    pub pending_writes: u64,
}

/// What became of the sectors written since the last FLUSH.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    pub kept: u64,
    pub dropped: u64,
}

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Injected,
    BeyondEnd,
}

struct Write {
    position: usize,
    bytes: Vec<u8>,
}

/// The disk. Positions are bytes.
pub struct Disk {
    seen: Vec<u8>,
    flushed: Vec<u8>,
    /// Writes since the last FLUSH, in order.
    pending: Vec<Write>,
    /// Chunks that were ever written.
    touched: BTreeSet<usize>,
    pub drive: Drive,
    pub failures: Failures,
    counters: Counters,
}

impl Disk {
    #[must_use]
    pub fn new(size_bytes: usize) -> Self {
        Self {
            seen: vec![0; size_bytes],
            flushed: vec![0; size_bytes],
            pending: Vec::new(),
            touched: BTreeSet::new(),
            drive: Drive::Honest,
            failures: Failures::default(),
            counters: Counters::default(),
        }
    }

    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.seen.len()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { pending_writes: self.pending.len() as u64, ..self.counters }
    }

    /// The bytes at `position`, cut off at the end of the disk.
    ///
    /// # Errors
    /// When a read failure is due.
    pub fn read(&mut self, position: usize, length: usize) -> Result<&[u8], Refusal> {
        fail_if_due(&mut self.failures.reads, &mut self.counters.failed)?;
        let start = position.min(self.seen.len());
        let end = start.saturating_add(length).min(self.seen.len());
        Ok(&self.seen[start..end])
    }

    /// Takes a write into the cache: read back at once, kept for certain only by a FLUSH.
    ///
    /// # Errors
    /// When a write failure is due, or the write does not fit.
    pub fn write(&mut self, position: usize, bytes: &[u8]) -> Result<(), Refusal> {
        if position as u64 >= self.failures.writes_from {
            fail_if_due(&mut self.failures.writes, &mut self.counters.failed)?;
        }
        let end = position.checked_add(bytes.len()).ok_or(Refusal::BeyondEnd)?;
        if end > self.seen.len() {
            return Err(Refusal::BeyondEnd);
        }
        self.seen[position..end].copy_from_slice(bytes);
        self.pending.push(Write { position, bytes: bytes.to_vec() });
        self.touched.extend(position / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES));
        self.counters.writes += 1;
        Ok(())
    }

    /// FLUSH: what was written so far survives from here on, if the drive is honest.
    ///
    /// # Errors
    /// When a flush failure is due; then nothing becomes durable.
    pub fn flush(&mut self) -> Result<(), Refusal> {
        fail_if_due(&mut self.failures.flushes, &mut self.counters.failed)?;
        self.counters.flushes += 1;
        if self.drive == Drive::Honest {
            for Write { position, bytes } in self.pending.drain(..) {
                self.flushed[position..position + bytes.len()].copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// Writes to `path` the disk as a power cut now could leave it: everything flushed, and of
    /// the later sectors each with a chance of `keep_permille` in a thousand.
    ///
    /// # Errors
    /// When the image cannot be written.
    pub fn write_image(&self, seed: u64, keep_permille: u64, path: &Path) -> io::Result<Cut> {
        let image = File::create(path)?;
        image.set_len(self.flushed.len() as u64)?;
        for chunk in &self.touched {
            let start = chunk * CHUNK_BYTES;
            let end = (start + CHUNK_BYTES).min(self.flushed.len());
            let bytes = &self.flushed[start..end];
            if bytes.iter().any(|byte| *byte != 0) {
                image.write_all_at(bytes, start as u64)?;
            }
        }
        let mut chance = Chance::new(seed);
        let mut cut = Cut::default();
        for Write { position, bytes } in &self.pending {
            for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if chance.next() % 1000 < keep_permille {
                    image.write_all_at(sector, (position + index * SECTOR_BYTES) as u64)?;
                    cut.kept += 1;
                } else {
                    cut.dropped += 1;
                }
            }
        }
        Ok(cut)
    }
}

fn fail_if_due(left: &mut u64, failed: &mut u64) -> Result<(), Refusal> {
    if *left == 0 {
        return Ok(());
    }
    *left -= 1;
    *failed += 1;
    Err(Refusal::Injected)
}

/// `SplitMix64` (Steele, Lea, Flood 2014): the same seed gives the same image.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn image(disk: &Disk, seed: u64, keep_permille: u64) -> (Vec<u8>, Cut) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let cut = disk.write_image(seed, keep_permille, &path).unwrap();
        (std::fs::read(&path).unwrap(), cut)
    }

    #[test]
    fn flushed_bytes_are_in_every_image() {
        let mut disk = Disk::new(MIB);
        disk.write(4096, &[7; 8192]).unwrap();
        disk.flush().unwrap();
        disk.write(65536, &[9; 512 * 64]).unwrap();
        for keep in [0, 250, 500, 750, 1000] {
            let (bytes, cut) = image(&disk, keep, keep);
            assert_eq!(bytes.len(), MIB);
            assert!(bytes[4096..4096 + 8192].iter().all(|byte| *byte == 7));
            assert_eq!(cut.kept + cut.dropped, 64);
            for sector in bytes[65536..65536 + 512 * 64].chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
            }
        }
        assert_eq!(image(&disk, 1, 0).1, Cut { kept: 0, dropped: 64 });
        assert_eq!(image(&disk, 1, 1000).1, Cut { kept: 64, dropped: 0 });
    }

    #[test]
    fn an_image_depends_on_its_seed_alone() {
        let mut disk = Disk::new(MIB);
        disk.write(0, &[1; 512 * 200]).unwrap();
        assert_eq!(image(&disk, 5, 500), image(&disk, 5, 500));
        assert_ne!(image(&disk, 5, 500).0, image(&disk, 6, 500).0);
    }

    #[test]
    fn a_lying_drive_keeps_nothing_for_certain() {
        let mut disk = Disk::new(MIB);
        disk.drive = Drive::Lying;
        disk.write(0, &[1; 512]).unwrap();
        disk.flush().unwrap();
        assert_eq!(image(&disk, 1, 0), (vec![0; MIB], Cut { kept: 0, dropped: 1 }));
    }

    #[test]
    fn failures_are_counted_down_and_change_nothing() {
        let mut disk = Disk::new(MIB);
        disk.write(0, &[1; 512]).unwrap();
        disk.failures = Failures { writes: 1, writes_from: 4096, flushes: 1, reads: 1 };
        assert_eq!(disk.write(0, &[2; 512]), Ok(()));
        assert_eq!(disk.write(4096, &[3; 512]), Err(Refusal::Injected));
        assert_eq!(disk.flush(), Err(Refusal::Injected));
        assert_eq!(disk.read(0, 1), Err(Refusal::Injected));
        assert_eq!(disk.read(4096, 1), Ok(&[0][..]));
        assert_eq!(disk.counters().pending_writes, 2);
        assert_eq!(disk.flush(), Ok(()));
        assert_eq!(disk.counters().failed, 3);
    }

    #[test]
    fn what_lies_beyond_the_end_is_refused() {
        let mut disk = Disk::new(MIB);
        assert_eq!(disk.write(MIB - 1, &[1, 2]), Err(Refusal::BeyondEnd));
        assert_eq!(disk.write(usize::MAX, &[1]), Err(Refusal::BeyondEnd));
        assert_eq!(disk.read(MIB - 1, 10).unwrap().len(), 1);
        assert!(disk.read(usize::MAX, 10).unwrap().is_empty());
    }
}
