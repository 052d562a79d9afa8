//! A runtime of one shard, for commands that are no broker.

use std::io;

use runtime::{BufferPool, DriverPreference, Executor, ShardIndex, mesh, open_driver};

/// One on this thread, which keeps so much free memory for its next buffers.
///
/// # Errors
/// The operating system's, where it gives no driver.
pub(crate) fn executor(
    driver: DriverPreference,
    pool_cached_bytes_max: usize,
) -> io::Result<Executor> {
    let (mut endpoints, _injector) = mesh(1)?;
    let endpoint = endpoints.pop().expect("a mesh of one has one end");
    let (driver, _) = open_driver(driver, endpoint, BufferPool::new(pool_cached_bytes_max))?;
    Ok(Executor::new(ShardIndex(0), 1, driver))
}
