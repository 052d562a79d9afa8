//! On the runtime of this project.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join_all;
use runtime::{
    Access, BufferPool, Cache, Create, DriverKind, DriverPreference, Errno, Executor, File,
    OpenOptions, Runtime, ShardIndex, mesh, open_driver,
};

use crate::{Rounds, WRITE_BYTES, all_written, pattern, positions};

/// What the broker gives a shard.
const POOL_CACHED_BYTES_MAX: usize = 32 << 20;

pub fn append(path: &Path, rounds: u64) -> io::Result<Vec<Duration>> {
    let (mut endpoints, _) = mesh(1)?;
    let pool = BufferPool::new(POOL_CACHED_BYTES_MAX);
    let (driver, _) = open_driver(DriverPreference::Uring, endpoints.remove(0), pool)?;
    assert_eq!(driver.kind(), DriverKind::Uring);
    let mut executor = Executor::new(ShardIndex(0), 1, driver);
    let rounds = rounds_of(executor.runtime(), path.to_owned(), rounds);
    executor.block_on(rounds).map_err(|error| io::Error::other(format!("{error:?}")))
}

async fn rounds_of(runtime: Runtime, path: PathBuf, rounds: u64) -> Result<Vec<Duration>, Errno> {
    let options =
        OpenOptions { create: Create::Never, access: Access::ReadWrite, cache: Cache::Direct };
    let file = File::open(&runtime, path, options).await?;
    let (pattern, mut told) = (pattern(), Rounds::new());
    for round in 0..rounds {
        let writes = positions(round).map(|position| {
            let mut buffer = runtime.pool().take(WRITE_BYTES);
            buffer.append(&pattern);
            file.write(position, vec![buffer.freeze()])
        });
        for written in try_join_all(writes).await? {
            all_written(written).expect("the space is there");
        }
        file.sync().await?;
        told.end_one();
    }
    Ok(told.times)
}
