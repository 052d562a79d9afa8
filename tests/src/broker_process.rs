//! The binary `odradek` as a process of its own, as a user starts it.

use std::{
    env,
    ffi::OsString,
    fs,
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

/// How a broker is started.
#[derive(Clone, Debug, Default)]
pub struct Launch<'a> {
    /// `uring` or `sync`.
    pub driver: &'a str,
    /// `name=value`.
    pub settings: &'a [&'a str],
    /// A command of the shell that limits what it may use: `ulimit -n 256`.
    pub limit: Option<&'a str>,
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is asked to stop, and has to do so cleanly.
    Stop,
    /// SIGKILL.
    Kill,
}

/// A broker in a directory of its own; killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    directory: TempDir,
    program: String,
    arguments: Vec<OsString>,
    /// From the start of the process to its ready line.
    started_in: Duration,
}

impl BrokerProcess {
    /// Starts one with two shards and these settings (`name=value`), and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn start(driver: &str, settings: &[&str]) -> BrokerProcess {
        BrokerProcess::launch(&Launch { driver, settings, limit: None })
    }

    /// Starts one with two shards, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    #[must_use]
    pub fn launch(launch: &Launch<'_>) -> BrokerProcess {
        let directory = TempDir::new().expect("a directory");
        let mut arguments: Vec<OsString> = Vec::new();
        let mut program = binary().to_str().expect("a plain name").to_owned();
        if let Some(limit) = launch.limit {
            // The shell becomes the broker: its id is the broker's.
            arguments.extend(["-c".into(), format!("{limit} && exec \"$0\" \"$@\"").into()]);
            arguments.push(program.into());
            program = "/bin/sh".to_owned();
        }
        let words = ["start", "--listen", "127.0.0.1:0", "--shards", "2", "--driver"];
        arguments.extend(words.map(OsString::from));
        arguments.extend([launch.driver.into(), "--data-dir".into()]);
        arguments.push(directory.path().join("data").into());
        // The usual port is for one broker of a machine. What is set later counts.
        for setting in ["admin.listen=none"].iter().chain(launch.settings) {
            arguments.extend(["--set".into(), setting.into()]);
        }
        let Spawned { child, address, admin, started_in } =
            spawn(&program, &arguments, directory.path());
        BrokerProcess { child, address, admin, directory, program, arguments, started_in }
    }

    /// A setting (`name=value`) from its next start on.
    pub fn set(&mut self, setting: &str) {
        self.arguments.extend(["--set".into(), setting.into()]);
    }

    /// Ends it, and starts it again on the same directory.
    ///
    /// # Panics
    /// When it does not end cleanly where it is asked to, or does not get ready.
    pub fn restart(&mut self, end: End) {
        match end {
            End::Kill => self.child.kill().expect("it runs"),
            End::Stop => {
                let id = self.child.id().to_string();
                let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
                assert!(sent.success(), "the broker runs");
            }
        }
        let ended = self.child.wait().expect("a child");
        assert!(end == End::Kill || ended.success(), "a clean stop: {ended}");
        let spawned = spawn(&self.program, &self.arguments, self.directory.path());
        (self.child, self.started_in) = (spawned.child, spawned.started_in);
        (self.address, self.admin) = (spawned.address, spawned.admin);
    }

    /// From the start of the process to its ready line.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells its metrics, if it was started with `admin.listen`.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its resident memory, in bytes.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.child.id()).expect("the broker runs")
    }

    /// Looks at its resident memory from another thread; 0 when it is gone.
    pub fn resident_bytes_reader(&self) -> impl Fn() -> u64 + Send + 'static {
        let id = self.child.id();
        move || resident_bytes(id).unwrap_or(0)
    }

    /// How many sockets it has open.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        self.handles(|target| target.starts_with("socket:"))
    }

    /// How many files of its data directory it has open.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn file_count(&self) -> usize {
        let data = self.data_dir();
        self.handles(|target| Path::new(target).starts_with(&data))
    }

    fn handles(&self, counts: impl Fn(&str) -> bool) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        let all = fs::read_dir(path).expect("the broker runs");
        all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_str().is_some_and(&counts))
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

fn resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// A process that has said that it is ready, and after what time.
struct Spawned {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    started_in: Duration,
}

/// Starts the process and waits for its ready line.
fn spawn(program: &str, arguments: &[OsString], folder: &Path) -> Spawned {
    let log = fs::File::options().create(true).append(true).open(folder.join("stderr"));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdout(Stdio::piped()).stderr(log.expect("a file"));
    let began = Instant::now();
    let mut child = command.spawn().expect("the binary starts");
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut ready).expect("a line");
    let started_in = began.elapsed();
    let says = |name| ready.split_whitespace().find_map(|word| word.strip_prefix(name));
    let address = says("listen=").unwrap_or_else(|| {
        let log = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        panic!("not ready: {ready:?}: {log}")
    });
    let address = address.parse().expect("an address");
    let admin = says("admin=").and_then(|address| address.parse().ok());
    Spawned { child, address, admin, started_in }
}

/// The binary: `ODRADEK_BIN`, or what `cargo build` makes.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
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
