//! When a fault strikes: at a seeded time, or right after a segment was rolled.
//!
//! A roll is seen from outside: a new `.log` name appears in a partition's folder. The blow falls
//! within a millisecond or two of it, while files are made, zeroed, synced and indexes closed.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::history::History;
use crate::load::Load;
use rig::chance::Chance;
use rig::interrupt;

/// How long the load runs before the fault.
const LOAD_MS: (u64, u64) = (10, 800);
/// How long after a new segment's name was seen the blow falls.
const AFTER_ROLL_US: (u64, u64) = (0, 1500);
/// Some load does not roll in time; then the blow falls anyway.
const ROLL_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    AnyTime,
    Roll,
}

/// Waits for the moment, and says whether it is inside a roll.
pub(crate) fn wait(
    aim: Aim,
    chance: &mut Chance,
    data: &Path,
    history: &History,
    load: &Load,
) -> Result<bool, String> {
    interrupt::sleep(Duration::from_millis(chance.between(LOAD_MS.0, LOAD_MS.1)))?;
    if aim == Aim::AnyTime {
        return Ok(false);
    }
    let delay = Duration::from_micros(chance.between(AFTER_ROLL_US.0, AFTER_ROLL_US.1));
    let until = Instant::now() + ROLL_WITHIN;
    let watch =
        Inotify::init(InitFlags::IN_NONBLOCK).map_err(|error| format!("inotify: {error}"))?;
    for at in &history.partitions {
        let folder = data.join(format!("{}-{}", at.topic, at.partition));
        // A new file may be made under another name, and get its own when it is ready.
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        // A partition has no folder before its first record.
        while let Err(error) = watch.add_watch(&folder, events) {
            if error != Errno::ENOENT || Instant::now() > until {
                return Err(format!("watch {}: {error}", folder.display()));
            }
            interrupt::sleep(Duration::from_millis(1))?;
        }
    }
    while Instant::now() < until && !load.failed() {
        interrupt::check()?;
        match watch.read_events() {
            Ok(events) => {
                let is_segment = |name: &std::ffi::OsString| {
                    Path::new(name).extension().is_some_and(|ending| ending == "log")
                };
                if events.iter().any(|event| event.name.as_ref().is_some_and(is_segment)) {
                    std::thread::sleep(delay);
                    return Ok(true);
                }
            }
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_micros(100)),
            Err(error) => return Err(format!("inotify: {error}")),
        }
    }
    Ok(false)
}
