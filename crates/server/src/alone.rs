//! For commands that are no broker: a runtime of one shard, a cluster to talk to, and stdout.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use clap::Args;
use client::{Cluster, Options};
use model::ErrorCode;
use runtime::{
    BufferPool, DriverPreference, Endpoint, Executor, Runtime, ShardIndex, mesh, open_driver,
};

use crate::settings;

/// Free memory that is kept for the next answer.
const POOL_CACHED_BYTES_MAX: usize = 8 << 20;

/// How long a coordinator may take to be there, and how soon it is asked for again.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(20);
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);

/// Whom a command asks.
#[derive(Debug, Args)]
pub(crate) struct Broker {
    /// A broker of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap_server: String,
}

impl Broker {
    /// As it was given.
    pub(crate) fn name(&self) -> &str {
        &self.bootstrap_server
    }

    /// Where that is.
    ///
    /// # Errors
    /// One line, where the name has no address.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        settings::resolve_text(&self.bootstrap_server).map_err(|error| error.to_string())
    }
}

/// Does something with a cluster, on this thread.
///
/// # Errors
/// One line that names the broker.
pub(crate) fn on_cluster<T: 'static>(
    broker: &Broker,
    act: impl AsyncFnOnce(Runtime, Cluster) -> client::Result<T> + 'static,
) -> Result<T, String> {
    let result = on_cluster_at(broker.address()?, Options::default().request_timeout, act)?;
    result.map_err(|error| format!("{}: {error}", broker.bootstrap_server))
}

/// The same where the broker's address is known; each request may take so long.
///
/// # Errors
/// One line, where there is no client; within, what the client says.
pub(crate) fn on_cluster_at<T: 'static>(
    address: SocketAddr,
    request_timeout: Duration,
    act: impl AsyncFnOnce(Runtime, Cluster) -> client::Result<T> + 'static,
) -> Result<client::Result<T>, String> {
    let executor = executor(DriverPreference::Sync, POOL_CACHED_BYTES_MAX);
    let mut executor = executor.map_err(|error| error.to_string())?;
    let runtime = executor.runtime();
    let cluster = cluster_with(&runtime, address, request_timeout);
    Ok(executor.block_on(async move { act(runtime, cluster).await }))
}

/// Asks again while a coordinator is not there yet: a cluster makes its topics when they are first
/// needed, and whoever has just become coordinator reads first.
///
/// # Errors
/// What `act` ends with.
pub(crate) async fn coordinated<T>(
    runtime: &Runtime,
    act: impl AsyncFn() -> client::Result<T>,
) -> client::Result<T> {
    let deadline = runtime.now() + COORDINATOR_PATIENCE;
    loop {
        match act().await {
            Err(client::Error::Refused(code))
                if is_of_coordinator(code) && runtime.now() < deadline => {}
            result => return result,
        }
        runtime.sleep(COORDINATOR_PAUSE).await;
    }
}

fn is_of_coordinator(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

/// What a coordinator says of one thing: what passes is an error, to be asked for again, and what
/// stays is one line.
///
/// # Errors
/// See [`coordinated`].
pub(crate) fn judge_coordinator(
    code: i16,
    message: Option<&str>,
) -> client::Result<Result<(), String>> {
    match ErrorCode::from_code(code) {
        passing if is_of_coordinator(passing) => Err(client::Error::Refused(passing)),
        _ => Ok(judge(code, message)),
    }
}

/// What a broker says of one thing, with its own words where it has some.
///
/// # Errors
/// One line, for any code but that of success.
pub(crate) fn judge(code: i16, message: Option<&str>) -> Result<(), String> {
    client::Error::check(code).map_err(|error| match message {
        Some(message) if !message.is_empty() => format!("{error}: {message}"),
        Some(_) | None => error.to_string(),
    })
}

/// Connections of a client of its own.
pub(crate) fn cluster(runtime: &Runtime, bootstrap: SocketAddr) -> Cluster {
    cluster_with(runtime, bootstrap, Options::default().request_timeout)
}

fn cluster_with(runtime: &Runtime, bootstrap: SocketAddr, request_timeout: Duration) -> Cluster {
    let resolve = |host: &str, port: u16| settings::resolve(host, port).ok();
    let client_id = "odradek".to_owned();
    let options = Options { client_id, request_timeout, ..Options::default() };
    Cluster::new(runtime, bootstrap, resolve, options)
}

/// Settings as `NAME=VALUE`.
///
/// # Errors
/// One line that names what is none.
pub(crate) fn names_and_values(texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let pair = |text: &String| {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}

/// Writes to stdout.
///
/// # Errors
/// One line. That a pipe's reader has gone is none.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match print_bytes(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The same for any bytes.
///
/// # Errors
/// The operating system's.
pub(crate) fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// One on this thread, which keeps so much free memory for its next buffers.
///
/// # Errors
/// The operating system's, where it gives no driver.
pub(crate) fn executor(
    driver: DriverPreference,
    pool_cached_bytes_max: usize,
) -> io::Result<Executor> {
    let (driver, _) = open_driver(driver, endpoint()?, BufferPool::new(pool_cached_bytes_max))?;
    Ok(Executor::new(ShardIndex(0), 1, driver))
}

/// The one end of a mesh of one shard.
///
/// # Errors
/// The operating system's.
pub(crate) fn endpoint() -> io::Result<Endpoint> {
    let (mut endpoints, _injector) = mesh(1)?;
    Ok(endpoints.pop().expect("a mesh of one has one end"))
}

/// Runs something to its end on a runtime of its own.
///
/// # Errors
/// One line, where the operating system gives no driver.
pub(crate) fn on_runtime<T: 'static, F: Future<Output = T> + 'static>(
    pool_cached_bytes_max: usize,
    act: impl FnOnce(Runtime) -> F,
) -> Result<T, String> {
    let executor = executor(DriverPreference::Sync, pool_cached_bytes_max);
    let mut executor = executor.map_err(|error| error.to_string())?;
    let runtime = executor.runtime();
    Ok(executor.block_on(act(runtime)))
}
