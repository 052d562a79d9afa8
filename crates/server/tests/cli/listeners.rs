//! More than one listener: clients of each network are told of the address that is theirs.

use std::net::TcpListener;

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, odradek, refusal};

const PROTOCOLS: &str =
    "listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT";

/// Ports that nobody had a moment ago.
fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn prints(address: &str, words: &[&str]) -> String {
    let output = odradek(words).args(["--bootstrap-server", address]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn clients_of_each_listener_are_told_its_own_address() {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        let [inside, outside] = free_ports();
        // Nobody is reached at an address that starts with 127.0.0.2 or 127.0.0.3 but through
        // the listener that is told it.
        let settings = [
            PROTOCOLS.to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            "inter.broker.listener.name=INSIDE".to_owned(),
            format!("listeners=INSIDE://:{inside},CONTROLLER://:9093,OUTSIDE://:{outside}"),
            format!(
                "advertised.listeners=OUTSIDE://127.0.0.3:{outside},INSIDE://127.0.0.2:{inside}"
            ),
            "admin.listen=none".to_owned(),
        ];
        let mut command = odradek(&["start", "--shards", "2", "--driver", driver, "--data-dir"]);
        command.arg(directory.path());
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let broker = Broker::start(command);
        assert_eq!(broker.says("listen"), format!("0.0.0.0:{inside},0.0.0.0:{outside}"));
        for (port, told) in [(inside, "127.0.0.2"), (outside, "127.0.0.3")] {
            let address = format!("127.0.0.1:{port}");
            // Written and read through the address that the broker tells.
            let topic = format!("by-{told}");
            prints(&address, &["topic", "create", &topic]);
            let described = prints(&address, &["topic", "describe", &topic, "--format", "json"]);
            let described: Value = serde_json::from_str(&described).unwrap();
            assert_eq!(described[0]["end_offset"], 0, "{described}");
            assert_eq!(advertised(port), (told.to_owned(), i32::from(port)), "{driver}");
        }
        let settings =
            prints(&format!("127.0.0.1:{inside}"), &["config", "describe", "broker", "1"]);
        let listeners = format!("INSIDE://0.0.0.0:{inside},OUTSIDE://0.0.0.0:{outside}");
        assert!(settings.contains(&listeners), "{settings}");
        broker.signal("TERM");
        let (status, _, stderr) = broker.end();
        assert!(status.success() && !stderr.contains("do nothing"), "{stderr}");
    }
}

/// What a client that came by this port is told.
fn advertised(port: u16) -> (String, i32) {
    let (mut endpoints, _injector) = runtime::mesh(1).unwrap();
    let pool = runtime::BufferPool::new(1 << 20);
    let preference = runtime::DriverPreference::Sync;
    let (driver, _) = runtime::open_driver(preference, endpoints.pop().unwrap(), pool).unwrap();
    let mut executor = runtime::Executor::new(runtime::ShardIndex(0), 1, driver);
    let runtime = executor.runtime();
    executor.block_on(async move {
        let address = ([127, 0, 0, 1], port).into();
        let connection =
            client::Connection::connect(&runtime, address, client::Options::default()).await;
        let asked = connection.unwrap();
        let metadata = asked.metadata(Some(&[]), client::AutoCreate::Never).await.unwrap();
        let [broker] = &metadata.brokers[..] else { panic!("{metadata:?}") };
        (broker.host.clone(), broker.port)
    })
}

#[test]
fn a_second_listener_whose_port_is_taken_is_refused() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, [free, _]) = (taken.local_addr().unwrap().port(), free_ports());
    let listeners = format!("listeners=INSIDE://127.0.0.1:{free},OUTSIDE://127.0.0.1:{taken}");
    let mut command = odradek(&["start", "--set", PROTOCOLS, "--set", &listeners, "--data-dir"]);
    command.arg(directory.path());
    let line = refusal(command);
    assert!(line.contains(&taken.to_string()) && line.contains("in use"), "{line}");
}
