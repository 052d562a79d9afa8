//! Ctrl-C and SIGTERM as a question: every wait of a rig asks it, so that mounts, loop devices
//! and processes are put away by their owners on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on a signal asks instead of ending the process.
pub fn install() -> Result<(), String> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))
            .map_err(|error| format!("signal {signal}: {error}"))?;
    }
    Ok(())
}

/// What a wait answers to somebody who asked to stop.
pub const INTERRUPTED_REASON: &str = "interrupted";

/// An error once somebody asked to stop.
pub fn check() -> Result<(), String> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(INTERRUPTED_REASON.to_owned()) } else { Ok(()) }
}

/// Sleeps, unless asked to stop.
pub fn sleep(time: Duration) -> Result<(), String> {
    const STEP: Duration = Duration::from_millis(20);
    let until = Instant::now() + time;
    loop {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}
