//! One pinned thread a shard, each with its driver; one more that waits for signals.
//!
//! ```text
//!   main: block signals, start the shards, join them        exit 0 when all have returned
//!   shard N: pin, open the driver, run the broker           exit 1 at the first error, one line
//!   signals: first SIGTERM or SIGINT: Stop to shard 0       second: exit 1 at once
//! ```

use std::{
    io::{self, Write},
    net::SocketAddr,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use broker::{Ready, Role, config::BrokerConfig, loggers::Loggers};
use runtime::{
    BufferPool, DriverKind, DriverPreference, Endpoint, Executor, Injector, ShardIndex,
    StopSignals, mesh, mount::mount_of, open_driver, pin_thread, raise_handle_limit,
};

use storage::CommitStrategy;

use crate::{admin::Admin, report};

/// Free memory that a shard keeps for its next buffers.
const POOL_CACHED_BYTES_MAX: usize = 32 << 20;

/// How the shards are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shards {
    pub(crate) count: u16,
    pub(crate) driver: DriverPreference,
}

/// How many cores this process may use.
pub(crate) fn core_count() -> u16 {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Runs a broker until it was asked to stop. `uptime` tells how long the process lives.
///
/// # Errors
/// When it could not be started. What goes wrong later ends the process from the thread that sees
/// it: the other shards cannot go on without that one.
pub(crate) fn run(
    shards: Shards,
    mut config: BrokerConfig,
    loggers: Arc<dyn Loggers>,
    signals: StopSignals,
    uptime: impl Fn() -> Duration + Send + 'static,
) -> io::Result<()> {
    let (endpoints, injector) = mesh(shards.count)?;
    let (strategy, why) = match config.commit_strategy {
        CommitStrategy::Shared => storage::commit_strategy(&mount_of(&config.data_dir)),
        CommitStrategy::PerFile => (CommitStrategy::PerFile, "odradek.commit.strategy".to_owned()),
    };
    tracing::info!(commit = %strategy, why, "how files are synced");
    config.commit_strategy = strategy;
    match raise_handle_limit() {
        Ok(limit) => config.handles_max = usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => tracing::warn!(%error, "the limit of file handles is not known"),
    }
    let admin = Admin::bind(&config.admin.port).map_err(io::Error::other)?;
    let served = admin.as_ref().map(|admin| (admin.address(), admin.served()));
    let mut report_ready = Some(move |ready: &Ready, how: How| {
        let (address, served) = served.unzip();
        print_ready(ready, how, address, uptime());
        if let Some(served) = served {
            served.set(ready.address).expect("a broker is ready once");
        }
    });
    let config = Arc::new(config);
    let failed = Arc::new(AtomicBool::new(false));
    let mut handles = Vec::new();
    for endpoint in endpoints {
        let index = endpoint.shard();
        let shard =
            Shard { index, shards, config: Arc::clone(&config), loggers: Arc::clone(&loggers) };
        let failed = Arc::clone(&failed);
        // Shard 0 is the first end of the mesh.
        let report_ready = report_ready.take();
        let run = move || {
            if let Err(error) = shard.run(endpoint, report_ready) {
                fail(&failed, &error);
            }
        };
        handles.push(thread::Builder::new().name(format!("shard-{}", index.0)).spawn(run)?);
    }
    if let Some(admin) = admin {
        admin.serve(injector.clone(), shards.count, &config)?;
    }
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || stop_on_signal(&signals, &injector))?;
    for handle in handles {
        handle.join().map_err(|_| io::Error::other("a shard panicked"))?;
    }
    Ok(())
}

struct Shard {
    index: ShardIndex,
    shards: Shards,
    config: Arc<BrokerConfig>,
    loggers: Arc<dyn Loggers>,
}

impl Shard {
    /// `report_ready` is shard 0's: it is the one that reports.
    fn run(
        self,
        endpoint: Endpoint,
        report_ready: Option<impl FnOnce(&Ready, How) + Send + 'static>,
    ) -> Result<(), String> {
        if let Err(error) = pin_thread(usize::from(self.index.0)) {
            tracing::warn!(shard = self.index.0, %error, "not pinned to a core");
        }
        let pool = BufferPool::new(POOL_CACHED_BYTES_MAX);
        let (driver, refusal) = open_driver(self.shards.driver, endpoint, pool)
            .map_err(|error| format!("no driver: {error}"))?;
        let kind = driver.kind();
        if let Some(reason) = refusal.filter(|_| self.index == ShardIndex(0)) {
            tracing::warn!(driver = %kind, reason, "running without io_uring");
        }
        let count = self.shards.count;
        let role = match report_ready {
            Some(report_ready) => {
                let how = How { driver: kind, shards: count, commit: self.config.commit_strategy };
                Role::First { on_ready: Box::new(move |ready: Ready| report_ready(&ready, how)) }
            }
            None => Role::Other,
        };
        let mut executor = Executor::new(self.index, count, driver);
        let broker = broker::run_shard(executor.runtime(), self.config, self.loggers, role);
        executor.block_on(broker).map_err(|error| error.to_string())
    }
}

/// The first failing shard ends the process; others that fail meanwhile wait for that end.
fn fail(failed: &AtomicBool, error: &str) {
    if !failed.swap(true, Ordering::AcqRel) {
        report(error);
        process::exit(1);
    }
}

/// How a broker runs, for its ready line.
struct How {
    driver: DriverKind,
    shards: u16,
    commit: CommitStrategy,
}

/// Tells scripts and people that clients can come. A closed stdout is no reason not to serve them.
fn print_ready(ready: &Ready, how: How, admin: Option<SocketAddr>, uptime: Duration) {
    let (Ready { address, further_addresses, durability, .. }, How { driver, shards, commit }) =
        (ready, how);
    let ms = uptime.as_millis();
    let further = further_addresses.iter().map(|address| format!(",{address}"));
    let further: String = further.collect();
    let admin = admin.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let mut stdout = io::stdout().lock();
    let line = format!(
        "ready listen={address}{further} driver={driver} shards={shards} durability={durability}"
    );
    let written = writeln!(stdout, "{line} commit={commit} admin={admin} ms={ms}");
    if let Err(error) = written.and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "cannot write the ready line");
    }
}

fn stop_on_signal(signals: &StopSignals, injector: &Injector) {
    match signals.wait() {
        Ok(signal) => tracing::info!(signal, "stopping"),
        Err(error) => {
            tracing::error!(%error, "cannot wait for signals");
            return;
        }
    }
    injector.inject(ShardIndex(0), Box::new(broker::Stop));
    if let Ok(signal) = signals.wait() {
        report(&format!("{signal} again: stopped before everything was written"));
        process::exit(1);
    }
}
