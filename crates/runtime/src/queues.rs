//! Which ready task runs next.
//!
//! Each queue has shares, and a virtual time that advances by the time its tasks took divided by
//! its shares; the queue that is behind runs first. So while both have work, each gets the shard's
//! time in proportion to its shares. A queue that had nothing to do joins again at the time of the
//! others: it has saved nothing up, and owes nothing for the time it had alone.

use std::{collections::VecDeque, time::Duration};

use crate::TaskQueue;

const FOREGROUND_SHARES: u64 = 1000;
const BACKGROUND_SHARES: u64 = 100;

/// The ready tasks, by slot.
#[derive(Default)]
pub(crate) struct Queues {
    foreground: Queue,
    background: Queue,
    /// The virtual time of the queue that ran last: nobody who joins is behind it.
    clock: u64,
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<usize>,
    virtual_time: u64,
}

impl Queues {
    fn queue_mut(&mut self, queue: TaskQueue) -> &mut Queue {
        match queue {
            TaskQueue::Foreground => &mut self.foreground,
            TaskQueue::Background => &mut self.background,
        }
    }

    /// Puts a task at the end of its queue.
    pub(crate) fn push(&mut self, queue: TaskQueue, slot: usize) {
        let clock = self.clock;
        let queue = self.queue_mut(queue);
        if queue.ready.is_empty() {
            queue.virtual_time = queue.virtual_time.max(clock);
        }
        queue.ready.push_back(slot);
    }

    /// True if no task is ready.
    pub(crate) fn is_empty(&self) -> bool {
        self.foreground.ready.is_empty() && self.background.ready.is_empty()
    }

    /// True if a task is ready that somebody waits for.
    pub(crate) fn has_foreground(&self) -> bool {
        !self.foreground.ready.is_empty()
    }

    /// Takes the task to run next.
    pub(crate) fn pop(&mut self) -> Option<(TaskQueue, usize)> {
        let (foreground, background) = (&self.foreground, &self.background);
        let is_background_s_turn = foreground.ready.is_empty()
            || (!background.ready.is_empty() && background.virtual_time < foreground.virtual_time);
        let next = if is_background_s_turn { TaskQueue::Background } else { TaskQueue::Foreground };
        let queue = self.queue_mut(next);
        let slot = queue.ready.pop_front()?;
        let virtual_time = queue.virtual_time;
        self.clock = self.clock.max(virtual_time);
        Some((next, slot))
    }

    /// A task of `queue` ran for `took`.
    pub(crate) fn charge(&mut self, queue: TaskQueue, took: Duration) {
        let shares = match queue {
            TaskQueue::Foreground => FOREGROUND_SHARES,
            TaskQueue::Background => BACKGROUND_SHARES,
        };
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let queue = self.queue_mut(queue);
        queue.virtual_time = queue.virtual_time.saturating_add(nanos.saturating_mul(1000) / shares);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_micros(10);
    const FOREGROUND: (TaskQueue, usize) = (TaskQueue::Foreground, 0);
    const BACKGROUND: (TaskQueue, usize) = (TaskQueue::Background, 1);

    /// Runs tasks that are ready again at once, and counts the background's turns.
    fn run(queues: &mut Queues, turns: usize) -> usize {
        let mut background = 0;
        for _ in 0..turns {
            let (queue, slot) = queues.pop().unwrap();
            queues.charge(queue, SLICE);
            queues.push(queue, slot);
            background += usize::from(queue == TaskQueue::Background);
        }
        background
    }

    #[test]
    fn each_queue_gets_its_shares() {
        let mut queues = Queues::default();
        queues.push(FOREGROUND.0, FOREGROUND.1);
        queues.push(BACKGROUND.0, BACKGROUND.1);
        let background = run(&mut queues, 11_000);
        assert!((990..=1010).contains(&background), "{background} of 11,000");
    }

    #[test]
    fn a_queue_that_had_nothing_to_do_saves_nothing_up() {
        for (first, second, most) in [(FOREGROUND, BACKGROUND, 12), (BACKGROUND, FOREGROUND, 12)] {
            let mut queues = Queues::default();
            queues.push(first.0, first.1);
            run(&mut queues, 100_000);
            // The first one's task sleeps for a moment while the second one's wakes up.
            let sleeping = queues.pop().unwrap();
            queues.charge(sleeping.0, SLICE);
            queues.push(second.0, second.1);
            queues.push(sleeping.0, sleeping.1);
            let background = run(&mut queues, 110);
            assert!((8..=most).contains(&background), "{background} of 110 after {first:?}");
        }
    }

    #[test]
    fn tasks_of_a_queue_run_in_turn() {
        let mut queues = Queues::default();
        for slot in [5, 3, 9] {
            queues.push(TaskQueue::Foreground, slot);
        }
        let order: Vec<usize> = std::iter::from_fn(|| queues.pop()).map(|(_, slot)| slot).collect();
        assert_eq!(order, [5, 3, 9]);
        assert!(queues.is_empty());
    }
}
