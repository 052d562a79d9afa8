//! Simulated disk, network, clock and scheduler; whole brokers and their clients in one thread.
//!
//! ```text
//!   workload clients, brokers       the same code as in production
//!      |  runtime::Executor         one for each shard of each node
//!   SimDriver                       one for each shard
//!      |  Rc<RefCell<_>>
//!   World: time, one queue of what is to come, disks, network, mesh
//! ```
//!
//! One seed decides everything: delays, who runs next, what a power cut leaves. So a seed that
//! fails, fails again; [`Simulation::trace_hash`] tells whether two runs were the same.

mod disk;
mod driver;
mod net;
mod number;
mod rng;
pub mod scenario;
mod schedule;
mod simulation;
mod trace;
mod world;

pub use disk::{DiskFaults, DiskSettings, Tally};
pub use net::NetSettings;
pub use rng::Rng;
pub use simulation::{Crash, Moment, Settings, Simulation, Stop, Trigger};
