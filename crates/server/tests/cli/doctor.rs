//! `odradek doctor` in environments that are in a broker's way: it names what is, and what to do.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{BINARY, Broker, odradek, start_in};

/// Prepares its own process (namespaces, filters, limits and capabilities end with it) and becomes
/// the rest of its arguments. The filter answers EPERM to io_uring_setup, as Docker's profile does;
/// the number is the same on all architectures.
const PREPARE: &str = r#"
import ctypes, os, resource, sys
libc = ctypes.CDLL(None, use_errno=True)

def must(result, what):
    if result < 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")

def seccomp():
    class Filter(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Filter))]
    lines = (Filter * 4)(Filter(0x20, 0, 0, 0), Filter(0x15, 0, 1, 425), Filter(0x06, 0, 0, 0x00050001), Filter(0x06, 0, 0, 0x7FFF0000))
    program = Program(4, lines)
    must(libc.prctl(38, 1, 0, 0, 0), "no new privileges")
    must(libc.prctl(22, 2, ctypes.byref(program), 0, 0), "seccomp")

def memlock():
    libc.prctl(24, 14, 0, 0, 0)  # root's CAP_IPC_LOCK; nobody else has it
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (64 << 10, 64 << 10))

def files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

def disk(where, size):
    user, group = os.getuid(), os.getgid()
    namespaces = 0x00020000 if user == 0 else 0x10020000
    must(libc.unshare(namespaces), "unshare")
    if user != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    must(libc.mount(b"none", b"/", None, 0x44000, None), "private mounts")
    must(libc.mount(b"none", where.encode(), b"tmpfs", 0, f"size={size}".encode()), "tmpfs")
    with open(os.path.join(where, "somebody-elses"), "wb") as file:
        file.write(bytes(31 << 20))

at = sys.argv.index("--")
{"seccomp": seccomp, "memlock": memlock, "files": files, "disk": disk}[sys.argv[1]](*sys.argv[2:at])
os.execve(sys.argv[at + 1], sys.argv[at + 1:], {})
"#;

/// What the doctor finds in an environment that was prepared so: its exit code, and what it says of
/// one check.
fn in_prepared(preparation: &[&str], words: &[&str], check: &str) -> (i32, Value) {
    let mut command = Command::new("python3");
    command.args(["-c", PREPARE]).args(preparation).args(["--", BINARY]).args(words);
    found(command, check)
}

fn found(mut command: Command, check: &str) -> (i32, Value) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let findings: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let is_bad = findings.iter().any(|one| one["status"] == "bad");
    assert_eq!(is_bad, stderr.contains("bad"), "{findings:?}, {stderr}");
    let code = output.status.code().unwrap();
    assert_eq!(code, i32::from(is_bad), "{findings:?}");
    let mut of_check = findings.into_iter().filter(|one| one["check"] == check);
    let finding = of_check.next().unwrap_or_else(|| panic!("nothing of {check}"));
    assert!(of_check.next().is_none(), "{check} twice");
    (code, finding)
}

fn says(finding: &Value, field: &str, text: &str) {
    let said = finding[field].as_str().unwrap_or_default();
    assert!(said.contains(text), "{text:?} in {field} of {finding}");
}

fn words(directory: &Path) -> Vec<&str> {
    let directory = directory.to_str().unwrap();
    let fixed = ["doctor", "--format", "json", "--listen", "127.0.0.1:0", "--shards", "2"];
    [&fixed[..], &["--set", "admin.listen=none", "--data-dir", directory]].concat()
}

#[test]
fn a_machine_that_suits_has_nothing_bad_and_nothing_is_left_behind() {
    let directory = TempDir::new().unwrap();
    let wanted = directory.path().join("data");
    let (code, disk) = found(odradek(&words(&wanted)), "disk");
    assert_eq!(code, 0);
    says(&disk, "found", "to be made in");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let text = odradek(&["doctor", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&wanted).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    for check in ["kernel", "driver", "memlock", "files", "clock", "sync", "space", "port"] {
        let of_check = |line: &&str| line.split_whitespace().nth(1) == Some(check);
        assert_eq!(text.lines().filter(of_check).count(), 1, "{check} in {text}");
    }
}

#[test]
fn a_seccomp_filter_is_named_where_it_refuses_io_uring() {
    let directory = TempDir::new().unwrap();
    let words = words(directory.path());
    let (code, driver) = in_prepared(&["seccomp"], &words, "driver");
    assert_eq!((code, &driver["status"]), (0, &Value::from("warn")));
    says(&driver, "advice", "seccomp");
    says(&driver, "meaning", "epoll");
    let demanding = [&words[..], &["--driver", "uring"]].concat();
    let (code, driver) = in_prepared(&["seccomp"], &demanding, "driver");
    assert_eq!((code, &driver["status"]), (1, &Value::from("bad")));
}

#[test]
fn little_locked_memory_is_told_for_what_it_is() {
    let directory = TempDir::new().unwrap();
    let words = words(directory.path());
    let (_, driver) = in_prepared(&["memlock"], &words, "driver");
    let (code, memlock) = in_prepared(&["memlock"], &words, "memlock");
    assert_eq!(code, 0);
    says(&memlock, "found", "64 KiB");
    if driver["found"] == "io_uring" {
        assert_eq!(memlock["status"], "warn");
        says(&memlock, "meaning", "io_uring works");
        says(&memlock, "advice", "LimitMEMLOCK");
    }
    let without = [&words[..], &["--driver", "sync"]].concat();
    let (_, memlock) = in_prepared(&["memlock"], &without, "memlock");
    says(&memlock, "meaning", "does not matter");
}

#[test]
fn few_file_handles_are_bad() {
    let directory = TempDir::new().unwrap();
    let (code, files) = in_prepared(&["files"], &words(directory.path()), "files");
    assert_eq!((code, &files["status"]), (1, &Value::from("bad")));
    says(&files, "found", "100");
    says(&files, "advice", "LimitNOFILE");
}

#[test]
fn a_port_that_somebody_has_is_bad() {
    let directory = TempDir::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut words = words(directory.path());
    words[4] = &address;
    let (code, port) = found(odradek(&words), "port");
    assert_eq!((code, &port["status"]), (1, &Value::from("bad")));
    says(&port, "found", &address);
    says(&port, "advice", "ss -ltnp");
    // A broker that runs there is told of as such, and so is its directory.
    let broker = Broker::start(start_in(directory.path(), &[]));
    words[4] = broker.says("listen");
    let (_, port) = found(odradek(&words), "port");
    says(&port, "meaning", "a Kafka broker listens there");
    let (_, lock) = found(odradek(&words), "lock");
    assert_eq!(lock["status"], "warn");
}

#[test]
fn a_disk_that_is_nearly_full_is_bad() {
    let directory = TempDir::new().unwrap();
    let disk = ["disk", directory.path().to_str().unwrap(), "32m"];
    let (code, space) = in_prepared(&disk, &words(directory.path()), "space");
    assert_eq!((code, &space["status"]), (1, &Value::from("bad")));
    says(&space, "meaning", "reserve");
    says(&space, "advice", "retention.ms");
    let (_, disk) = in_prepared(&disk, &words(directory.path()), "disk");
    says(&disk, "meaning", "memory");
}

#[test]
fn it_reads_what_start_reads() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.properties");
    let data = directory.path().join("from-file");
    fs::write(&file, format!("log.dirs={}\nnum.network.threads=3\n", data.display())).unwrap();
    let words = ["doctor", "--format", "json", "--listen", "127.0.0.1:0", "--config"];
    let mut command = odradek(&words);
    command.arg(&file).env("KAFKA_ADMIN_LISTEN", "127.0.0.1:x");
    let (code, admin) = found(command, "admin");
    assert_eq!((code, &admin["status"]), (1, &Value::from("bad")));
    let mut command = odradek(&words);
    command.arg(&file);
    let (_, disk) = found(command, "disk");
    says(&disk, "found", "from-file");
    let mut command = odradek(&words);
    command.arg(&file);
    let (_, settings) = found(command, "settings");
    says(&settings, "found", "num.network.threads");
    let refused = odradek(&["doctor", "--set", "num.partitions=0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("num.partitions"));
}
