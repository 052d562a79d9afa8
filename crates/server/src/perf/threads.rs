//! The threads of a run: producers and consumers are dealt to them in turn, each thread has a
//! runtime of its own, and one more, that of the caller, adds up what they count.

use std::{
    collections::BTreeMap,
    io,
    rc::Rc,
    sync::{
        Arc, Barrier,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use runtime::{DriverPreference, Executor, Runtime, StopSignals, TaskQueue};

use super::{
    consumer::Consumer,
    producer::Producer,
    progress::Progress,
    schedule::Schedule,
    tally::Tally,
    worker::{Run, Told, Worker},
    workload::{Consumption, End},
};
use crate::alone;

/// Free memory that a thread keeps for its next buffers.
const POOL_CACHED_BYTES_MAX: usize = 32 << 20;
/// How long consumers have for the last records after the producers have ended.
const GRACE: Duration = Duration::from_secs(1);
/// How often the end of the run is looked for.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Who does what.
#[derive(Clone, Copy)]
enum Actor {
    /// Number, of all producers.
    Producer { topic: usize, number: u32 },
    /// Number of a subscription's consumers of a topic.
    Consumer { topic: usize, consumption: Consumption, number: u32 },
}

enum Prepared {
    Producer { producer: Box<Producer>, number: u32 },
    Consumer(Consumer),
}

/// What all threads counted together.
pub(super) struct Counted {
    /// By the second of the run, warm-up included.
    pub(super) seconds: BTreeMap<u64, Tally>,
    /// From the start until the last answer.
    pub(super) lasted: Duration,
    /// Of this process, from the end of the warm-up on.
    pub(super) cpu: Duration,
}

/// Does the run on `thread_count` threads.
///
/// # Errors
/// One line, where a thread could not start or its producers and consumers could not.
pub(super) fn execute(
    run: Run,
    thread_count: usize,
    signals: StopSignals,
    progress: &mut Progress,
) -> Result<Counted, String> {
    let actors = actors(&run);
    let thread_count = thread_count.min(actors.len()).max(1);
    let run = Arc::new(run);
    let gate = Arc::new(Barrier::new(thread_count + 1));
    let (sender, told) = mpsc::channel();
    let mut threads = Vec::new();
    for index in 0..thread_count {
        let own: Vec<Actor> = actors.iter().copied().skip(index).step_by(thread_count).collect();
        let (run, gate, told) = (Arc::clone(&run), Arc::clone(&gate), sender.clone());
        let work = move || work(&run, &own, &gate, &told);
        let thread = thread::Builder::new().name(format!("load-{index}")).spawn(work);
        threads.push(thread.map_err(said)?);
    }
    drop(sender);
    let stopped = Arc::clone(&run);
    let wait = move || {
        if signals.wait().is_ok() {
            stopped.over.store(true, Ordering::Relaxed);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(said)?;
    gate.wait();
    let counted = collect(&run, thread_count, &told, progress);
    for thread in threads {
        thread.join().map_err(|_| "a thread of the load panicked".to_owned())??;
    }
    Ok(counted)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn said(error: io::Error) -> String {
    error.to_string()
}

fn actors(run: &Run) -> Vec<Actor> {
    let workload = &run.workload;
    let mut actors = Vec::new();
    for topic in 0..workload.topics.len() {
        let each = workload.production.as_ref().map_or(0, |all| all.producers_per_topic);
        for _ in 0..each {
            let number = u32::try_from(actors.len()).expect("bounded by the flags");
            actors.push(Actor::Producer { topic, number });
        }
    }
    for topic in 0..workload.topics.len() {
        for consumption in &workload.consumption {
            for _ in 0..consumption.subscriptions {
                let consumers = 0..consumption.consumers_per_topic;
                let consumption = *consumption;
                actors.extend(consumers.map(|number| Actor::Consumer {
                    topic,
                    consumption,
                    number,
                }));
            }
        }
    }
    actors
}

fn work(
    run: &Arc<Run>,
    actors: &[Actor],
    gate: &Barrier,
    told: &mpsc::Sender<Told>,
) -> Result<(), String> {
    let prepared = executor_of_load().and_then(|mut executor| {
        let actors = prepare(executor.runtime(), Arc::clone(run), actors.to_vec());
        executor.block_on(actors).map(|actors| (executor, actors))
    });
    if prepared.is_err() {
        run.over.store(true, Ordering::Relaxed);
    }
    // Whoever failed comes here, too: the others wait.
    gate.wait();
    let (mut executor, actors) = prepared?;
    let runtime = executor.runtime();
    let (run, told) = (Arc::clone(run), told.clone());
    executor.block_on(async move {
        let start = runtime.now();
        let worker = Worker::new(runtime, run, start);
        for actor in actors {
            begin(&worker, actor);
        }
        worker.report(&told).await;
    });
    Ok(())
}

fn executor_of_load() -> Result<Executor, String> {
    alone::executor(DriverPreference::Auto, POOL_CACHED_BYTES_MAX).map_err(said)
}

/// A number that no other run has.
pub(super) fn random() -> u64 {
    executor_of_load().map_or(0, |executor| executor.runtime().random())
}

async fn prepare(
    runtime: Runtime,
    run: Arc<Run>,
    actors: Vec<Actor>,
) -> Result<Vec<Prepared>, String> {
    let workload = &run.workload;
    let mut prepared = Vec::new();
    for actor in actors {
        let cluster = alone::cluster(&runtime, run.bootstrap);
        let actor = match actor {
            Actor::Producer { topic, number } => {
                let production = workload.production.as_ref().expect("it has producers");
                let count = run.workload.producer_count();
                let limit = match workload.end {
                    End::Produced(all) => Some(share(all, number, count)),
                    End::After(_) | End::Consumed => None,
                };
                let topic = workload.topics[topic].clone();
                let producer = Producer::prepare(cluster, topic, production, limit);
                Box::pin(producer)
                    .await
                    .map(|producer| Prepared::Producer { producer: Box::new(producer), number })
            }
            Actor::Consumer { topic, consumption, number } => {
                let part = (number, consumption.consumers_per_topic);
                let until_end = workload.end == End::Consumed;
                let topic = workload.topics[topic].clone();
                let consumer = Consumer::prepare(cluster, topic, consumption, part, until_end);
                Box::pin(consumer).await.map(Prepared::Consumer)
            }
        };
        prepared.push(actor.map_err(|error| format!("{}: {error}", run.bootstrap))?);
    }
    Ok(prepared)
}

/// What falls to one of `count`.
fn share(all: u64, number: u32, count: u32) -> u64 {
    let (number, count) = (u64::from(number), u64::from(count));
    all / count + u64::from(number < all % count)
}

fn begin(worker: &Rc<Worker>, actor: Prepared) {
    worker.begin();
    let own = Rc::clone(worker);
    let act = async move {
        match actor {
            Prepared::Producer { producer, number } => {
                let run = Arc::clone(&own.run);
                let production = run.workload.production.as_ref().expect("it has producers");
                let count = run.workload.producer_count();
                let schedule =
                    production.rate.map(|rate| Schedule::new(own.start, rate, number, count));
                let first = i32::try_from(number).unwrap_or(0);
                producer.run(Rc::clone(&own), schedule, first).await;
                let was_last = run.producers_left.fetch_sub(1, Ordering::Relaxed) == 1;
                if was_last && matches!(run.workload.end, End::Produced(_)) {
                    if !run.workload.consumption.is_empty() {
                        own.runtime.sleep(GRACE).await;
                    }
                    run.over.store(true, Ordering::Relaxed);
                }
            }
            Prepared::Consumer(consumer) => consumer.run(Rc::clone(&own)).await,
        }
        own.end();
    };
    worker.runtime.spawn("perf", TaskQueue::Foreground, act);
}

/// Adds up what the threads tell, until the last has ended.
fn collect(
    run: &Run,
    thread_count: usize,
    told: &mpsc::Receiver<Told>,
    progress: &mut Progress,
) -> Counted {
    let start = now();
    let warm_up = run.workload.warm_up;
    let mut counted =
        Counted { seconds: BTreeMap::new(), lasted: Duration::ZERO, cpu: Duration::ZERO };
    let mut reports: BTreeMap<u64, usize> = BTreeMap::new();
    let mut cpu_before = (warm_up.is_zero()).then(cpu_now);
    loop {
        let elapsed = start.elapsed();
        if cpu_before.is_none() && elapsed >= warm_up {
            cpu_before = Some(cpu_now());
        }
        if let End::After(duration) = run.workload.end
            && elapsed >= warm_up + duration
        {
            run.over.store(true, Ordering::Relaxed);
        }
        match told.recv_timeout(LOOK_PERIOD) {
            Ok(Told::Counted { second, tally }) => {
                let so_far = counted.seconds.entry(second).or_default();
                so_far.merge(*tally);
                let reported = reports.entry(second).or_default();
                *reported += 1;
                if *reported == thread_count {
                    progress.second(second, so_far);
                }
            }
            Ok(Told::Ended { at }) => counted.lasted = counted.lasted.max(at),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    counted.cpu = cpu_now().saturating_sub(cpu_before.unwrap_or_default());
    counted
}

/// What this process has taken so far.
fn cpu_now() -> Duration {
    crate::cpu_time::of_process().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "this thread has no runtime")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shared_without_a_rest() {
        for (all, count) in [(10, 3), (0, 2), (7, 7), (1_000_003, 64)] {
            let shares: u64 = (0..count).map(|number| share(all, number, count)).sum();
            assert_eq!(shares, all);
        }
    }
}
