//! Who leads, who is in sync, what the metadata log says: pure state machines.
