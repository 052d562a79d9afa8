//! The steps that every rig takes around its fault: topics and producers before it, reading
//! back and sending again after it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::check::{Entry, Found};
use crate::history::{History, Kind, State};
use crate::kafka::{Connection, TopicPartition, batch, is_transient};
use crate::values::identify;
use rig::interrupt;

const TOPICS: usize = 3;
const PARTITIONS_A_TOPIC: i32 = 4;

/// How many producers of each kind a load has, and how large the segments are that they fill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) plain: usize,
    pub(crate) idempotent: usize,
    pub(crate) segment_bytes: u64,
}

/// What most rigs load with: segments so small that a short load rolls many.
pub(crate) const PLAN: Plan = Plan { plain: 2, idempotent: 3, segment_bytes: 256 << 10 };

/// How long a broker that answers may still call itself not ready for a partition.
const AWAKE_WITHIN: Duration = Duration::from_secs(20);

/// DUPLICATE_SEQUENCE_NUMBER: the batch is there, its offset is not remembered.
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;

/// Creates the topics and registers the producers of a new history.
pub(crate) fn prepare(address: SocketAddr, run: u64, plan: Plan) -> Result<History, String> {
    let mut connection = Connection::open(address)?;
    let mut partitions = Vec::new();
    for number in 0..TOPICS {
        let topic = format!("rig-{number}");
        // `segment.bytes` takes nothing below 1 MiB; this is the way around, in Kafka as well.
        let settings = [("internal.segment.bytes", plan.segment_bytes.to_string())];
        let error_code = connection.create_topic(&topic, PARTITIONS_A_TOPIC, &settings)?;
        if error_code != 0 {
            return Err(format!("create topic {topic}: error {error_code}"));
        }
        let wanted = usize::try_from(PARTITIONS_A_TOPIC).expect("a small number");
        patiently(|| Ok((connection.led_partitions(&topic)? == wanted).then_some(())))
            .map_err(|reason| format!("topic {topic}: {reason}"))?;
        let of = |partition| TopicPartition { topic: topic.clone(), partition };
        partitions.extend((0..PARTITIONS_A_TOPIC).map(of));
    }
    let mut kinds = vec![Kind::Plain; plan.plain];
    for _ in 0..plan.idempotent {
        let identity = patiently(|| match connection.init_producer_id()? {
            Ok(identity) => Ok(Some(identity)),
            Err(error_code) if is_transient(error_code) => Ok(None),
            Err(error_code) => Err(format!("init producer id: error {error_code}")),
        });
        let (producer_id, producer_epoch) = identity?;
        kinds.push(Kind::Idempotent { producer_id, producer_epoch });
    }
    Ok(History::new(run, partitions, &kinds))
}

/// Asks again while the answer is "not yet".
pub(crate) fn patiently<T>(
    mut ask: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let until = Instant::now() + AWAKE_WITHIN;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > until {
            return Err("the broker does not wake up".to_owned());
        }
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

/// The whole log of each partition, as a consumer gets it.
pub(crate) fn read_back(address: SocketAddr, history: &History) -> Result<Vec<Vec<Entry>>, String> {
    let mut connection = Connection::open(address)?;
    let read = |at| {
        read_partition(&mut connection, history.run, at)
            .map_err(|reason| format!("reading back {at:?}: {reason}"))
    };
    history.partitions.iter().map(read).collect()
}

fn read_partition(
    connection: &mut Connection,
    run: u64,
    at: &TopicPartition,
) -> Result<Vec<Entry>, String> {
    let end = patiently(|| match connection.end_offset(at)? {
        (0, end) => Ok(Some(end)),
        (error_code, _) if is_transient(error_code) => Ok(None),
        (error_code, _) => Err(format!("list offsets: error {error_code}")),
    })?;
    let mut log = Vec::new();
    let mut offset = 0;
    while offset < end {
        interrupt::check()?;
        let fetched = connection.fetch(&[(at.clone(), offset)], 500)?;
        let [fetched] = &fetched[..] else {
            return Err(format!("{} partitions where one was asked for", fetched.len()));
        };
        if fetched.error_code != 0 {
            return Err(format!("offset {offset} of {end}: error {}", fetched.error_code));
        }
        let batches = batch::parse_all(&fetched.records)?;
        if batches.is_empty() {
            return Err(format!("nothing at offset {offset}, the end is at {end}"));
        }
        for batch in batches {
            for (place, value) in (batch.base_offset..).zip(&batch.values) {
                log.push(Entry { offset: place, id: identify(run, value) });
                offset = place + 1;
            }
        }
    }
    Ok(log)
}

/// What came of sending again.
#[derive(Debug, Default)]
pub(crate) struct SentAgain {
    /// Batches that were there already and were not written twice.
    pub(crate) duplicates_refused: u64,
    /// Batches that were missing and are there now.
    pub(crate) appended: u64,
}

/// Sends the idempotent producers' unanswered batches again, in order, as a client does when its
/// broker comes back. `found` says which of them are in the log.
pub(crate) fn send_again(
    address: SocketAddr,
    history: &mut History,
    found: &Found,
) -> Result<SentAgain, String> {
    let mut connection = Connection::open(address)?;
    let mut outcome = SentAgain::default();
    for lane in 0..history.lanes.len() {
        for batch in 0..history.lanes[lane].batches.len() {
            let is_open = history.lanes[lane].batches[batch].state == State::Unknown;
            if !is_open || history.lanes[lane].kind == Kind::Plain {
                continue;
            }
            let at = history.partitions[history.lanes[lane].partition].clone();
            let body = [(at.clone(), history.batch_bytes(lane, batch))];
            let answer = patiently(|| {
                let correlation = connection.produce(&body)?;
                let answer = connection.produced(correlation)?;
                let [answer] = &answer[..] else { return Err("no single answer".to_owned()) };
                let waits = is_transient(answer.error_code);
                Ok((!waits).then_some((answer.error_code, answer.base_offset)))
            })?;
            let there = found.get(&(lane, batch)).copied();
            let offset = match (answer, there) {
                ((0, offset), Some(there)) if offset == there => {
                    outcome.duplicates_refused += 1;
                    there
                }
                ((DUPLICATE_SEQUENCE_NUMBER, _), Some(there)) => {
                    outcome.duplicates_refused += 1;
                    there
                }
                ((0, offset), None) => {
                    outcome.appended += 1;
                    offset
                }
                (answer, there) => {
                    return Err(format!(
                        "{at:?}: batch {batch} of lane {lane} sent again: (error, offset) \
                         {answer:?}, in the log at {there:?}"
                    ));
                }
            };
            history.lanes[lane].batches[batch].state = State::At(offset);
        }
    }
    Ok(outcome)
}
