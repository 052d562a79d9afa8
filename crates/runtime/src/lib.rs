//! One shard's engine: executor, timers, buffers, the mesh between shards, files and sockets behind one Driver.
