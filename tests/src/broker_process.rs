//! The binary `odradek` as a process of its own, as a user starts it.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything that has to happen may take, on a machine with much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in a directory of its own; killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl BrokerProcess {
    /// Starts one with two shards and these settings (`name=value`), and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(driver: &str, settings: &[&str]) -> BrokerProcess {
        let directory = TempDir::new().expect("a directory");
        let log = fs::File::create(directory.path().join("stderr")).expect("a file");
        let mut command = Command::new(binary());
        command.args(["start", "--listen", "127.0.0.1:0", "--shards", "2", "--driver", driver]);
        command.arg("--data-dir").arg(directory.path().join("data")).env_clear();
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child =
            command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut ready).expect("a line");
        let address = ready.split_whitespace().find_map(|word| word.strip_prefix("listen="));
        let address = address.unwrap_or_else(|| panic!("{driver}: not ready: {ready:?}"));
        let address = address.parse().expect("an address");
        BrokerProcess { child, address, directory }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its resident memory, in bytes.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the broker runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).expect("it has memory");
        kib.parse::<u64>().expect("a number") * 1024
    }

    /// How many sockets it has open.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        let all = fs::read_dir(path).expect("the broker runs");
        all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Waits until it has no more than `count` sockets.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn wait_for_sockets(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.socket_count() > count {
            assert!(Instant::now() < deadline, "{} sockets, not {count}", self.socket_count());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes sure that it runs and that nothing in it has panicked.
    ///
    /// # Panics
    /// When not so.
    pub fn check_sound(&mut self) {
        let log = fs::read_to_string(self.directory.path().join("stderr")).expect("its log");
        let ended = self.child.try_wait().expect("a child");
        assert!(ended.is_none() && !log.contains("panicked"), "{ended:?}: {log}");
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default();
            let from = log.len().saturating_sub(4000);
            let shown = log.get(from..).unwrap_or_default();
            #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
            {
                eprintln!("the broker's last words: {shown}");
            }
        }
        // It has ended already if a test failed so; then there is nothing to kill.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The binary: `ODRADEK_BIN`, or what `cargo build` makes.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = env::var_os("ODRADEK_BIN") {
            return PathBuf::from(given);
        }
        let cargo = env::var_os("CARGO").expect("tests are run by cargo, or ODRADEK_BIN is set");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "server"]).current_dir(root);
        assert!(build.status().expect("cargo runs").success(), "the binary cannot be built");
        // This test is in `deps` of the same target directory and profile.
        let test = env::current_exe().expect("a path");
        let directory = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
        directory.join("odradek")
    })
}
