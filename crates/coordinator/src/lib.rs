//! Groups and offsets as replicated state machines.
