//! Which shard serves a connection.
//!
//! A new connection goes to the shard that has the fewest. Where it turns out to produce to another
//! shard's partitions, or to fetch from them, and from no others, it moves there: its requests then
//! take no message to another thread and back, and its records stay in one core's caches. Of one
//! producer with one partition that is a third of the broker's CPU, and the tail of its latencies.
//!
//! A shard that has much to do takes none. Who receives for a partition that keeps its own shard
//! busy is better off elsewhere.
//!
//! ```text
//!   its shard: 32 requests in a row  -> may it come? -> the other: if it is not busy, one at a time
//!              answers what is begun -> shard 0 counts anew -> the socket, the frame in hand, the sessions
//! ```
//!
//! Cost: a comparison a request; of a move, three messages and the wait for what is in flight.

use std::{cell::Cell, future::Future, rc::Rc, time::Duration};

use runtime::{Instant, ShardIndex};

use crate::{peers::Call, shard::Shard};

/// So many requests in a row that are another shard's alone make a connection move.
const ROW: u32 = 32;
/// How long a connection stays where it moved.
const STAY: Duration = Duration::from_secs(1);
/// The hundredths of its time beyond which a shard takes no further connection.
const BUSY_MAX: u128 = 50;
/// For how long a shard looks at what it has to do; it takes one connection in that time, and sees
/// what that has brought before it takes the next.
const LOOK: Duration = Duration::from_millis(100);

/// Where a connection's requests go.
#[derive(Default)]
pub(crate) struct Home {
    towards: Cell<Option<ShardIndex>>,
    row: Cell<u32>,
    not_before: Cell<Instant>,
}

impl Home {
    /// Of a connection that moves to another shard.
    pub(crate) fn moved(now: Instant) -> Home {
        Home { not_before: Cell::new(now + STAY), ..Home::default() }
    }

    /// A request was for partitions of this shard alone, or of several: `None`.
    pub(crate) fn note(&self, owner: Option<ShardIndex>) {
        let same = self.towards.replace(owner) == owner;
        self.row.set(if same { self.row.get().saturating_add(1) } else { 1 });
    }

    /// Where it should be, if not on this shard: it is asked for seldom.
    pub(crate) fn wish(
        &self,
        here: ShardIndex,
        now: impl FnOnce() -> Instant,
    ) -> Option<ShardIndex> {
        let towards = self.towards.get().filter(|towards| *towards != here)?;
        if self.row.get() < ROW {
            return None;
        }
        let now = now();
        if now < self.not_before.get() {
            return None;
        }
        // Where it may not come it asks again when that shard takes the next.
        self.not_before.set(now + LOOK);
        Some(towards)
    }
}

/// How much a shard has to do.
#[derive(Default)]
pub(crate) struct Load {
    /// When the look began, and the CPU time that the shard had taken then.
    looked: Cell<(Instant, Duration)>,
    /// Hundredths of its time, of the look before, which ended with the last question.
    busy: Cell<u128>,
    has_taken: Cell<bool>,
}

impl Load {
    /// Whether a further connection may come.
    fn takes(&self, now: Instant, cpu_time: Duration) -> bool {
        let (began, before) = self.looked.get();
        let passed = now.since(began);
        if passed >= LOOK {
            let busy = cpu_time.saturating_sub(before);
            self.busy.set(busy.as_nanos() * 100 / passed.as_nanos());
            self.looked.set((now, cpu_time));
            self.has_taken.set(false);
        }
        self.busy.get() <= BUSY_MAX && !self.has_taken.replace(true)
    }
}

/// Asks a shard whether a connection may move to it.
pub(crate) struct MayCome;

impl Call for MayCome {
    type Answer = bool;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = bool> + 'static {
        let takes = shard.load.takes(shard.runtime.now(), shard.runtime.cpu_time());
        std::future::ready(takes)
    }
}

/// Tells the shard that counts connections that one is on its way.
pub(crate) struct ConnectionMoves {
    pub(crate) from: ShardIndex,
    pub(crate) to: ShardIndex,
}

impl Call for ConnectionMoves {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.connections.moved(self.from, self.to);
        std::future::ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ShardIndex = ShardIndex(0);
    const THERE: ShardIndex = ShardIndex(1);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    fn after(owners: &[Option<ShardIndex>], ms: u64) -> Option<ShardIndex> {
        let home = Home::moved(at(0));
        owners.iter().for_each(|owner| home.note(*owner));
        home.wish(HERE, || at(ms))
    }

    #[test]
    fn a_connection_goes_where_all_of_its_last_requests_went() {
        let row = vec![Some(THERE); ROW as usize];
        assert_eq!(after(&row, 1000), Some(THERE));
        assert_eq!(after(&row, 999), None, "it has just come");
        assert_eq!(after(&row[1..], 1000), None);
        assert_eq!(after(&vec![Some(HERE); 100], 1000), None);
        assert_eq!(after(&vec![None; 100], 1000), None);
        for other in [None, Some(HERE)] {
            assert_eq!(after(&[&row[..], &[other]].concat(), 1000), None);
            assert_eq!(after(&[&[other], &row[..]].concat(), 1000), Some(THERE));
        }
    }

    #[test]
    fn a_new_connection_asks_at_once_and_not_all_the_time() {
        let home = Home::default();
        (0..ROW).for_each(|_| home.note(Some(THERE)));
        assert_eq!(home.wish(HERE, || at(1)), Some(THERE));
        assert_eq!(home.wish(HERE, || at(100)), None);
        assert_eq!(home.wish(HERE, || at(101)), Some(THERE));
    }

    #[test]
    fn a_busy_shard_takes_none_and_another_one_at_a_time() {
        let load = Load::default();
        let cpu = Duration::from_millis;
        assert!(load.takes(at(1000), cpu(500)), "half of its time");
        assert!(!load.takes(at(1099), cpu(500)), "what the last one brings is not known yet");
        assert!(load.takes(at(1100), cpu(550)));
        assert!(!load.takes(at(1200), cpu(601)), "busy");
        assert!(!load.takes(at(1250), cpu(601)));
        assert!(load.takes(at(1300), cpu(651)));
    }
}
