//! A broker as a process: started, asked where it listens, killed, its words kept.
//!
//! Dropping it kills it: a rig that fails leaves nothing behind.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::interrupt;

/// A broker that is not ready by then is not going to be.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Of a broker's words the last so many lines are kept.
const LINES_KEPT: usize = 4000;

/// Which broker, and how it is started.
#[derive(Debug, Clone)]
pub struct Launch {
    pub binary: PathBuf,
    pub driver: String,
    pub shards: u32,
    /// `name=value`.
    pub settings: Vec<String>,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

#[derive(Debug)]
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub ready_after: Duration,
    lines: Lines,
}

impl Broker {
    /// Starts a broker on `data` and waits for its ready line.
    pub fn start(launch: &Launch, data: &Path) -> Result<Self, String> {
        let started = Instant::now();
        let mut child = Command::new(&launch.binary)
            .args(["start", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(["--shards", &launch.shards.to_string(), "--driver", &launch.driver])
            .args(["--set", "admin.listen=none"])
            .args(launch.settings.iter().flat_map(|setting| ["--set", setting]))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", launch.binary.display()))?;
        let lines = Lines::default();
        let (sender, ready) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        keep_lines(stderr, Arc::clone(&lines), |_| {});
        keep_lines(stdout, Arc::clone(&lines), move |line| {
            if line.starts_with("ready") {
                // Nobody waits for a second ready line.
                drop(sender.send(line.to_owned()));
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut broker = Self { child, address: nowhere, ready_after: Duration::ZERO, lines };
        let line = broker.wait_for_ready(&ready)?;
        broker.ready_after = started.elapsed();
        broker.address = listening_at(&line).ok_or_else(|| format!("no address in: {line}"))?;
        Ok(broker)
    }

    fn wait_for_ready(&mut self, ready: &mpsc::Receiver<String>) -> Result<String, String> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            match ready.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => return Ok(line),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < until => {
                    interrupt::check()?;
                }
                Err(_) => {
                    let status = self.child.try_wait().ok().flatten();
                    let state =
                        status.map_or_else(|| "still runs".to_owned(), |status| status.to_string());
                    return Err(format!("broker not ready ({state}):\n{}", self.last_words(15)));
                }
            }
        }
    }

    /// SIGKILL: no handler, no flush, no goodbye. Returns when the process is gone.
    pub fn kill(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
            let words = self.last_words(15);
            return Err(format!("the broker ended by itself ({status}):\n{words}"));
        }
        self.child.kill().map_err(|error| format!("kill: {error}"))?;
        let status = self.child.wait().map_err(|error| format!("wait: {error}"))?;
        if status.signal() == Some(Signal::SIGKILL as i32) {
            return Ok(());
        }
        Err(format!("the broker ended by itself ({status}):\n{}", self.last_words(15)))
    }

    /// SIGKILL for a broker whose disk is gone: it may have given up by itself.
    pub fn kill_if_alive(mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("kill: {error}"))?;
        self.child.wait().map(drop).map_err(|error| format!("wait: {error}"))
    }

    /// SIGSTOP: it stands still until it is told to go on, and does not know.
    pub fn pause(&self) -> Result<(), String> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn go_on(&self) -> Result<(), String> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).map_err(|error| error.to_string())?;
        kill(Pid::from_raw(pid), signal).map_err(|error| format!("{signal}: {error}"))
    }

    /// SIGTERM, and a clean end within its time.
    pub fn stop(mut self) -> Result<(), String> {
        self.signal(Signal::SIGTERM)?;
        let until = Instant::now() + STOPPED_WITHIN;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                let clean = status.success() || status.code() == Some(143);
                let words = self.last_words(15);
                return if clean { Ok(()) } else { Err(format!("stop: {status}:\n{words}")) };
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the broker does not stop:\n{}", self.last_words(15)))
    }

    /// How many logs were cut, and by how many bytes, as the broker's own words say.
    pub fn tails_cut(&self) -> (u64, u64) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(|line| cut_bytes(line)).fold((0, 0), |(cuts, bytes), cut| {
            if cut == 0 { (cuts, bytes) } else { (cuts + 1, bytes + cut) }
        })
    }

    /// How many of its last lines say this.
    pub fn said(&self, words: &str) -> u64 {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(words)).count() as u64
    }

    pub fn last_words(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = lines.len().saturating_sub(count);
        lines.iter().skip(skipped).map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only for a process that is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn keep_lines(
    from: impl Read + Send + 'static,
    lines: Lines,
    mut look_at: impl FnMut(&str) + Send + 'static,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            look_at(&line);
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_KEPT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// `ready listen=127.0.0.1:4711 ...`
fn listening_at(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.strip_prefix("listen="))?.parse().ok()
}

/// `... recovery: cut 123 bytes ...`, or the same as a field: `cut_bytes=123`.
fn cut_bytes(line: &str) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let spoken = words.windows(3).find_map(|window| {
        let [verb, count, unit] = window else { return None };
        (*verb == "cut" && unit.starts_with("bytes")).then(|| count.parse().ok())?
    });
    spoken.or_else(|| words.iter().find_map(|word| word.strip_prefix("cut_bytes=")?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_words_are_understood() {
        let cut = [
            ("INFO storage: recovery: cut 123 bytes topic=a", Some(123)),
            ("WARN recovery: cut 0 bytes, clean", Some(0)),
            ("INFO recovered log end_offset=4 cut_bytes=77", Some(77)),
            ("INFO recovery: kept 123 bytes", None),
            ("INFO cut short", None),
        ];
        for (line, expected) in cut {
            assert_eq!(cut_bytes(line), expected, "{line}");
        }
        let line = "ready listen=127.0.0.1:4711 driver=uring shards=2";
        assert_eq!(listening_at(line), Some(SocketAddr::from(([127, 0, 0, 1], 4711))));
        assert_eq!(listening_at("ready driver=uring"), None);
    }
}
