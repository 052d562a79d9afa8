//! The client against a scripted broker, over a network that delays and cuts into pieces.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{cell::RefCell, net::SocketAddr, path::Path, rc::Rc, time::Duration};

use bytes::Bytes;
use client::{AutoCreate, Connection, Error, Options};
use model::ErrorCode;
use runtime::{Errno, Instant, Listener, Runtime, Stream, TaskQueue};
use sim::{NetSettings, Settings, Simulation, Stop};
use wire::{
    api::ApiKey,
    api_versions_response::{ApiVersion, ApiVersionsResponse},
    frame,
    metadata_response::{MetadataResponse, MetadataResponseTopic},
};

/// What the broker does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Broker {
    Sound,
    /// Knows ApiVersions 0 alone.
    Old,
    /// Answers with another request's number.
    WrongCorrelation,
    /// Claims a frame of 2 GiB.
    HugeFrame,
    /// Closes instead of answering.
    Closing,
    /// Never answers.
    Silent,
}

async fn frame_of(stream: &Stream, runtime: &Runtime) -> Option<Bytes> {
    let head = stream.receive_exact(runtime.pool().take(4), 0, 4).await.ok()?;
    let size = usize::try_from(i32::from_be_bytes(head[..].try_into().ok()?)).unwrap();
    Some(stream.receive_exact(runtime.pool().take(size), 0, size).await.ok()?.freeze())
}

fn answer(broker: Broker, frame: &[u8]) -> Option<Bytes> {
    let (head, _) = frame::decode_request_header(frame).unwrap();
    let mut correlation_id = head.correlation_id;
    if head.key == ApiKey::ApiVersions {
        let known = broker != Broker::Old || head.version == 0;
        let version = if known { head.version } else { 0 };
        let error = if known { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
        let api_keys = vec![
            ApiVersion { api_key: ApiKey::Metadata.number(), min_version: 0, max_version: 9 },
            ApiVersion { api_key: 9_999, min_version: 0, max_version: 0 },
        ];
        let response =
            ApiVersionsResponse { error_code: error.code(), api_keys, ..Default::default() };
        return Some(
            frame::encode_response(correlation_id, version, &response).unwrap().into_bytes(),
        );
    }
    assert_eq!((head.key, head.version), (ApiKey::Metadata, 9));
    match broker {
        Broker::Sound | Broker::Old => {}
        Broker::WrongCorrelation => correlation_id += 1,
        Broker::HugeFrame => return Some(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff])),
        Broker::Closing | Broker::Silent => return None,
    }
    let topic = MetadataResponseTopic {
        name: Some("t"),
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        ..Default::default()
    };
    let response = MetadataResponse {
        controller_id: correlation_id,
        topics: vec![topic],
        ..Default::default()
    };
    Some(frame::encode_response(correlation_id, head.version, &response).unwrap().into_bytes())
}

async fn serve(runtime: Runtime, broker: Broker) -> Result<(), Errno> {
    let listener = Listener::bind(&runtime, "0.0.0.0:9092".parse().unwrap()).await?;
    let stream = listener.accept().await?;
    while let Some(frame) = frame_of(&stream, &runtime).await {
        match answer(broker, &frame) {
            Some(answer) => stream.send_all(vec![answer]).await?,
            None if broker == Broker::Silent => {}
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Runs `task` against a broker over an awkward network.
fn run<T: 'static>(
    seed: u64,
    broker: Broker,
    task: impl AsyncFn(Runtime, SocketAddr) -> T + 'static + Clone,
) -> T {
    let net = NetSettings {
        delay_ns: (1_000, 500_000),
        window_bytes: 64,
        partial_permille: 500,
        break_per_100k: 0,
    };
    let mut simulation = Simulation::new(seed, Settings { net, ..Settings::by_seed(seed) });
    let (server, client) =
        (simulation.add_node(Path::new("/a")), simulation.add_node(Path::new("/b")));
    let address = SocketAddr::from((Simulation::address(server), 9092));
    simulation.start(server, 1, |runtime| {
        let task = serve(runtime.clone(), broker);
        runtime.spawn("broker", TaskQueue::Foreground, async {
            let _ended = task.await;
        });
    });
    assert_ne!(simulation.run_until(Instant(10_000_000), || false), Stop::Spinning);
    let result = Rc::new(RefCell::new(None));
    simulation.start(client, 1, |runtime| {
        let (task, place, runtime_of_task) = (task.clone(), Rc::clone(&result), runtime.clone());
        runtime.spawn("client", TaskQueue::Foreground, async move {
            let value = task(runtime_of_task, address).await;
            *place.borrow_mut() = Some(value);
        });
    });
    let stop = simulation.run_until(Instant(100_000_000_000), || result.borrow().is_some());
    assert_eq!(stop, Stop::Condition);
    assert_eq!(simulation.violations(), Vec::<String>::new());
    result.take().unwrap()
}

async fn one_call(runtime: Runtime, address: SocketAddr) -> Result<(), Error> {
    let options = Options { request_timeout: Duration::from_secs(1), ..Options::default() };
    let connection = Connection::connect(&runtime, address, options).await?;
    let metadata = connection.metadata(Some(&["t"]), AutoCreate::Never).await?;
    assert_eq!(metadata.topics[0].name, "t");
    assert_eq!(metadata.topics[0].error_code, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(connection.version_of(ApiKey::Fetch), Err(Error::NoCommonVersion(ApiKey::Fetch)));
    Ok(())
}

#[test]
fn broken_brokers_give_typed_errors() {
    let cases = [
        (Broker::Sound, Ok(())),
        (Broker::Old, Ok(())),
        (Broker::WrongCorrelation, Err(Error::Closed)),
        (Broker::HugeFrame, Err(Error::Closed)),
        (Broker::Closing, Err(Error::Closed)),
        (Broker::Silent, Err(Error::TimedOut)),
    ];
    for seed in 0..20 {
        for (broker, expected) in cases {
            assert_eq!(run(seed, broker, one_call), expected, "seed {seed}");
        }
    }
}

#[test]
fn pipelined_calls_get_their_own_answers() {
    for seed in 0..20 {
        let numbers = run(seed, Broker::Sound, async |runtime: Runtime, address| {
            let options = Options::default();
            let connection = Connection::connect(&runtime, address, options).await.unwrap();
            let numbers = Rc::new(RefCell::new(Vec::new()));
            for _ in 0..50 {
                let (connection, numbers) = (connection.clone(), Rc::clone(&numbers));
                runtime.spawn("call", TaskQueue::Foreground, async move {
                    let metadata = connection.metadata(None, AutoCreate::Never).await.unwrap();
                    numbers.borrow_mut().push(metadata.controller_id);
                });
            }
            while numbers.borrow().len() < 50 {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            numbers.take()
        });
        // The scripted broker answers with the request's number.
        assert_eq!(numbers, (1..=50).collect::<Vec<i32>>(), "seed {seed}");
    }
}
