//! Maps whose iteration order does not depend on randomness.
//!
//! A seed of the simulator has to give the same run twice, so the standard library's randomly
//! seeded maps are banned. These hash with a fixed seed: the same insertions iterate in the same
//! order in every process. Use `BTreeMap` where the order itself has a meaning.
//!
//! A fixed seed means that a client who chooses keys can make them collide; maps keyed by bytes
//! from outside (topic and group names) are therefore `BTreeMap`s.

use foldhash::fast::FixedState;

/// A hash map with a fixed seed.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, FixedState>;
/// A hash set with a fixed seed.
pub type HashSet<K> = hashbrown::HashSet<K, FixedState>;
pub use std::collections::{BTreeMap, BTreeSet};
