//! What the kernel says of this process, under the names that every Prometheus client has
//! (`process_...`), and how busy the shards are.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use crate::cpu_time;

/// Shorter than this a busy share is that of a few ticks: the last one is told again.
const WATCH_MIN: Duration = Duration::from_secs(1);
const IN_MEMORY: &str = "a string takes everything";

/// What was seen when it was last looked at.
pub(super) struct Watch {
    shards: u16,
    began: Instant,
    seen: Seen,
    /// Of the shards' time since then, 0 to 1.
    idle: f64,
}

struct Seen {
    at: Instant,
    shards_cpu: Duration,
}

impl Seen {
    #[expect(clippy::disallowed_methods, reason = "the admin thread has no shard's clock")]
    fn now(shard_times: &[(String, Duration)]) -> Seen {
        let shards_cpu = shard_times.iter().map(|(_, time)| *time).sum();
        Seen { at: Instant::now(), shards_cpu }
    }
}

impl Watch {
    pub(super) fn new(shards: u16) -> Watch {
        let seen = Seen::now(&shard_times());
        Watch { shards, began: seen.at, seen, idle: 1.0 }
    }

    /// The metrics as they are now.
    pub(super) fn page(&mut self) -> String {
        let shard_times = shard_times();
        let uptime = self.look(&shard_times);
        let mut page = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: f64| {
            writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
                .expect(IN_MEMORY);
        };
        let idle = "Of the shards' time since the metrics were last read, 0 to 1.";
        for name in [
            "kafka_network_socketserver_networkprocessoravgidle_percent",
            "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        ] {
            one(name, "gauge", idle, self.idle);
        }
        one("odradek_uptime_seconds", "gauge", "Since this broker began to start.", uptime);
        if let Some(time) = cpu_time::of_process() {
            one(
                "process_cpu_seconds_total",
                "counter",
                "User and system time.",
                time.as_secs_f64(),
            );
        }
        if let Some(bytes) = resident_bytes() {
            one("process_resident_memory_bytes", "gauge", "Memory.", bytes);
        }
        for (field, name) in [
            ("read_bytes:", "kafka_server_kafkaserver_linux_disk_read_bytes"),
            ("write_bytes:", "kafka_server_kafkaserver_linux_disk_write_bytes"),
        ] {
            if let Some(bytes) = disk_bytes(field) {
                one(name, "counter", "From or to disks, as the kernel counts it.", bytes);
            }
        }
        if let Ok(handles) = fs::read_dir("/proc/self/fd") {
            let count = u32::try_from(handles.count()).unwrap_or(u32::MAX);
            one("process_open_fds", "gauge", "Open file handles.", f64::from(count));
        }
        let name = "odradek_shard_cpu_seconds_total";
        writeln!(page, "# HELP {name} User and system time of a shard.\n# TYPE {name} counter")
            .expect(IN_MEMORY);
        for (shard, time) in shard_times {
            writeln!(page, "{name}{{shard=\"{shard}\"}} {}", time.as_secs_f64()).expect(IN_MEMORY);
        }
        let (name, version) = ("odradek_build_info", env!("CARGO_PKG_VERSION"));
        writeln!(page, "# HELP {name} What runs.\n# TYPE {name} gauge").expect(IN_MEMORY);
        writeln!(page, "{name}{{version=\"{version}\"}} 1").expect(IN_MEMORY);
        page
    }

    /// Tells since when it watches, in seconds.
    fn look(&mut self, shard_times: &[(String, Duration)]) -> f64 {
        let now = Seen::now(shard_times);
        let uptime = now.at.duration_since(self.began).as_secs_f64();
        let passed = now.at.duration_since(self.seen.at);
        if passed < WATCH_MIN {
            return uptime;
        }
        let busy = now.shards_cpu.saturating_sub(self.seen.shards_cpu).as_secs_f64();
        self.idle = (1.0 - busy / (passed.as_secs_f64() * f64::from(self.shards))).clamp(0.0, 1.0);
        self.seen = now;
        uptime
    }
}

/// The shards by number, and their user and system time.
fn shard_times() -> Vec<(String, Duration)> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut times: Vec<(String, Duration)> = threads
        .filter_map(|thread| {
            let path = thread.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let shard = name.trim().strip_prefix("shard-")?.to_owned();
            Some((shard, cpu_time::read(&path.join("stat"))?))
        })
        .collect();
    times.sort();
    times
}

/// What the kernel has counted for this process; `None` where it may not be asked.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn disk_bytes(field: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.trim().parse::<u64>().ok().map(|bytes| bytes as f64)
}

fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let page = Watch::new(1).page();
        for name in
            ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "]
        {
            assert!(page.lines().any(|line| line.starts_with(name)), "{name} in {page}");
        }
    }
}
