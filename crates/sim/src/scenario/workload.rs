//! The clients of a run: who is started, on a machine of their own that never fails.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
};

use runtime::{Runtime, TaskQueue};

use super::{
    LOOK_INTERVAL, Scenario,
    clients::{Producer, Workload},
    consumers::MIXED,
    features::Role,
    ledger::Ledger,
    plan::{Plan, TopicPlan},
    readers::GROUP,
    tellers::{LEDGER, PARTITIONS, Teller},
    told::Told,
};
use crate::Rng;

impl Scenario {
    pub(super) fn start_clients(&mut self) {
        let node = self.simulation.add_node(Path::new("/tmp"));
        let roles = self.plan.topics.iter().map(|topic| (topic.name.to_owned(), topic.role));
        self.history.borrow_mut().roles = roles.collect();
        let recreates = usize::from(self.plan.features.recreations > 0);
        let tellers = self.plan.transactions.as_ref().map_or(0, |plan| plan.tellers);
        let quotas = self.plan.producers.len() + 1 + recreates + tellers;
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
        let kept = plan.topics.iter().filter(|topic| topic.role == Role::Kept);
        let topics = kept.map(|topic| topic.name.to_owned()).collect();
        spawn("member", boxed(workload.clone().be_member((GROUP, index), topics, rng.fork())));
    }
    spawn("topics", boxed(workload.clone().churn_topics(plan.churned_topics, rng.fork())));
    start_administrators(&workload, &plan, &mut rng);
    let told = Told::new(&runtime);
    let ledger = start_tellers(&workload, &plan, &told).await;
    while !check.get() {
        runtime.sleep(LOOK_INTERVAL).await;
    }
    if let Some(transactions) = &plan.transactions {
        Box::pin(workload.check_ledger(&ledger, &told, transactions.tellers)).await;
    }
    Box::pin(workload.check_everything(&plan)).await;
}

/// What `--transactions` adds.
async fn start_tellers(workload: &Workload, plan: &Plan, told: &Told) -> Rc<RefCell<Ledger>> {
    let ledger: Rc<RefCell<Ledger>> = Rc::default();
    let Some(transactions) = &plan.transactions else { return ledger };
    let topic = TopicPlan {
        name: LEDGER,
        partition_count: PARTITIONS,
        segment_bytes: transactions.segment_bytes,
        role: Role::Kept,
    };
    Box::pin(workload.create(&workload.client("setup"), &topic)).await;
    let mut rng = transactions.rng.clone();
    let spawn = |name, task| workload.runtime.spawn(name, TaskQueue::Foreground, task);
    for index in 0..transactions.tellers {
        let teller =
            Teller::new(workload.clone(), (Rc::clone(&ledger), told.clone()), index, rng.fork());
        spawn("teller", boxed(teller.run(transactions.quota)));
    }
    for partition in 0..PARTITIONS {
        spawn(
            "auditor",
            boxed(workload.clone().audit(Rc::clone(&ledger), told.clone(), partition)),
        );
    }
    ledger
}

/// What `--features` adds.
fn start_administrators(workload: &Workload, plan: &Plan, rng: &mut Rng) {
    let spawn = |name, task| workload.runtime.spawn(name, TaskQueue::Foreground, task);
    for topic in &plan.topics {
        if matches!(topic.role, Role::Trimmed { .. }) {
            let partition = (topic.name.to_owned(), 0);
            spawn("trimmer", boxed(workload.clone().trim(partition, rng.fork())));
        }
        if plan.features.alters_settings {
            let alterer = workload.clone().alter(topic.clone(), rng.fork());
            spawn("alterer", boxed(alterer));
        }
    }
    let kept = plan.topics.iter().filter(|topic| topic.role == Role::Kept);
    let topics: Vec<String> = kept.map(|topic| topic.name.to_owned()).collect();
    let (newer, classic) = plan.features.mixed_members;
    for index in 0..newer {
        let member = workload.clone().be_consumer(index, topics.clone(), rng.fork());
        spawn("consumer", boxed(member));
    }
    for index in 0..classic {
        let member = workload.clone().be_member((MIXED, index), topics.clone(), rng.fork());
        spawn("member", boxed(member));
    }
    if plan.features.recreations > 0 {
        let count = plan.features.recreations;
        spawn("recreator", boxed(workload.clone().recreate(count, rng.fork())));
    }
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn boxed(task: impl Future<Output = ()> + 'static) -> Task {
    Box::pin(task)
}
