//! The same appends on three runtimes: Odradek's own, glommio and tokio-uring. One thread each.
//!
//!   bench-runtimes --runtime odradek|glommio|tokio-uring --file F --bytes N
//!
//! A round is what a group commit is: four writes of 128 KiB at a time, `O_DIRECT`, one behind the
//! other into space that was written and synced before, each from a buffer that was filled just
//! then, and one fdatasync when all four are done. F is made anew and removed. Prints one line of
//! JSON: MB/s, CPU-seconds per GB of this process with the kernel's workers for it, and what a
//! round takes.

mod on_glommio;
mod on_odradek;
mod on_tokio_uring;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Of one write.
const WRITE_BYTES: usize = 128 << 10;
/// Writes of a round.
const WRITES: u64 = 4;
const ROUND_BYTES: u64 = WRITES * WRITE_BYTES as u64;
/// What direct writes are aligned to.
const BLOCK_BYTES: usize = 4096;
const MILLION: f64 = 1e6;
/// As Linux shows times on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-runtimes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let given: BTreeMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let of = |name: &str| {
        given.get(name).copied().ok_or_else(|| io::Error::other(format!("{name} is missing")))
    };
    let (runtime, path) = (of("--runtime")?, Path::new(of("--file")?));
    let bytes: u64 = of("--bytes")?.parse().map_err(io::Error::other)?;
    let rounds = (bytes / ROUND_BYTES).max(1);
    write_before(path, rounds * ROUND_BYTES)?;
    let result = measure(runtime, path, rounds);
    fs::remove_file(path)?;
    result
}

fn measure(runtime: &str, path: &Path, rounds: u64) -> io::Result<()> {
    let (before, began) = (cpu_seconds()?, Instant::now());
    let mut times = match runtime {
        "odradek" => on_odradek::append(path, rounds)?,
        "glommio" => on_glommio::append(path, rounds)?,
        "tokio-uring" => on_tokio_uring::append(path, rounds)?,
        other => return Err(io::Error::other(format!("no runtime {other}"))),
    };
    let (took, used) = (began.elapsed().as_secs_f64(), cpu_seconds()? - before);
    times.sort_unstable();
    let bytes = (rounds * ROUND_BYTES) as f64;
    let at = |hundredth: usize| times[times.len() * hundredth / 100].as_secs_f64() * 1000.0;
    println!(
        "{{\"bytes\": {bytes}, \"mb_per_s\": {:.1}, \"cpu_s_per_gb\": {:.4}, \
         \"fdatasync_p50_ms\": {:.4}, \"fdatasync_p99_ms\": {:.4}}}",
        bytes / took / MILLION,
        used / bytes * 1000.0 * MILLION,
        at(50),
        at(99),
    );
    Ok(())
}

/// Space that was written and synced.
fn write_before(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let zeros = vec![0; WRITE_BYTES];
    for _ in 0..bytes / WRITE_BYTES as u64 {
        file.write_all(&zeros)?;
    }
    file.sync_all()
}

/// What is written: it does not matter what.
fn pattern() -> Vec<u8> {
    (0..WRITE_BYTES).map(|index| (index % 251) as u8).collect()
}

/// Where the writes of a round go.
fn positions(round: u64) -> impl Iterator<Item = u64> {
    (0..WRITES).map(move |index| round * ROUND_BYTES + index * WRITE_BYTES as u64)
}

/// How long each round took, as it ends.
struct Rounds {
    began: Instant,
    times: Vec<Duration>,
}

impl Rounds {
    fn new() -> Rounds {
        Rounds { began: Instant::now(), times: Vec::new() }
    }

    fn end_one(&mut self) {
        self.times.push(self.began.elapsed());
        self.began = Instant::now();
    }
}

fn all_written(written: usize) -> io::Result<()> {
    if written == WRITE_BYTES { Ok(()) } else { Err(io::Error::other("a short write")) }
}

/// User and system time of this process, the kernel's workers for it included, to a hundredth of a
/// second: field 14 and 15 of its `stat`, behind the name in brackets.
fn cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| io::Error::other("no name"))?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks = ticks.sum::<Result<f64, _>>().map_err(io::Error::other)?;
    Ok(ticks / TICKS_PER_SECOND)
}
