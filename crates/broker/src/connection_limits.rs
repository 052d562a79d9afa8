//! How many connections there may be: of the node, of one address, and how many new ones in a
//! second. And how many there are, by the shard that serves them and by the address they come from.
//!
//! As in Apache Kafka, connections beyond `max.connections` wait in the listener's queue until
//! others end, and so do those that come faster than `max.connection.creation.rate`; one beyond
//! `max.connections.per.ip` is closed at once. Shard 0 deals connections out and counts them.

use std::{cell::RefCell, net::IpAddr, time::Duration};

use model::collections::BTreeMap;
use runtime::{Instant, ShardIndex};

const CONNECTIONS: &str = "max.connections";
const PER_ADDRESS: &str = "max.connections.per.ip";
const OVERRIDES: &str = "max.connections.per.ip.overrides";
const CREATION_RATE: &str = "max.connection.creation.rate";
/// The settings, all of which can be altered while the broker runs.
pub(crate) const SETTINGS: [&str; 4] = [CONNECTIONS, PER_ADDRESS, OVERRIDES, CREATION_RATE];
/// What Kafka keeps in 32 bits; the default of each number: no limit.
const NUMBER_MAX: usize = i32::MAX as usize;
/// How far connections may be ahead of their rate: those of one second may come at once.
const BURST: Duration = Duration::from_secs(1);

/// The limits, as they are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `max.connections`.
    pub connections: usize,
    /// `max.connections.per.ip`.
    pub per_address: usize,
    /// `max.connections.per.ip.overrides`: those of some addresses.
    pub overrides: BTreeMap<IpAddr, usize>,
    /// `max.connection.creation.rate`: new ones in a second; 0 for none at all.
    pub creation_rate: usize,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            connections: NUMBER_MAX,
            per_address: NUMBER_MAX,
            overrides: BTreeMap::new(),
            creation_rate: NUMBER_MAX,
        }
    }
}

impl ConnectionLimits {
    /// Takes a setting.
    ///
    /// # Errors
    /// What is expected in its place. It is then left as it was.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        if name == OVERRIDES {
            self.overrides = overrides(value).ok_or("ADDRESS:NUMBER, with commas between them")?;
            return Ok(());
        }
        let number = number(value).ok_or("a number from 0 to 2147483647")?;
        match name {
            CONNECTIONS => self.connections = number,
            PER_ADDRESS => self.per_address = number,
            CREATION_RATE => self.creation_rate = number,
            other => unreachable!("{other} is no limit of connections"),
        }
        Ok(())
    }

    /// How many connections an address may have.
    pub(crate) fn of_address(&self, address: IpAddr) -> usize {
        self.overrides.get(&address.to_canonical()).copied().unwrap_or(self.per_address)
    }
}

fn number(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|number| *number <= NUMBER_MAX)
}

fn overrides(text: &str) -> Option<BTreeMap<IpAddr, usize>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (address, count) = entry.rsplit_once(':')?;
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            let address: IpAddr = address.parse().ok()?;
            Some((address.to_canonical(), number(count)?))
        })
        .collect()
}

/// The connections that were dealt out and have not ended.
pub(crate) struct ConnectionCounts {
    counts: RefCell<Counts>,
}

struct Counts {
    of_shard: Vec<usize>,
    of_address: BTreeMap<IpAddr, usize>,
}

impl ConnectionCounts {
    pub(crate) fn new(shard_count: u16) -> ConnectionCounts {
        let of_shard = vec![0; usize::from(shard_count)];
        ConnectionCounts { counts: RefCell::new(Counts { of_shard, of_address: BTreeMap::new() }) }
    }

    pub(crate) fn total(&self) -> usize {
        self.counts.borrow().of_shard.iter().sum()
    }

    /// By shard; one that moves is counted where it is going.
    pub(crate) fn of_shards(&self) -> Vec<usize> {
        self.counts.borrow().of_shard.clone()
    }

    pub(crate) fn of_address(&self, address: IpAddr) -> usize {
        let address = address.to_canonical();
        self.counts.borrow().of_address.get(&address).copied().unwrap_or(0)
    }

    /// Deals a connection to the shard with the fewest.
    pub(crate) fn deal(&self, address: IpAddr) -> ShardIndex {
        let mut counts = self.counts.borrow_mut();
        let fewest = (0..counts.of_shard.len()).min_by_key(|index| counts.of_shard[*index]);
        let index = fewest.expect("there is a shard");
        counts.of_shard[index] += 1;
        *counts.of_address.entry(address.to_canonical()).or_default() += 1;
        ShardIndex(u16::try_from(index).expect("made from a u16"))
    }

    /// One is on its way from a shard to another.
    pub(crate) fn moved(&self, from: ShardIndex, to: ShardIndex) {
        let mut counts = self.counts.borrow_mut();
        counts.of_shard[usize::from(from.0)] -= 1;
        counts.of_shard[usize::from(to.0)] += 1;
    }

    /// One of a shard's has ended.
    pub(crate) fn ended(&self, shard: ShardIndex, address: IpAddr) {
        let mut counts = self.counts.borrow_mut();
        counts.of_shard[usize::from(shard.0)] -= 1;
        let address = address.to_canonical();
        let left = counts.of_address.get_mut(&address).expect("counted when it was dealt");
        *left -= 1;
        if *left == 0 {
            counts.of_address.remove(&address);
        }
    }
}

/// Holds connections to their rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// When all connections so far would have come, each at its time.
    due: Instant,
}

impl Pace {
    /// How long the next connection has to wait.
    pub(crate) fn wait(self, now: Instant) -> Duration {
        let free = now + BURST;
        if self.due > free { self.due.since(free) } else { Duration::ZERO }
    }

    /// A connection came, with `rate` of them allowed in a second.
    pub(crate) fn came(&mut self, now: Instant, rate: usize) {
        let rate = u32::try_from(rate).unwrap_or(u32::MAX).max(1);
        self.due = self.due.max(now) + Duration::from_secs(1) / rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_in_force_and_what_is_none_is_refused() {
        let mut limits = ConnectionLimits::default();
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(limits.of_address(one), NUMBER_MAX);
        for (name, value) in [
            (CONNECTIONS, "5"),
            (PER_ADDRESS, " 3 "),
            (OVERRIDES, "10.0.0.1:7, [::1]:0,fe80::1:2"),
            (CREATION_RATE, "2147483647"),
        ] {
            assert_eq!(limits.set(name, value), Ok(()), "{name}={value}");
        }
        assert_eq!((limits.connections, limits.creation_rate), (5, NUMBER_MAX));
        for (address, count) in
            [("10.0.0.1", 7), ("::ffff:10.0.0.1", 7), ("::1", 0), ("fe80::1", 2), ("10.0.0.2", 3)]
        {
            assert_eq!(limits.of_address(address.parse().unwrap()), count, "{address}");
        }
        let before = limits.clone();
        for (name, value) in [
            (CONNECTIONS, "-1"),
            (CONNECTIONS, "2147483648"),
            (PER_ADDRESS, "many"),
            (OVERRIDES, "localhost:1"),
            (OVERRIDES, "10.0.0.1"),
            (OVERRIDES, "10.0.0.1:-1"),
        ] {
            assert!(limits.set(name, value).is_err(), "{name}={value}");
        }
        assert_eq!(limits, before);
        assert_eq!(limits.set(OVERRIDES, ""), Ok(()));
        assert_eq!(limits.of_address(one), 3);
    }

    #[test]
    fn connections_are_dealt_evenly_and_counted_until_they_end() {
        let counts = ConnectionCounts::new(2);
        let (one, mapped) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        assert_eq!([counts.deal(one), counts.deal(mapped)], [ShardIndex(0), ShardIndex(1)]);
        assert_eq!((counts.total(), counts.of_address(one)), (2, 2));
        counts.ended(ShardIndex(1), one);
        assert_eq!(counts.deal("10.0.0.2".parse().unwrap()), ShardIndex(1));
        counts.ended(ShardIndex(0), one);
        assert_eq!((counts.total(), counts.of_address(one)), (1, 0));
    }

    #[test]
    fn a_second_of_connections_may_come_at_once_and_no_more() {
        let start = Instant(5_000_000_000);
        let mut pace = Pace::default();
        let mut now = start;
        for count in 0..1000_u32 {
            now = now + pace.wait(now);
            pace.came(now, 100);
            let least = Duration::from_millis(u64::from(count.saturating_sub(100)) * 10);
            assert_eq!(now.since(start), least, "{count}");
        }
        // Who was quiet for long has no more than the same second.
        now = now + Duration::from_secs(60);
        for _ in 0..=100 {
            assert_eq!(pace.wait(now), Duration::ZERO);
            pace.came(now, 100);
        }
        assert_eq!(pace.wait(now), Duration::from_millis(10));
    }
}
