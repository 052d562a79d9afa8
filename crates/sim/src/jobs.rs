//! Several threads for many runs: each run is one thread's from its start to its end, and the
//! results are taken in order, so that what is printed does not tell how many threads there were.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

/// As many as can run at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` with each item on `count` threads, and gives the results to `take` in the order of
/// the items until it breaks off. What others have begun by then is finished and dropped.
pub(crate) fn in_order<T: Sync, R: Send>(
    items: &[T],
    count: usize,
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> ControlFlow<()>,
) {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..count {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((index, item)) = claim(items, next) {
                    if sender.send((index, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        // What was finished before those in front of it.
        let mut early = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            while !early.contains_key(&at) {
                // Fails only when a thread has panicked, which ends the scope.
                let Ok((index, result)) = receiver.recv() else { return };
                early.insert(index, result);
            }
            let result = early.remove(&at).expect("it was waited for");
            if take(item, result).is_break() {
                next.store(items.len(), Ordering::Relaxed);
                return;
            }
        }
    });
}

fn claim<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    items.get(index).map(|item| (index, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_up_to_the_break() {
        for count in [1, 3] {
            let items: Vec<u64> = (0..50).collect();
            let mut taken = Vec::new();
            in_order(
                &items,
                count,
                |item| item * 2,
                |item, result| {
                    taken.push((*item, result));
                    if *item == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                },
            );
            assert_eq!(taken, (0..=20).map(|item| (item, item * 2)).collect::<Vec<_>>());
        }
    }
}
