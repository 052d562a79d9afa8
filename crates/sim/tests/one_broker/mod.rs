//! A broker on a node of a simulation, for tests that look at one alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use broker::{Role, config::BrokerConfig, loggers::RootAlone};
use runtime::TaskQueue;
use sim::Simulation;

/// Starts a broker's shards, which end with it; gives what becomes true when it is ready.
pub fn start(
    simulation: &mut Simulation,
    node: u16,
    shards: u16,
    address: SocketAddr,
) -> Arc<AtomicBool> {
    let config = Arc::new(BrokerConfig::new(address, "/data/odradek".into()));
    let ready = Arc::new(AtomicBool::new(false));
    simulation.start(node, shards, |runtime| {
        let ready = Arc::clone(&ready);
        let role = match runtime.shard().0 {
            0 => Role::First { on_ready: Box::new(move |_| ready.store(true, Ordering::Relaxed)) },
            _ => Role::Other,
        };
        let (config, of_task) = (Arc::clone(&config), runtime.clone());
        let broker = broker::run_shard(runtime.clone(), config, Arc::new(RootAlone), role);
        runtime.spawn("broker", TaskQueue::Foreground, async move {
            broker.await.expect("the broker ends well");
            of_task.stop();
        });
    });
    ready
}
