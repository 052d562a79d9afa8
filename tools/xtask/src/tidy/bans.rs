//! What code may not name: I/O, time, chance and sharing outside the runtime, `unsafe` anywhere
//! but in the runtime's listed files.
//!
//! The rules hold for every crate of the product but `runtime`, which implements what they ban.
//! A file that has to break one (`server` starts the threads) is listed in `EXCEPTIONS` with its
//! reason. Test code is judged for `unsafe` only.

use std::collections::BTreeSet;

use super::Finding;
use super::paths::{NamedPath, Tests, named_paths};

/// A ban by path; `*` at the end means "and anything below", `=` in front "from the first name".
struct Ban {
    rule: &'static str,
    paths: &'static [&'static str],
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        rule: "clock",
        paths: &["Instant::now", "SystemTime::now"],
        instead: "ask the shard's runtime handle; the simulator owns time",
    },
    Ban {
        rule: "chance",
        paths: &[
            "=rand::*",
            "=fastrand::*",
            "=getrandom::*",
            "RandomState",
            "Uuid::new_v4",
            "libc::getrandom",
        ],
        instead: "ask the shard's runtime handle; the seed owns chance",
    },
    Ban {
        rule: "files",
        paths: &["std::fs", "tokio::fs", "libc::open", "libc::read", "libc::write"],
        instead: "all disk I/O goes through the runtime's driver",
    },
    Ban {
        rule: "network",
        paths: &["std::net", "std::os::unix::net", "tokio::net", "libc::socket"],
        instead: "all network I/O goes through the runtime's driver",
    },
    Ban {
        rule: "threads",
        paths: &["std::thread", "thread::spawn", "tokio::spawn", "thread_local"],
        instead: "a shard is one thread; only the server starts them",
    },
    Ban {
        rule: "processes",
        paths: &["std::process::Command", "std::process::abort"],
        instead: "a shard starts and ends no process",
    },
    Ban {
        rule: "order",
        paths: &[
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::collections::hash_map",
            "std::collections::hash_set",
            "=hashbrown::*",
        ],
        instead: "its iteration order is random; use model::collections or a BTreeMap",
    },
    Ban {
        rule: "sharing",
        paths: &[
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::sync::Condvar",
            "sync::mpsc",
            "=parking_lot::*",
            "Mutex::new",
            "RwLock::new",
        ],
        instead: "a shard shares nothing; send a message",
    },
];

/// Names below a banned path that are only values, not I/O.
const HARMLESS: &[&str] = &[
    "std::net::SocketAddr",
    "std::net::SocketAddrV4",
    "std::net::SocketAddrV6",
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::AddrParseError",
    "std::collections::hash_map::Entry",
    "std::thread::current",
];

/// A file that may break one rule, and why.
struct Exception {
    file: &'static str,
    rule: &'static str,
    #[expect(dead_code, reason = "it is written down for the reader of this table")]
    why: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "crates/model/src/collections.rs",
        rule: "order",
        why: "wraps the maps with a fixed seed, for everybody else",
    },
    Exception {
        file: "crates/server/src/main.rs",
        rule: "clock",
        why: "the ready line names the milliseconds since the process started",
    },
    Exception {
        file: "crates/server/src/threads.rs",
        rule: "threads",
        why: "starts and pins one thread a shard",
    },
    Exception {
        file: "crates/server/src/admin.rs",
        rule: "threads",
        why: "the admin port has a thread of its own, beside the shards",
    },
    Exception {
        file: "crates/server/src/admin.rs",
        rule: "network",
        why: "HTTP for people and monitors, on a library, on that thread",
    },
    Exception {
        file: "crates/server/src/admin.rs",
        rule: "sharing",
        why: "makes one page at a time; only tasks of that thread wait for it",
    },
    Exception {
        file: "crates/server/src/admin/process.rs",
        rule: "files",
        why: "reads what the kernel says of this process, which is no file of a disk",
    },
    Exception {
        file: "crates/server/src/cpu_time.rs",
        rule: "files",
        why: "reads what the kernel says of this process, which is no file of a disk",
    },
    Exception {
        file: "crates/server/src/admin/process.rs",
        rule: "clock",
        why: "the admin thread has no shard's clock",
    },
    Exception {
        file: "crates/server/src/perf/threads.rs",
        rule: "threads",
        why: "starts the threads of a load, which is another program than a broker",
    },
    Exception {
        file: "crates/server/src/perf/threads.rs",
        rule: "sharing",
        why: "adds up what the threads of a load count",
    },
    Exception {
        file: "crates/server/src/perf/threads.rs",
        rule: "clock",
        why: "ends a load from a thread that has no runtime",
    },
    Exception {
        file: "crates/server/src/perf/worker.rs",
        rule: "sharing",
        why: "tells the adding thread what was counted",
    },
    Exception {
        file: "crates/server/src/perf/files.rs",
        rule: "files",
        why: "reads workloads and writes results while nothing is measured",
    },
    Exception {
        file: "crates/sim/src/jobs.rs",
        rule: "threads",
        why: "runs several seeds at once, each on one thread from its start to its end",
    },
    Exception {
        file: "crates/sim/src/jobs.rs",
        rule: "sharing",
        why: "hands the results of whole seeds to the thread that prints them",
    },
    Exception {
        file: "crates/server/src/log/in_use.rs",
        rule: "files",
        why: "reads the kernel's list of locks, which is no file of a disk",
    },
    Exception {
        file: "crates/server/src/doctor/kernel.rs",
        rule: "files",
        why: "reads what the kernel says of this process, which is no file of a disk",
    },
    Exception {
        file: "crates/server/src/doctor/ports.rs",
        rule: "network",
        why: "tries for a moment whether a port can be had, and serves nobody",
    },
    Exception {
        file: "crates/server/src/settings.rs",
        rule: "files",
        why: "reads server.properties before any driver exists",
    },
    Exception {
        file: "crates/server/src/manual.rs",
        rule: "files",
        why: "writes manual pages, without a driver",
    },
    Exception {
        file: "crates/server/src/settings.rs",
        rule: "network",
        why: "resolves the host of --listen before any driver exists",
    },
];

/// What one source file showed.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) findings: Vec<Finding>,
    pub(super) holds_unsafe: bool,
}

/// The paths of an allow-list: one a line, `#` begins a comment.
pub(super) fn parse_unsafe_list(list: &str) -> BTreeSet<String> {
    let bare = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    list.lines().map(bare).filter(|line| !line.is_empty()).collect()
}

/// Judges the Rust source `content` of `file`.
pub(super) fn check(file: &str, content: &str, unsafe_files: &BTreeSet<String>) -> Source {
    let all = match named_paths(content, Tests::Included) {
        Ok(paths) => paths,
        Err(error) => {
            let finding = Finding::new(file, 0, format!("cannot be read as Rust: {error}"));
            return Source { findings: vec![finding], holds_unsafe: false };
        }
    };
    let first_unsafe = all.iter().find(|path| path.segments == ["unsafe"]);
    let mut source = Source { findings: Vec::new(), holds_unsafe: first_unsafe.is_some() };
    if let Some(path) = first_unsafe {
        if !unsafe_files.contains(file) {
            let message = format!("`unsafe` outside the files that {} lists", super::UNSAFE_LIST);
            source.findings.push(Finding::new(file, path.line, message));
        } else if !file.starts_with("crates/runtime/") {
            let message = "`unsafe` may stand in crates/runtime only";
            source.findings.push(Finding::new(file, path.line, message));
        }
    }
    if is_judged(file) {
        let paths = named_paths(content, Tests::Skipped).unwrap_or_default();
        source.findings.extend(paths.iter().filter_map(|path| judge(file, path)));
    }
    source
}

/// Code of the product outside the runtime, tests left out.
fn is_judged(file: &str) -> bool {
    let Some(inside) = file.strip_prefix("crates/") else { return false };
    let is_test = inside.contains("/tests/")
        || inside.contains("/benches/")
        || inside.ends_with("/tests.rs")
        || inside.ends_with("_tests.rs");
    !inside.starts_with("runtime/") && !is_test
}

fn judge(file: &str, path: &NamedPath) -> Option<Finding> {
    let ban = BANS.iter().find(|ban| ban.paths.iter().any(|banned| names(path, banned)))?;
    let harmless = HARMLESS.iter().any(|allowed| names(path, allowed));
    let excepted = EXCEPTIONS.iter().any(|known| known.file == file && known.rule == ban.rule);
    if harmless || excepted {
        return None;
    }
    let named = path.segments.join("::");
    Some(Finding::new(file, path.line, format!("`{named}` ({}): {}", ban.rule, ban.instead)))
}

/// Whether `path` names `banned`, that is, holds its names in a row.
fn names(path: &NamedPath, banned: &str) -> bool {
    let from_first = banned.starts_with('=');
    let banned: Vec<&str> =
        banned.trim_start_matches('=').trim_end_matches("::*").split("::").collect();
    let mut windows = path.segments.windows(banned.len());
    let same = |window: &[String]| window.iter().zip(&banned).all(|(a, b)| a == b);
    if from_first {
        path.segments.len() > 1 && windows.next().is_some_and(same)
    } else {
        windows.any(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, source: &str) -> Vec<String> {
        let listed = parse_unsafe_list("crates/runtime/src/ring.rs # the ring\n\n");
        let found = check(file, source, &listed).findings;
        found.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn banned_calls_are_found_above_the_runtime() {
        let bad = [
            "let t = std::time::Instant::now();",
            "use std::time::Instant; fn f() { Instant::now(); }",
            "let t = SystemTime::now();",
            "use std::{fs, io};",
            "use std::fs::File;",
            "fn f(s: std::net::TcpStream) {}",
            "use std::net::{SocketAddr, TcpListener};",
            "use std::net;",
            "std::thread::sleep(d);",
            "thread_local!(static A: u8 = 1);",
            "use std::collections::{BTreeMap, HashMap};",
            "use std::collections::HashSet as Set;",
            "type S = Arc<std::sync::Mutex<u8>>;",
            "let a = Arc::new(Mutex::new(1));",
            "let x = rand::random();",
            "use std::hash::RandomState;",
            "use hashbrown::HashMap;",
        ];
        for source in bad {
            assert_eq!(findings("crates/storage/src/log.rs", source).len(), 1, "{source}");
            assert!(findings("crates/runtime/src/clock.rs", source).is_empty(), "{source}");
            assert!(findings("tools/xtask/src/main.rs", source).is_empty(), "{source}");
            let test = format!("#[cfg(test)] mod tests {{ fn g() {{ {source} }} }}");
            assert!(findings("crates/storage/src/log.rs", &test).is_empty(), "{source}");
        }
    }

    #[test]
    fn harmless_names_are_let_through() {
        let good = [
            "use std::net::{SocketAddr, IpAddr};",
            "use std::time::{Duration, Instant};",
            "use std::collections::{BTreeMap, VecDeque};",
            "use model::collections::HashMap;",
            "std::thread::current().name();",
            "let t = handle.now();",
            "/// Reads as `std::fs::read` does.\nfn f() { \"std::fs\"; }",
            "use std::sync::Arc;",
            "fn rand(rand: u8) -> u8 { rand }",
        ];
        for source in good {
            assert!(findings("crates/storage/src/log.rs", source).is_empty(), "{source}");
        }
    }

    #[test]
    fn an_exception_lifts_one_rule_in_one_file() {
        let spawn = "std::thread::spawn(f);";
        assert!(findings("crates/server/src/threads.rs", spawn).is_empty());
        assert_eq!(findings("crates/server/src/other.rs", spawn).len(), 1);
        assert_eq!(findings("crates/server/src/threads.rs", "use std::fs;").len(), 1);
    }

    #[test]
    fn unsafe_stands_in_listed_files_of_the_runtime_only() {
        let source = "fn f() { unsafe { g() } }";
        assert!(findings("crates/runtime/src/ring.rs", source).is_empty());
        for file in ["crates/runtime/src/other.rs", "crates/wire/src/lib.rs", "tools/rig/src/a.rs"]
        {
            assert_eq!(findings(file, source).len(), 1, "{file}");
        }
        let in_test = "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }";
        assert_eq!(findings("crates/wire/src/lib.rs", in_test).len(), 1);
        assert!(findings("crates/wire/src/lib.rs", "// unsafe\nfn f() { \"unsafe\"; }").is_empty());
    }

    #[test]
    fn a_listed_file_outside_the_runtime_stays_a_finding() {
        let listed = parse_unsafe_list("crates/wire/src/lib.rs");
        assert_eq!(check("crates/wire/src/lib.rs", "unsafe {}", &listed).findings.len(), 1);
    }
}
