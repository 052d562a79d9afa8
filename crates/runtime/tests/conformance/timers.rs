//! Time.

use std::{cell::RefCell, rc::Rc, time::Duration};

use runtime::TaskQueue;

use crate::harness::on_each_driver;

#[test]
fn a_sleep_is_never_short_and_finer_than_a_millisecond() {
    on_each_driver(|runtime| async move {
        let wanted = Duration::from_micros(200);
        let mut shortest = Duration::MAX;
        let mut tries = 0;
        // On a busy machine most are late; one in time proves the precision.
        while shortest >= Duration::from_micros(900) {
            tries += 1;
            assert!(tries < 5_000, "the best of {tries} took {shortest:?}");
            let start = runtime.now();
            runtime.sleep(wanted).await;
            let took = runtime.now().since(start);
            assert!(took >= wanted, "{took:?}");
            shortest = shortest.min(took);
        }
    });
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    on_each_driver(|runtime| async move {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let start = runtime.now();
        for index in [3u64, 1, 4, 0, 2] {
            let (runtime_of_task, ended) = (runtime.clone(), Rc::clone(&ended));
            runtime.spawn("sleeper", TaskQueue::Foreground, async move {
                runtime_of_task.sleep_until(start + Duration::from_millis(5 + index)).await;
                ended.borrow_mut().push(index);
            });
        }
        runtime.sleep_until(start + Duration::from_millis(20)).await;
        assert_eq!(*ended.borrow(), [0, 1, 2, 3, 4]);
    });
}

#[test]
fn a_deadline_ends_a_wait_but_not_what_is_ready() {
    on_each_driver(|runtime| async move {
        let now = runtime.now();
        assert_eq!(runtime.deadline(now, async { 7 }).await, Ok(7));
        let never = std::future::pending::<()>();
        assert!(runtime.deadline(now + Duration::from_millis(1), never).await.is_err());
    });
}

#[test]
fn the_wall_clock_and_chance_are_the_system_s() {
    on_each_driver(|runtime| async move {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let difference = i128::from(runtime.wall_clock_ms()) - i128::try_from(now).unwrap();
        assert!(difference.abs() < 60_000, "{difference} ms");
        assert_ne!(runtime.random(), runtime.random());
    });
}
