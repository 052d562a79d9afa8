//! On glommio: its own files and buffers.

use std::{io, path::Path, time::Duration};

use futures_util::future::try_join_all;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, io::OpenOptions};

use crate::{Rounds, WRITE_BYTES, all_written, pattern, positions};

pub fn append(path: &Path, rounds: u64) -> io::Result<Vec<Duration>> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().map_err(io::Error::from)?;
    executor.run(rounds_of(path, rounds)).map_err(io::Error::from)
}

async fn rounds_of(path: &Path, rounds: u64) -> Result<Vec<Duration>, GlommioError<()>> {
    let file = OpenOptions::new().read(true).write(true).dma_open(path).await?;
    let (pattern, mut told) = (pattern(), Rounds::new());
    for round in 0..rounds {
        let writes = positions(round).map(|position| {
            let mut buffer = file.alloc_dma_buffer(WRITE_BYTES);
            buffer.as_bytes_mut().copy_from_slice(&pattern);
            file.write_at(buffer, position)
        });
        for written in try_join_all(writes).await? {
            all_written(written)?;
        }
        file.fdatasync().await?;
        told.end_one();
    }
    file.close().await?;
    Ok(told.times)
}
