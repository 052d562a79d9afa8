//! Simulated disk, network, clock and scheduler; whole brokers in one thread.
