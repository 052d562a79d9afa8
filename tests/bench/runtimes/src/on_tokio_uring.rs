//! On tokio-uring, with buffers of the allocator's that are used again.

use std::{cell::RefCell, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use futures_util::future::try_join_all;
use tokio_uring::{
    buf::BoundedBuf,
    fs::{File, OpenOptions},
};

use crate::{BLOCK_BYTES, Rounds, WRITE_BYTES, all_written, pattern, positions};

pub fn append(path: &Path, rounds: u64) -> io::Result<Vec<Duration>> {
    tokio_uring::start(rounds_of(path, rounds))
}

async fn rounds_of(path: &Path, rounds: u64) -> io::Result<Vec<Duration>> {
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).await?;
    let (pattern, mut told) = (pattern(), Rounds::new());
    let free = RefCell::new(Vec::new());
    for round in 0..rounds {
        try_join_all(positions(round).map(|position| write(&file, &free, &pattern, position)))
            .await?;
        file.sync_data().await?;
        told.end_one();
    }
    file.close().await?;
    Ok(told.times)
}

async fn write(
    file: &File,
    free: &RefCell<Vec<Vec<u8>>>,
    pattern: &[u8],
    position: u64,
) -> io::Result<()> {
    let known = free.borrow_mut().pop();
    let mut buffer = known.unwrap_or_else(|| vec![0; WRITE_BYTES + BLOCK_BYTES]);
    let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
    buffer[start..start + WRITE_BYTES].copy_from_slice(pattern);
    let (written, slice) =
        file.write_at(buffer.slice(start..start + WRITE_BYTES), position).submit().await;
    free.borrow_mut().push(slice.into_inner());
    all_written(written?)
}
