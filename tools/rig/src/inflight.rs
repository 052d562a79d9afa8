//! The rig `inflight`: kills a broker with 32 MiB of writes on their way, starts it again at
//! once and writes over the same stretch.
//!
//! Writes that a dead process handed to the kernel may still land. If the new process does not
//! wait them out, they land over what it wrote since. So the new broker is loaded at once; then
//! it is stopped, started and read from disk, where any stale block shows as a broken batch.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::check::judge;
use crate::cycles::complain;
use crate::history::{History, Shared, State};
use crate::kafka::{Connection, Primed};
use crate::load::Load;
use crate::session::{Plan, prepare, read_back};
use crate::{Options, keep_evidence};
use rig::aims::Aims;
use rig::broker::Broker;
use rig::chance::Chance;
use rig::interrupt;

/// What has to be unanswered when the blow falls; twice as much is sent.
const IN_FLIGHT_BYTES: usize = 32 << 20;
/// Records of this load are some 500 bytes long: a batch stays below the broker's limit of 1 MiB.
const RECORDS_A_BATCH: u32 = 1500;
/// Each has one batch in flight on each partition: enough for all those bytes.
const PRODUCERS: Plan = Plan { plain: 8, idempotent: 0, segment_bytes: 64 << 20 };
/// The broker gets this long to hand the writes to its disk.
const BEFORE_BLOW_US: (u64, u64) = (500, 20_000);
/// How long the new broker is loaded: what lands late lands within it.
const AFTERWARDS: Duration = Duration::from_millis(700);

const IN_FLIGHT: &str = "kills with 32 MiB unanswered";
const WRITTEN_OVER: &str = "records written by the next process";

pub(crate) fn run(options: &Options) -> Result<u64, String> {
    let mut aims = Aims::default();
    let mut chance = Chance::new(options.seed);
    for cycle in 0..options.cycles {
        let work = options.work_folder()?;
        if let Err(reason) = once(options, cycle, &work.path().join("data"), &mut chance, &mut aims)
        {
            return Err(keep_evidence(work, &reason));
        }
    }
    aims.report(&[IN_FLIGHT, WRITTEN_OVER])?;
    Ok(options.cycles)
}

fn once(
    options: &Options,
    cycle: u64,
    data: &Path,
    chance: &mut Chance,
    aims: &mut Aims,
) -> Result<(), String> {
    let broker = Broker::start(&options.launch, data)?;
    let mut history = prepare(broker.address, chance.number(), PRODUCERS)?;
    let (connections, sent_bytes) = fill(broker.address, &mut history)?;
    let delay = chance.between(BEFORE_BLOW_US.0, BEFORE_BLOW_US.1);
    std::thread::sleep(Duration::from_micros(delay));
    broker.kill()?;
    let answered_bytes = collect_answers(connections, &mut history);
    let broker = Broker::start(&options.launch, data)?;
    aims.restarted(broker.ready_after);
    aims.hit(IN_FLIGHT, u64::from(sent_bytes - answered_bytes >= IN_FLIGHT_BYTES));
    // No check before the load: the new process shall write while the old one's writes may land.
    let before = history.acknowledged();
    let shared = Arc::new(Shared::new(history));
    let load = Load::start(broker.address, &shared, chance);
    interrupt::sleep(AFTERWARDS)?;
    complain(cycle, &load.finish())?;
    let history = shared.snapshot();
    aims.hit(WRITTEN_OVER, history.acknowledged() - before);
    broker.stop()?;
    let broker = Broker::start(&options.launch, data)?;
    let logs = read_back(broker.address, &history)?;
    let verdict = judge(&history, &history, &logs);
    complain(cycle, &verdict.broken)
        .map_err(|reason| format!("{reason}\n{}", broker.last_words(30)))?;
    println!(
        "cycle {cycle}: {} MiB unanswered at the kill, {} records afterwards",
        (sent_bytes - answered_bytes) >> 20,
        history.acknowledged() - before
    );
    broker.stop()
}

/// A request that the broker has but for its last bytes, or has not answered yet.
struct Waiting {
    connection: Connection,
    request: Primed,
    lane: usize,
    batch: usize,
    bytes: usize,
}

/// Sends every lane's batch but for its end, then all the ends: so all are complete at once.
fn fill(address: SocketAddr, history: &mut History) -> Result<(Vec<Waiting>, usize), String> {
    let mut all = Vec::new();
    let mut sent_bytes = 0;
    for lane in 0..history.lanes.len() {
        let batch = history.send(lane, RECORDS_A_BATCH);
        let at = history.partitions[history.lanes[lane].partition].clone();
        let body = history.batch_bytes(lane, batch);
        let bytes = body.len();
        let mut connection = Connection::open(address)?;
        let request = connection.prime(&[(at, body)])?;
        all.push(Waiting { connection, request, lane, batch, bytes });
        sent_bytes += bytes;
        if sent_bytes > 2 * IN_FLIGHT_BYTES {
            break;
        }
    }
    for waiting in &mut all {
        waiting.connection.release(&waiting.request)?;
    }
    Ok((all, sent_bytes))
}

/// Answers that the broker gave before it died count; returns how many bytes they speak for.
fn collect_answers(all: Vec<Waiting>, history: &mut History) -> usize {
    let mut answered_bytes = 0;
    for mut waiting in all {
        let Ok(answers) = waiting.connection.produced(waiting.request.correlation) else {
            continue;
        };
        if let [answer] = &answers[..]
            && answer.error_code == 0
        {
            let state = State::At(answer.base_offset);
            history.lanes[waiting.lane].batches[waiting.batch].state = state;
            answered_bytes += waiting.bytes;
        }
    }
    answered_bytes
}
