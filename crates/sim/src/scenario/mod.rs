//! One seed: a broker, its clients, crashes, and a look at what is left.
//!
//! ```text
//!   life 1 | crash | life 2 | crash | ...            | last life
//!   producers with quotas, readers, a group, topics    | quotas reached, readers stop, all is read
//! ```
//! A seed fails when a client saw what no client may see, when the broker did to the disk what no
//! program may do, or when the last life does not get everything done in time.

mod clients;
mod history;
mod node;
mod plan;
mod readers;
mod topics;

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::Duration,
};

use runtime::{Runtime, TaskQueue};

pub use self::history::Counts;
use self::{
    clients::{Producer, Workload},
    history::History,
    node::BrokerNode,
    plan::{End, EndPlan, Plan, When},
};
use crate::{Crash, Rng, Settings, Simulation, Stop, Tally, Trigger};

/// Virtual time within which a restarted broker serves, and makes progress.
const PATIENCE: Duration = Duration::from_secs(120);
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
}

impl Scenario {
    fn new(seed: u64, options: Options) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5ce_a210);
        let plan = Plan::by_seed(&mut rng, options.shards);
        let mut simulation = Simulation::new(seed, Settings::by_seed(seed));
        if let Some(print) = options.trace {
            simulation.trace_to(print);
        }
        let broker = BrokerNode::new(&mut simulation, &mut rng);
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
        }
    }

    fn run(mut self) -> Outcome {
        self.start_clients();
        let mut shard_count = self.plan.shard_count;
        for end in self.plan.ends.clone() {
            self.broker.start(&mut self.simulation, shard_count);
            if !self.live_until(&end) {
                return self.outcome();
            }
            self.wait(Duration::from_micros(end.dark_us));
            shard_count = end.shard_count_after;
        }
        self.broker.start(&mut self.simulation, shard_count);
        self.finish();
        self.outcome()
    }

    fn start_clients(&mut self) {
        let node = self.simulation.add_node(Path::new("/tmp"));
        let quotas = self.plan.producers.len() + 1;
        self.busy.set(u64::try_from(quotas).expect("few clients"));
        let (address, plan, rng) = (self.broker.address(), self.plan.clone(), self.rng.fork());
        let (history, stop) = (Rc::clone(&self.history), Rc::clone(&self.stop));
        let (check, busy) = (Rc::clone(&self.check), Rc::clone(&self.busy));
        self.simulation.start(node, 1, move |runtime: &Runtime| {
            let workload = Workload {
                runtime: runtime.clone(),
                address,
                history: Rc::clone(&history),
                stop: Rc::clone(&stop),
                busy: Rc::clone(&busy),
            };
            let clients = run_clients(workload, plan.clone(), rng.clone(), Rc::clone(&check));
            runtime.spawn("clients", TaskQueue::Foreground, clients);
        });
    }

    /// Lets the broker live until its planned end. False if it came to another.
    fn live_until(&mut self, end: &EndPlan) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        match end.when {
            When::AfterStart { us } => self.wait(Duration::from_micros(us)),
            When::AtMoment { acked_batches, moment, countdown, delay_ns } => {
                let history = Rc::clone(&self.history);
                let made_progress = move || history.borrow().counts.acked_batches >= acked_batches;
                let stop = self.simulation.run_until(deadline, made_progress);
                if stop != Stop::Condition {
                    self.complain(format!("no {acked_batches} batches in time: {stop:?}"));
                    return false;
                }
                let node = self.broker.node();
                self.simulation.arm(Trigger { node, moment, countdown, delay_ns });
                self.wait(MOMENT_TIME);
            }
        }
        if !self.simulation.is_running(self.broker.node()) {
            self.complain("the broker ended by itself".to_owned());
            return false;
        }
        match end.end {
            End::Crash(crash) => {
                self.crash(crash);
                true
            }
            End::CleanStop => self.stop_cleanly(),
        }
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
            self.wait(LOOK_INTERVAL);
        }
        self.broker.stop(&mut self.simulation);
        while self.simulation.is_running(broker) {
            if self.simulation.now() >= deadline {
                self.complain("no clean stop in time".to_owned());
                return false;
            }
            self.wait(LOOK_INTERVAL);
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
        self.busy.set(1);
        self.check.set(true);
        self.wait_for_clients("the last look is not done");
    }

    fn wait_for_clients(&mut self, complaint: &str) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        let busy = Rc::clone(&self.busy);
        let stop = self.simulation.run_until(deadline, move || busy.get() == 0);
        if stop != Stop::Condition {
            self.complain(format!("{complaint}: {stop:?}"));
        }
        stop == Stop::Condition
    }

    fn wait(&mut self, duration: Duration) {
        let deadline = self.simulation.now() + duration;
        self.simulation.run_until(deadline, || false);
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
        workload.create(&client, topic).await;
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
    for index in 0..plan.group_members {
        let topics = plan.topics.iter().map(|topic| topic.name.to_owned()).collect();
        spawn("member", boxed(workload.clone().be_member(index, topics, rng.fork())));
    }
    spawn("topics", boxed(workload.clone().churn_topics(plan.churned_topics, rng.fork())));
    while !check.get() {
        runtime.sleep(LOOK_INTERVAL).await;
    }
    workload.check_everything(&plan).await;
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn boxed(task: impl Future<Output = ()> + 'static) -> Task {
    Box::pin(task)
}
