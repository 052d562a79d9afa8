//! One seed: a broker, its clients, crashes, and a look at what is left.
//!
//! ```text
//!   life 1 | crash | life 2 | crash | ...            | last life
//!   producers with quotas, readers, a group, topics    | quotas reached, readers stop, all is read
//! ```
//! A seed fails when a client saw what no client may see, when the broker did to the disk what no
//! program may do, or when the last life does not get everything done in time.

mod clients;
mod damage;
mod damaged_life;
mod history;
mod losses;
mod node;
mod plan;
mod readers;
mod survey;
mod topics;
mod trouble;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    path::Path,
    rc::Rc,
    time::Duration,
};

use runtime::{Instant, Runtime, TaskQueue};

use self::{
    clients::{Producer, Workload},
    history::History,
    node::BrokerNode,
    plan::{CRASHES_MIN, End, EndPlan, Marks, Plan, When},
    trouble::{Trouble, TroublePlan, Until},
};
pub use self::{damage::Struck, history::Counts};
use crate::{Crash, DiskFaults, Rng, Settings, Simulation, Stop, Tally, Trigger};

/// Virtual time within which a life gets done what it is to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// Virtual time within which something gets done: longer than a session and a request that time
/// out one after the other, and short, as a wedged run has to cost little.
const STANDSTILL_TIME: Duration = Duration::from_secs(20);
/// acks=1 is answered before the records are durable, which is when they are seen: the last look comes
/// so much later.
const SETTLING_TIME: Duration = Duration::from_millis(200);
/// What a seed is worth: calls that the broker answered, at least.
const OPERATIONS_MIN: u64 = 2_000;
/// Batches that have to be acknowledged after a fault has ceased that needs no restart.
const HEALED_BATCHES: u64 = 10;
/// The end of a life that is added because too many brokers ended before their crash.
const ADDED_END_US: u64 = 20_000;
/// How long a crash waits for its moment.
const MOMENT_TIME: Duration = Duration::from_millis(500);
/// How often who waits for a flag looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shards of the broker in every life; `None`: as the seed says.
    pub shards: Option<u16>,
    /// Called with a line for everything that happens.
    pub trace: Option<fn(&str)>,
}

/// How the lives of a seed ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// `kill -9`.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Of both, those before the broker served.
    pub crashes_in_recovery: u64,
    /// Clean stops.
    pub clean_stops: u64,
    /// Brokers that ended by themselves because their disk failed.
    pub given_up: u64,
    /// Brokers that did not start on damaged metadata, which ends the run.
    pub refused_starts: u64,
}

/// What became of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is wrong; empty if it passed.
    pub complaints: Vec<String>,
    /// What the clients did.
    pub counts: Counts,
    /// What the disks did.
    pub tally: Tally,
    /// What the disks did to what was durable.
    pub struck: Struck,
    /// How the lives ended.
    pub ends: Ends,
    /// Connections that the network broke.
    pub connections_broken: u64,
    /// The fingerprint of the run.
    pub trace_hash: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    Scenario::new(seed, options).run()
}

struct Scenario {
    rng: Rng,
    plan: Plan,
    simulation: Simulation,
    broker: BrokerNode,
    history: Rc<RefCell<History>>,
    stop: Rc<Cell<bool>>,
    check: Rc<Cell<bool>>,
    busy: Rc<Cell<u64>>,
    ends: Ends,
    /// Decides what came later than the rest of a seed.
    extras: Rng,
    struck: Struck,
    /// It ended before its time, and that is no fault.
    is_over: bool,
}

impl Scenario {
    fn new(seed: u64, options: Options) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5ce_a210);
        let mut extras = Rng::new(seed ^ 0x0dd5_eed5);
        let plan = Plan::by_seed(&mut rng, &mut extras, options.shards);
        let mut simulation = Simulation::new(seed, Settings::by_seed(seed));
        if let Some(print) = options.trace {
            simulation.trace_to(print);
        }
        let marks = plan.damage.map(|_| Marks::Moving);
        let broker = BrokerNode::new(&mut simulation, &mut rng, marks);
        if plan.damage.is_some() {
            simulation.with_disk(broker.node(), crate::disk::Disk::remember_writes);
        }
        Scenario {
            rng,
            plan,
            simulation,
            broker,
            history: Rc::default(),
            stop: Rc::default(),
            check: Rc::default(),
            busy: Rc::default(),
            ends: Ends::default(),
            extras,
            struck: Struck::default(),
            is_over: false,
        }
    }

    fn run(mut self) -> Outcome {
        self.start_clients();
        let mut shard_count = self.plan.shard_count;
        let mut ends: VecDeque<EndPlan> = self.plan.ends.iter().copied().collect();
        let mut lives = 0;
        while let Some(end) = ends.pop_front() {
            self.broker.start(&mut self.simulation, shard_count);
            if !self.live_until(&end) || !self.wait(Duration::from_micros(end.dark_us)) {
                return self.outcome();
            }
            shard_count = end.shard_count_after;
            let damage = self.plan.damage.filter(|damage| damage.after_life == lives);
            lives += 1;
            if damage.is_some_and(|damage| !self.live_damaged(&damage, shard_count)) {
                return self.outcome();
            }
            if ends.is_empty() && self.crashes() < CRASHES_MIN {
                let when = When::AfterStart { us: ADDED_END_US };
                let crash = End::Crash(Crash::Kill);
                ends.push_back(EndPlan { when, end: crash, trouble: None, ..end });
            }
        }
        self.broker.start(&mut self.simulation, shard_count);
        self.finish();
        self.check_worth();
        self.outcome()
    }

    fn crashes(&self) -> u64 {
        self.ends.kills + self.ends.power_cuts
    }

    /// A run that did little, or crashed seldom, shows little.
    fn check_worth(&mut self) {
        let (operations, crashes) = (self.history.borrow().counts.operations, self.crashes());
        if !self.has_failed() && (operations < OPERATIONS_MIN || crashes < CRASHES_MIN) {
            self.complain(format!("only {operations} operations, {crashes} crashes"));
        }
    }

    fn start_clients(&mut self) {
        let node = self.simulation.add_node(Path::new("/tmp"));
        let quotas = self.plan.producers.len() + 1;
        self.busy.set(u64::try_from(quotas).expect("few clients"));
        let (address, plan, rng) = (self.broker.address(), self.plan.clone(), self.rng.fork());
        let (history, stop) = (Rc::clone(&self.history), Rc::clone(&self.stop));
        let (check, busy) = (Rc::clone(&self.check), Rc::clone(&self.busy));
        let marks = self.broker.marks();
        self.simulation.start(node, 1, move |runtime: &Runtime| {
            let workload = Workload {
                runtime: runtime.clone(),
                address,
                history: Rc::clone(&history),
                stop: Rc::clone(&stop),
                busy: Rc::clone(&busy),
                marks,
                last_progress: Rc::new(Cell::new((0, runtime.now()))),
            };
            let clients = run_clients(workload, plan.clone(), rng.clone(), Rc::clone(&check));
            runtime.spawn("clients", TaskQueue::Foreground, clients);
        });
    }

    /// Lets the broker live until its planned end. False if it came to another.
    fn live_until(&mut self, end: &EndPlan) -> bool {
        let lived = match end.when {
            When::AfterStart { us } => self.wait(Duration::from_micros(us)),
            When::AtMoment { acked_batches, moment, countdown, delay_ns } => {
                if !self.wait_for_batches(acked_batches, "too few batches")
                    || !self.make_trouble(end.trouble)
                {
                    return false;
                }
                let node = self.broker.node();
                self.simulation.arm(Trigger { node, moment, countdown, delay_ns });
                self.wait(MOMENT_TIME)
            }
        };
        self.end_trouble();
        if lived && !self.simulation.is_running(self.broker.node()) {
            let gave_up = self.broker.has_given_up();
            self.ends.given_up += u64::from(gave_up);
            if !gave_up {
                self.complain("the broker ended by itself".to_owned());
            }
            return gave_up;
        }
        match end.end {
            _ if !lived => false,
            End::Crash(crash) => {
                self.crash(crash);
                true
            }
            End::CleanStop => self.stop_cleanly(),
        }
    }

    fn wait_for_batches(&mut self, acked_batches: u64, complaint: &str) -> bool {
        let history = Rc::clone(&self.history);
        let is_reached = move || history.borrow().counts.acked_batches >= acked_batches;
        self.wait_for(is_reached, complaint)
    }

    /// Lets the disk fail, and lets what heals by itself heal if the plan says so. False if
    /// something went wrong meanwhile.
    fn make_trouble(&mut self, plan: Option<TroublePlan>) -> bool {
        let Some(plan) = plan else { return true };
        let node = self.broker.node();
        self.simulation.set_faults(node, plan.faults());
        if plan.trouble == Trouble::NoSpace {
            self.simulation.set_free_space(node, Some(plan.free_bytes));
        }
        // One that cannot read or write what it needs to start does not start.
        self.broker.set_may_give_up(!plan.trouble.heals() || !self.broker.is_ready());
        if !self.wait(Duration::from_micros(plan.window_us)) {
            return false;
        }
        if plan.until == Until::TheEnd || !self.simulation.is_running(node) {
            return true;
        }
        self.end_trouble();
        let acked_batches = self.history.borrow().counts.acked_batches + HEALED_BATCHES;
        let (broker, history) = (self.broker.clone(), Rc::clone(&self.history));
        let busy = Rc::clone(&self.busy);
        let is_healed = move || {
            let acked_now = history.borrow().counts.acked_batches;
            broker.has_given_up() || acked_now >= acked_batches || busy.get() == 0
        };
        !plan.trouble.heals() || self.wait_for(is_healed, "not healed")
    }

    fn end_trouble(&mut self) {
        self.simulation.set_faults(self.broker.node(), DiskFaults::default());
        self.simulation.set_free_space(self.broker.node(), None);
    }

    fn crash(&mut self, crash: Crash) {
        self.ends.crashes_in_recovery += u64::from(!self.broker.is_ready());
        match crash {
            Crash::Kill => self.ends.kills += 1,
            Crash::PowerCut => self.ends.power_cuts += 1,
        }
        self.simulation.crash(self.broker.node(), crash);
    }

    fn stop_cleanly(&mut self) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        let broker = self.broker.node();
        while !self.broker.is_ready() && self.simulation.now() < deadline {
            if !self.wait(LOOK_INTERVAL) {
                return false;
            }
        }
        self.broker.stop(&mut self.simulation);
        while self.simulation.is_running(broker) {
            if self.simulation.now() >= deadline {
                self.complain("no clean stop in time".to_owned());
                return false;
            }
            if !self.wait(LOOK_INTERVAL) {
                return false;
            }
        }
        self.ends.clean_stops += 1;
        self.history.borrow_mut().counts.clean_stops += 1;
        true
    }

    /// The last life: everything is done in time, and then everything is looked at.
    fn finish(&mut self) {
        if !self.wait_for_clients("the clients are not done") {
            return;
        }
        self.stop.set(true);
        if !self.wait(SETTLING_TIME) {
            return;
        }
        self.busy.set(1);
        self.check.set(true);
        self.wait_for_clients("the last look is not done");
    }

    fn wait_for_clients(&mut self, complaint: &str) -> bool {
        let busy = Rc::clone(&self.busy);
        self.wait_for(move || busy.get() == 0, complaint)
    }

    /// Lets time pass until `condition` holds. False, with a complaint, if it does not within the
    /// time it may take, if nothing gets done any more, or if something else is wrong.
    fn wait_for(&mut self, condition: impl Fn() -> bool, complaint: &str) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        loop {
            let progress = self.history.borrow().counts.progress();
            let slice_end = deadline.min(self.simulation.now() + STANDSTILL_TIME);
            let stop = self.run_until(slice_end, &condition);
            if stop == Stop::Condition {
                return !self.has_failed();
            }
            let goes_on = self.history.borrow().counts.progress() > progress;
            if stop != Stop::Time || !goes_on || self.simulation.now() >= deadline {
                let why = if goes_on { "too slow" } else { "nothing gets done" };
                self.complain(format!("{complaint}: {why}, {stop:?}"));
                return false;
            }
        }
    }

    /// False if something went wrong meanwhile.
    fn wait(&mut self, duration: Duration) -> bool {
        let deadline = self.simulation.now() + duration;
        self.run_until(deadline, || false);
        !self.has_failed()
    }

    /// Lets time pass until `condition` holds or something is wrong: the first complaint ends the
    /// run, as what comes after it says little and may cost much.
    fn run_until(&mut self, deadline: Instant, condition: impl Fn() -> bool) -> Stop {
        let (history, broker) = (Rc::clone(&self.history), self.broker.clone());
        let failed = move || history.borrow().has_complaints() || broker.has_ended();
        self.simulation.run_until(deadline, || condition() || failed())
    }

    fn has_failed(&self) -> bool {
        self.history.borrow().has_complaints() || self.broker.has_ended()
    }

    fn complain(&mut self, complaint: String) {
        self.history.borrow_mut().complain(complaint);
    }

    fn outcome(mut self) -> Outcome {
        let mut complaints = std::mem::take(&mut self.history.borrow_mut().complaints);
        complaints.extend(self.broker.errors());
        complaints.extend(self.simulation.violations());
        Outcome {
            complaints,
            counts: self.history.borrow().counts,
            tally: self.simulation.tally(),
            struck: self.struck,
            ends: self.ends,
            connections_broken: self.simulation.connections_broken(),
            trace_hash: self.simulation.trace_hash(),
        }
    }
}

/// All clients of a run: first the topics are created, then everybody starts.
async fn run_clients(workload: Workload, plan: Plan, mut rng: Rng, check: Rc<Cell<bool>>) {
    let client = workload.client("setup");
    for topic in &plan.topics {
        Box::pin(workload.create(&client, topic)).await;
    }
    drop(client);
    let runtime = workload.runtime.clone();
    let spawn = |name, task| runtime.spawn(name, TaskQueue::Foreground, task);
    for (index, producer) in plan.producers.iter().enumerate() {
        let producer = Producer::new(workload.clone(), producer.clone(), index, rng.fork());
        spawn("producer", boxed(producer.run()));
    }
    for topic in &plan.topics {
        for partition in 0..topic.partition_count {
            let reader = workload.clone().follow((topic.name.to_owned(), partition));
            spawn("reader", boxed(reader));
        }
    }
    if plan.damage.is_some() {
        let partitions = plan.topics.iter().flat_map(|topic| {
            (0..topic.partition_count).map(|partition| (topic.name.to_owned(), partition))
        });
        spawn("rereader", boxed(workload.clone().reread(partitions.collect())));
    }
    for index in 0..plan.group_members {
        let topics = plan.topics.iter().map(|topic| topic.name.to_owned()).collect();
        spawn("member", boxed(workload.clone().be_member(index, topics, rng.fork())));
    }
    spawn("topics", boxed(workload.clone().churn_topics(plan.churned_topics, rng.fork())));
    while !check.get() {
        runtime.sleep(LOOK_INTERVAL).await;
    }
    Box::pin(workload.check_everything(&plan)).await;
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn boxed(task: impl Future<Output = ()> + 'static) -> Task {
    Box::pin(task)
}
