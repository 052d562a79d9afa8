//! A broker on a simulated node: started, asked to stop, and watched.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use broker::{Role, Stop, config::BrokerConfig};
use runtime::TaskQueue;

use crate::{Rng, Simulation};

/// Where the broker's directory is created, below one that is there.
pub(crate) const DATA_PARENT: &str = "/data";
const DATA_DIRECTORY: &str = "/data/odradek";
const PORT: u16 = 9092;

pub(crate) struct BrokerNode {
    node: u16,
    config: Arc<BrokerConfig>,
    ready: Arc<AtomicBool>,
    errors: Rc<RefCell<Vec<String>>>,
}

impl BrokerNode {
    pub(crate) fn new(simulation: &mut Simulation, rng: &mut Rng) -> BrokerNode {
        let node = simulation.add_node(Path::new(DATA_PARENT));
        let listen = SocketAddr::new(IpAddr::V4(Simulation::address(node)), PORT);
        let mut config = BrokerConfig::new(listen, DATA_DIRECTORY.into());
        config.offsets_topic_num_partitions = rng.pick(&[1, 3, 5]);
        config.topic_defaults.insert("internal.segment.bytes".to_owned(), "65536".to_owned());
        BrokerNode { node, config: Arc::new(config), ready: Arc::default(), errors: Rc::default() }
    }

    pub(crate) fn node(&self) -> u16 {
        self.node
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.config.listen
    }

    pub(crate) fn start(&self, simulation: &mut Simulation, shard_count: u16) {
        self.ready.store(false, Ordering::Relaxed);
        simulation.start(self.node, shard_count, |runtime| {
            let ready = Arc::clone(&self.ready);
            let role = if runtime.shard().0 == 0 {
                Role::First { on_ready: Box::new(move |_| ready.store(true, Ordering::Relaxed)) }
            } else {
                Role::Other
            };
            let broker = broker::run_shard(runtime.clone(), Arc::clone(&self.config), role);
            let (runtime_of_task, errors) = (runtime.clone(), Rc::clone(&self.errors));
            runtime.spawn("broker", TaskQueue::Foreground, async move {
                if let Err(error) = broker.await {
                    errors.borrow_mut().push(format!("the broker ended: {error}"));
                }
                runtime_of_task.stop();
            });
        });
    }

    pub(crate) fn stop(&self, simulation: &mut Simulation) {
        simulation.inject(self.node, 0, Box::new(Stop));
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Why the broker ended by itself, if it did.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.take()
    }
}
