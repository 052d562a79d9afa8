//! What the kernel and its limits are, by `/proc` and by setting up what the broker would.

use std::fs;

use runtime::{
    DriverKind, DriverPreference, REGISTERED_BYTES_MAX, clock_is_synchronised, open_driver,
};

use super::{Finding, size};
use crate::alone;

/// What a driver of its own may keep: it does nothing.
const POOL_CACHED_BYTES_MAX: usize = 1 << 20;
/// The bit of CAP_IPC_LOCK, which no limit of locked memory holds for.
const CAP_IPC_LOCK: u32 = 14;
/// Below this files of idle partitions are opened and closed in turn.
const HANDLES_COMFORTABLE: u64 = 16_384;
/// With fewer a broker of a few shards has hardly a connection.
const HANDLES_MIN: u64 = 256;
/// Before this kernel rings themselves count as locked memory.
const RINGS_ARE_LOCKED_BEFORE: Version = (5, 12);
/// From this on the driver has all that it can use.
const ALL_OPERATIONS: Version = (6, 15);
/// Before this there is no rename through a ring.
const URING_MIN: Version = (5, 11);

type Version = (u32, u32);

/// What decides how io_uring is judged.
struct Kernel {
    /// `None`: not to be read.
    version: Option<Version>,
    /// `kernel.io_uring_disabled`: 0, 1 (only for a group) or 2; absent before 6.6.
    disabled: Option<u32>,
    /// Whether this process is under a filter of system calls.
    filtered: bool,
}

pub(super) fn look(preference: DriverPreference, shards: u16, findings: &mut Vec<Finding>) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let (status, limits) = (read("/proc/self/status"), read("/proc/self/limits"));
    let kernel = Kernel {
        version: version(&release),
        disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
        filtered: field(&status, "Seccomp:").is_some_and(|mode| mode != "0"),
    };
    findings.push(judge_version(release.trim(), kernel.version));
    let opened = open(preference);
    let uses_uring = matches!(opened, Ok((DriverKind::Uring, _)));
    findings.push(judge_driver(preference, &opened, &kernel));
    let is_exempt = field(&status, "CapEff:")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1);
    let memlock = limit(&limits, "Max locked memory");
    findings.push(judge_memlock(memlock, is_exempt, uses_uring, shards, &kernel));
    findings.push(judge_handles(limit(&limits, "Max open files"), shards));
    findings.push(judge_clock(clock_is_synchronised()));
}

/// Sets up the driver that the broker would have, and lets go of it.
fn open(preference: DriverPreference) -> Result<(DriverKind, Option<String>), String> {
    let opened = alone::endpoint().and_then(|endpoint| {
        let pool = runtime::BufferPool::new(POOL_CACHED_BYTES_MAX);
        open_driver(preference, endpoint, pool)
    });
    opened.map(|(driver, refusal)| (driver.kind(), refusal)).map_err(|error| error.to_string())
}

fn judge_version(release: &str, version: Option<Version>) -> Finding {
    let advice = "a kernel of 6.1 or later (6.15 has all that is used)";
    match version {
        None => Finding::warn("kernel", format!("{release:?}"), "not a Linux version", advice),
        Some(version) if version < URING_MIN => {
            let meaning = "too old for the io_uring driver: the broker runs on epoll";
            Finding::warn("kernel", release, meaning, advice)
        }
        Some(version) if version < (6, 1) => {
            let meaning = "the io_uring driver does without what is newer, and is slower for it";
            Finding::warn("kernel", release, meaning, advice)
        }
        Some(version) if version < ALL_OPERATIONS => {
            let meaning = "good; writes of several registered buffers come with 6.15";
            Finding::ok("kernel", release, meaning)
        }
        Some(_) => Finding::ok("kernel", release, "it has all that the io_uring driver uses"),
    }
}

fn judge_driver(
    preference: DriverPreference,
    opened: &Result<(DriverKind, Option<String>), String>,
    kernel: &Kernel,
) -> Finding {
    let refusal = match opened {
        Ok((DriverKind::Uring, _)) => {
            return Finding::ok("driver", "io_uring", "the broker would use it");
        }
        Ok((_, None)) if preference == DriverPreference::Sync => {
            let meaning = "epoll, and threads for files, as --driver asks for";
            return Finding::ok("driver", "sync", meaning);
        }
        Ok((_, refusal)) => refusal.as_deref().unwrap_or("no reason given"),
        Err(refusal) => refusal,
    };
    let advice = match (kernel.disabled, kernel.version) {
        (Some(2..), _) => "the sysctl forbids it: sysctl -w kernel.io_uring_disabled=0".to_owned(),
        (Some(1), _) => {
            "the sysctl allows it to one group: sysctl -w kernel.io_uring_disabled=0, or \
                         put the broker's user into the group kernel.io_uring_group"
                .to_owned()
        }
        (_, Some(version)) if version < URING_MIN => "a newer kernel, of 6.1 or later".to_owned(),
        _ if refusal.contains("memlock") => {
            "raise the limit of locked memory, see the line memlock".to_owned()
        }
        _ if kernel.filtered => {
            "a seccomp filter forbids it: allow io_uring_setup, io_uring_enter \
                                 and io_uring_register (docker/ has a profile for Docker; \
                                 SystemCallFilter= in a systemd unit)"
                .to_owned()
        }
        _ => "look for a security module (SELinux, AppArmor) that forbids io_uring".to_owned(),
    };
    if opened.is_err() {
        let meaning = "the broker would not start: --driver uring takes nothing else";
        return Finding::bad("driver", refusal, meaning, advice);
    }
    let meaning = "the broker would run on epoll and threads: sound, but slower";
    Finding::warn("driver", refusal, meaning, advice)
}

fn judge_memlock(
    limit: Option<u64>,
    is_exempt: bool,
    uses_uring: bool,
    shards: u16,
    kernel: &Kernel,
) -> Finding {
    let found = match limit {
        None => "unlimited".to_owned(),
        Some(bytes) => size(bytes),
    };
    let wanted = u64::try_from(REGISTERED_BYTES_MAX).unwrap_or(u64::MAX) * u64::from(shards);
    let advice = format!(
        "at least {}: ulimit -l, LimitMEMLOCK=infinity in a systemd unit, ulimits or cap_add: \
         [IPC_LOCK] in compose",
        size(wanted)
    );
    if is_exempt {
        return Finding::ok(
            "memlock",
            found,
            "the limit does not hold for this user (CAP_IPC_LOCK)",
        );
    }
    if limit.is_none_or(|bytes| bytes >= wanted) {
        return Finding::ok("memlock", found, "enough for the buffers that are registered");
    }
    if kernel.version.is_some_and(|version| version < RINGS_ARE_LOCKED_BEFORE) {
        let meaning = "with this kernel rings count, too: with little, io_uring is refused";
        return Finding::warn("memlock", found, meaning, advice);
    }
    if !uses_uring {
        return Finding::ok(
            "memlock",
            found,
            "does not matter: only the io_uring driver locks memory",
        );
    }
    let meaning = "io_uring works with any limit here; fewer large buffers are registered with it, \
                   or none, which costs some CPU (3 us of 13 a write of 128 KiB)";
    Finding::warn("memlock", found, meaning, advice)
}

fn judge_handles(limit: Option<u64>, shards: u16) -> Finding {
    let advice = "ulimit -Hn, LimitNOFILE=1048576 in a systemd unit, ulimits: nofile in compose";
    let Some(handles) = limit else {
        return Finding::ok("files", "unlimited", "enough");
    };
    let found = format!("{handles} file handles");
    if handles < HANDLES_MIN.max(64 * u64::from(shards)) {
        let meaning = "too few: clients would wait for others to leave, and starts may fail";
        return Finding::bad("files", found, meaning, advice);
    }
    if handles < HANDLES_COMFORTABLE {
        let connections = handles / 2;
        let meaning = format!(
            "at most about {connections} connections; files of many partitions are opened and closed \
             in turn"
        );
        return Finding::warn("files", found, meaning, advice);
    }
    Finding::ok("files", found, "enough (the hard limit: the broker raises its own)")
}

fn judge_clock(synchronised: std::io::Result<bool>) -> Finding {
    let meaning =
        "timestamps of records, retention by time and logs of several machines may be wrong";
    let advice = "run chronyd or systemd-timesyncd, unless the hypervisor keeps the clock";
    match synchronised {
        Ok(true) => Finding::ok("clock", "synchronised", "timestamps are the world's"),
        Ok(false) => Finding::warn("clock", "nothing keeps it to the world's", meaning, advice),
        Err(error) => Finding::warn("clock", format!("not known ({error})"), meaning, advice),
    }
}

/// `6.18.44-generic` is 6 and 18.
fn version(release: &str) -> Option<Version> {
    let mut parts = release.trim().split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The value of a line of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The hard limit of a line of `/proc/self/limits`; `None` where there is none.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max open files            1024                 524288               files\n\
        Max locked memory         unlimited            unlimited            bytes\n";

    fn kernel(version: Version, disabled: u32, filtered: bool) -> Kernel {
        Kernel { version: Some(version), disabled: Some(disabled), filtered }
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("nonsense"), None);
        assert_eq!(limit(LIMITS, "Max open files"), Some(524_288));
        assert_eq!(limit(LIMITS, "Max locked memory"), None);
        assert_eq!(field("Name:\tx\nSeccomp:\t2\n", "Seccomp:"), Some("2"));
    }

    #[test]
    fn a_refused_ring_is_blamed_on_what_refused_it() {
        let refused = || Ok((DriverKind::Sync, Some("refused".to_owned())));
        for (kernel, said) in [
            (kernel((6, 18), 2, false), "kernel.io_uring_disabled=0"),
            (kernel((6, 18), 1, true), "io_uring_group"),
            (kernel((6, 18), 0, true), "seccomp"),
            (kernel((5, 4), 0, false), "newer kernel"),
            (kernel((6, 18), 0, false), "SELinux"),
        ] {
            let finding = judge_driver(DriverPreference::Auto, &refused(), &kernel);
            assert_eq!(finding.status, Status::Warn);
            let advice = finding.advice.unwrap();
            assert!(advice.contains(said), "{advice}");
        }
        let kernel = kernel((6, 18), 0, true);
        let none = Err("refused".to_owned());
        assert_eq!(judge_driver(DriverPreference::Uring, &none, &kernel).status, Status::Bad);
        let asked = Ok((DriverKind::Sync, None));
        assert_eq!(judge_driver(DriverPreference::Sync, &asked, &kernel).status, Status::Ok);
    }

    #[test]
    fn locked_memory_matters_only_where_something_is_locked() {
        let (new, old) = (kernel((6, 18), 0, false), kernel((5, 10), 0, false));
        let judge = |limit, is_exempt, uses_uring, kernel: &Kernel| {
            judge_memlock(limit, is_exempt, uses_uring, 2, kernel).status
        };
        assert_eq!(judge(None, false, true, &new), Status::Ok);
        assert_eq!(judge(Some(64 << 20), false, true, &new), Status::Ok);
        assert_eq!(judge(Some(8 << 20), false, true, &new), Status::Warn);
        assert_eq!(judge(Some(8 << 20), true, true, &new), Status::Ok);
        assert_eq!(judge(Some(8 << 20), false, false, &new), Status::Ok);
        assert_eq!(judge(Some(8 << 20), false, false, &old), Status::Warn);
    }

    #[test]
    fn few_handles_are_told() {
        for (limit, shards, status) in [
            (None, 2, Status::Ok),
            (Some(524_288), 2, Status::Ok),
            (Some(1024), 2, Status::Warn),
            (Some(1024), 64, Status::Bad),
            (Some(100), 1, Status::Bad),
        ] {
            assert_eq!(judge_handles(limit, shards).status, status, "{limit:?}");
        }
    }
}
