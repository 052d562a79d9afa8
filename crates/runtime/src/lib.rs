//! One shard's engine: executor, timers, buffers, the mesh between shards, and files and sockets
//! behind one [`Driver`]. Knows nothing of Kafka.
//!
//! ```text
//!   tasks (broker, storage, client)
//!      |  Runtime: spawn, sleep, File, Listener, Stream, Mesh
//!   executor: task queues with shares, timers, one table of operations in flight
//!      |  Op in, Event out
//!   Driver: UringDriver | SyncDriver | the simulator's
//! ```
//!
//! A shard is one thread (in the simulator: one of many executors on one thread). Everything that
//! belongs to it is reached through its [`Runtime`] handle, which is cheap to clone and cannot
//! leave the thread. Between shards go messages ([`Runtime::send`]) and refcounted [`bytes::Bytes`].
//!
//! All `unsafe` of the project lives in this crate, in the files that `cargo xtask tidy` lists.

mod alignment;
pub mod buffer;
mod choose;
pub mod driver;
pub mod durations;
mod executor;
mod file;
mod handle;
pub mod local;
mod mesh;
pub mod mount;
mod net;
mod op_table;
mod overlap;
mod queues;
mod sync;
mod sys;
mod timer;
mod uring;
mod workers;

pub use buffer::{AppendBuffer, Buffer, BufferPool};
pub use choose::{DriverPreference, open_driver};
pub use driver::{Driver, DriverKind, Errno, Event, Message, Op, Output, ShardIndex, Wait};
pub use executor::{Executor, Turn};
pub use file::{
    Access, Cache, Create, DirectoryEntry, File, FileInfo, FileKind, OpenOptions, Space,
};
pub use handle::{Runtime, TaskQueue};
pub use mesh::{Endpoint, Injector, Unparker, mesh};
pub use net::{Listener, SocketHandle, Stream};
pub use sync::SyncDriver;
pub use sys::{
    clock_is_synchronised, pin_thread, raise_handle_limit,
    signals::{StopSignals, block_signals},
};
pub use timer::{Elapsed, Instant};
pub use uring::{REGISTERED_BYTES_MAX, UringDriver};
