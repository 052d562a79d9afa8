//! A broker on a simulated node: started, asked to stop, and watched.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    ops::Range,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use broker::{Role, Stop, config::BrokerConfig, loggers::RootAlone};
use model::{Offset, PartitionId};
use runtime::TaskQueue;
use storage::{LossReport, LossToAccept};

use super::{
    damage::OFFSETS_TOPIC,
    history::Partition,
    plan::{Marks, Plan},
};
use crate::{Rng, Simulation};

/// Where the broker's directory is created, below one that is there.
pub(crate) const DATA_PARENT: &str = "/data";
pub(crate) const DATA_DIRECTORY: &str = "/data/odradek";
const PORT: u16 = 9092;
/// So short that most of what is durable lies below a mark.
const MARK_INTERVAL_MS_MIN: u64 = 20;
/// Kafka's own, which no run lasts.
const MARK_INTERVAL_MS_MAX: u64 = 60_000;

/// So often transactions that have taken too long are looked for.
const ABORT_INTERVAL_MS: u64 = 50;

/// Where records are let go, often in the short time of a run.
const RETENTION_CHECK_MS: u64 = 20;
/// Of consumer groups (KIP-848); classic members say it themselves.
const SESSION_TIMEOUT_MS: u64 = 6_000;
const ASSIGNMENT_INTERVAL_MS: i64 = 100;

/// What the command that gives up what is damaged has said.
pub(crate) type LossAnswer = Rc<RefCell<Option<Result<LossReport, String>>>>;

#[derive(Clone)]
pub(crate) struct BrokerNode {
    node: u16,
    config: Arc<BrokerConfig>,
    ready: Arc<AtomicBool>,
    errors: Rc<RefCell<Vec<String>>>,
    /// Its disk failed so that it may end by itself.
    may_give_up: Rc<Cell<bool>>,
    has_given_up: Rc<Cell<bool>>,
}

impl BrokerNode {
    pub(crate) fn new(
        simulation: &mut Simulation,
        rng: &mut Rng,
        marks: Option<Marks>,
        plan: &Plan,
    ) -> BrokerNode {
        let node = simulation.add_node(Path::new(DATA_PARENT));
        let listen = SocketAddr::new(IpAddr::V4(Simulation::address(node)), PORT);
        let mut config = BrokerConfig::new(listen, DATA_DIRECTORY.into());
        config.offsets_topic_num_partitions = rng.pick(&[1, 3, 5]);
        let interval_ms = rng.pick(&[MARK_INTERVAL_MS_MIN, 200, MARK_INTERVAL_MS_MAX]);
        config.flush_offset_checkpoint_interval_ms = match marks {
            Some(Marks::Moving) => MARK_INTERVAL_MS_MIN,
            Some(Marks::Standing) => MARK_INTERVAL_MS_MAX,
            None => interval_ms,
        };
        config.topic_defaults.insert("internal.segment.bytes".to_owned(), "65536".to_owned());
        if let Some(transactions) = &plan.transactions {
            config.transactions.log_partition_count = transactions.log_partition_count;
            config.transactions.settings.abort_interval_ms = ABORT_INTERVAL_MS;
        }
        if plan.features.is_any {
            config.log_initial_task_delay_ms = RETENTION_CHECK_MS;
            config.log_retention_check_interval_ms = RETENTION_CHECK_MS;
            // Members that crashed are out as soon as classic ones.
            config.group_consumer.session_timeout_ms = SESSION_TIMEOUT_MS;
            config.group_consumer.assignment_interval_ms = ASSIGNMENT_INTERVAL_MS;
        }
        BrokerNode {
            node,
            config: Arc::new(config),
            ready: Arc::default(),
            errors: Rc::default(),
            may_give_up: Rc::default(),
            has_given_up: Rc::default(),
        }
    }

    pub(crate) fn node(&self) -> u16 {
        self.node
    }

    pub(crate) fn marks(&self) -> Marks {
        if self.config.flush_offset_checkpoint_interval_ms < MARK_INTERVAL_MS_MAX {
            Marks::Moving
        } else {
            Marks::Standing
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.config.listen()
    }

    pub(crate) fn start(&self, simulation: &mut Simulation, shard_count: u16) {
        self.ready.store(false, Ordering::Relaxed);
        self.may_give_up.set(false);
        self.has_given_up.set(false);
        simulation.start(self.node, shard_count, |runtime| {
            let ready = Arc::clone(&self.ready);
            let role = if runtime.shard().0 == 0 {
                Role::First { on_ready: Box::new(move |_| ready.store(true, Ordering::Relaxed)) }
            } else {
                Role::Other
            };
            let broker = broker::run_shard(
                runtime.clone(),
                Arc::clone(&self.config),
                Arc::new(RootAlone),
                role,
            );
            let (runtime_of_task, errors) = (runtime.clone(), Rc::clone(&self.errors));
            let may_give_up = Rc::clone(&self.may_give_up);
            let has_given_up = Rc::clone(&self.has_given_up);
            runtime.spawn("broker", TaskQueue::Foreground, async move {
                match broker.await {
                    Ok(()) => {}
                    Err(_) if may_give_up.get() => has_given_up.set(true),
                    Err(error) => errors.borrow_mut().push(format!("the broker ended: {error}")),
                }
                runtime_of_task.stop();
            });
        });
    }

    pub(crate) fn stop(&self, simulation: &mut Simulation) {
        simulation.inject(self.node, 0, Box::new(Stop));
    }

    /// Runs the command that gives up what is damaged within these offsets, on the directory of the
    /// stopped broker. What it says is there when it has ended.
    pub(crate) fn accept_loss(
        &self,
        simulation: &mut Simulation,
        partition: &Partition,
        offsets: &Range<i64>,
    ) -> LossAnswer {
        let answer: LossAnswer = Rc::default();
        let loss = LossToAccept {
            topic: partition.0.clone(),
            partition: PartitionId(partition.1),
            offsets: Some(Offset(offsets.start)..Offset(offsets.end)),
            is_compacted: partition.0 == OFFSETS_TOPIC,
        };
        simulation.start(self.node, 1, |runtime| {
            let (runtime_of_task, loss) = (runtime.clone(), loss.clone());
            let told = Rc::clone(&answer);
            runtime.spawn("accept loss", TaskQueue::Foreground, async move {
                let directory = Path::new(DATA_DIRECTORY);
                let report = storage::accept_loss(&runtime_of_task, directory, &loss).await;
                *told.borrow_mut() = Some(report.map_err(|error| error.to_string()));
                runtime_of_task.stop();
            });
        });
        answer
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Says whether the disk fails so that the broker may end by itself in this life.
    pub(crate) fn set_may_give_up(&self, may: bool) {
        self.may_give_up.set(may);
    }

    /// True if it did.
    pub(crate) fn has_given_up(&self) -> bool {
        self.has_given_up.get()
    }

    /// True if the broker ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// Why the broker ended by itself, if it did.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.take()
    }
}
