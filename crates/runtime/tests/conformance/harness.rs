//! Runs a test on each driver, with a limit on its time.

use std::{future::Future, io, pin::pin, task::Poll, time::Duration};

use runtime::{
    BufferPool, Driver, Endpoint, Executor, Injector, Runtime, ShardIndex, SyncDriver, UringDriver,
    mesh,
};

/// No test takes so long, but one that hangs.
const TIME_MAX: Duration = Duration::from_secs(60);
const POOL_BYTES: usize = 16 << 20;

pub type Open = fn(Endpoint, BufferPool) -> io::Result<Box<dyn Driver>>;

/// The drivers under test.
pub fn drivers() -> Vec<(&'static str, Open)> {
    let all: [(&'static str, Open); 2] = [
        ("sync", |endpoint, pool| Ok(Box::new(SyncDriver::new(endpoint, pool)?))),
        ("uring", |endpoint, pool| Ok(Box::new(UringDriver::new(endpoint, pool)?))),
    ];
    all.into_iter().filter(|(name, open)| is_available(name, *open)).collect()
}

fn is_available(name: &str, open: Open) -> bool {
    let (mut endpoints, _) = mesh(1).unwrap();
    match open(endpoints.remove(0), BufferPool::new(0)) {
        Ok(_) => true,
        Err(error) => {
            eprintln!("driver {name} is not available here: {error}");
            assert_eq!(name, "uring", "the fallback has to run everywhere");
            false
        }
    }
}

/// One shard alone.
pub fn executor(open: Open, pool: BufferPool) -> Executor {
    let (mut endpoints, _) = mesh(1).unwrap();
    let driver = open(endpoints.remove(0), pool).unwrap();
    Executor::new(ShardIndex(0), 1, driver)
}

/// Runs `test` on one shard of each driver.
pub fn on_each_driver<F: Future<Output = ()> + 'static>(test: fn(Runtime) -> F) {
    for (name, open) in drivers() {
        eprintln!("driver {name}");
        run(&mut executor(open, BufferPool::new(POOL_BYTES)), test);
    }
}

/// Runs `test` to its end, other tasks beside it.
pub fn run<F: Future<Output = ()> + 'static>(
    executor: &mut Executor,
    test: impl FnOnce(Runtime) -> F,
) {
    let runtime = executor.runtime();
    let test = test(runtime.clone());
    executor.block_on(async move {
        let deadline = runtime.now() + TIME_MAX;
        runtime.deadline(deadline, test).await.expect("the test hangs");
    });
}

/// The drivers of a mesh's shards, which take turns: each driver alone, and all together, as when
/// the locked memory is enough for the rings of some shards.
fn mixtures() -> Vec<Vec<(&'static str, Open)>> {
    let drivers = drivers();
    let mut mixtures: Vec<_> = drivers.iter().map(|driver| vec![*driver]).collect();
    if drivers.len() > 1 {
        mixtures.push(drivers);
    }
    mixtures
}

/// Runs `test` on each of `shard_count` threads, for each driver; `outside` runs beside them with
/// the way in.
pub fn on_each_mesh<F: Future<Output = ()> + 'static>(
    shard_count: u16,
    test: fn(Runtime) -> F,
    outside: fn(&Injector),
) {
    for mixture in mixtures() {
        let (endpoints, injector) = mesh(shard_count).unwrap();
        let threads: Vec<_> = endpoints
            .into_iter()
            .zip(mixture.into_iter().cycle())
            .map(|(endpoint, (name, open))| {
                eprintln!("{:?} on driver {name}", endpoint.shard());
                std::thread::spawn(move || {
                    let shard = endpoint.shard();
                    let driver = open(endpoint, BufferPool::new(POOL_BYTES)).unwrap();
                    run(&mut Executor::new(shard, shard_count, driver), test);
                })
            })
            .collect();
        outside(&injector);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

/// Waits for both.
pub async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(value) = one.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = other.as_mut().poll(context)
        {
            second = Some(value);
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.unwrap(), second.unwrap())
}

/// Starts `future` and drops it before its end: it has to be waiting by then.
pub async fn start_and_drop(future: impl Future) {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it should have to wait");
        Poll::Ready(())
    })
    .await;
}

/// Lets the driver turn a few times.
pub async fn turns(runtime: &Runtime) {
    for _ in 0..3 {
        runtime.sleep(Duration::from_micros(100)).await;
    }
}

/// `length` bytes that differ from their neighbours and from those of another seed.
pub fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap().wrapping_add(seed)).collect()
}
