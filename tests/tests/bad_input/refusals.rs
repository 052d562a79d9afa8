//! Frames that are no requests: an error or a close, at once, and nothing else happens.

use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, batch, framed, produce_request},
};
use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};

use super::DRIVERS;

/// Bytes of a connection, with the size that is put before them where it is not part of the case.
struct Case {
    name: &'static str,
    size: Option<i32>,
    bytes: &'static [u8],
}

/// Each ends its connection.
const CLOSED: &[Case] = &[
    Case { name: "2 GiB", size: Some(i32::MAX), bytes: b"" },
    Case { name: "above socket.request.max.bytes", size: Some(104_857_601), bytes: b"" },
    Case { name: "a negative size", size: Some(-1), bytes: b"" },
    Case { name: "the most negative size", size: Some(i32::MIN), bytes: b"" },
    Case { name: "an empty frame", size: None, bytes: b"" },
    Case { name: "one byte", size: None, bytes: b"\0" },
    Case { name: "an unknown API", size: None, bytes: b"\x03\xe7\0\0\0\0\0\x01\xff\xff" },
    Case { name: "a negative version", size: None, bytes: b"\0\x03\xff\xff\0\0\0\x01\xff\xff" },
    Case { name: "a version not offered", size: None, bytes: b"\0\x03\0\x63\0\0\0\x01\xff\xff\0" },
    Case {
        name: "a client id beyond the frame",
        size: None,
        bytes: b"\0\x03\0\x01\0\0\0\x01\x7f\xff",
    },
    Case {
        name: "the seven bytes that ask for two billion topics",
        size: None,
        bytes: b"\0\x03\0\x0c\0\0\0\x01\xff\xff\0\xff\xff\xff\xff\x07\x01\0",
    },
    Case {
        name: "a count of 2^31-1",
        size: None,
        bytes: b"\0\x03\0\x01\0\0\0\x01\xff\xff\x7f\xff\xff\xff",
    },
    Case {
        name: "a count of 2^31-1 in a produce",
        size: None,
        bytes: b"\0\0\0\x03\0\0\0\x01\xff\xff\xff\xff\xff\xff\0\0\0\0\x7f\xff\xff\xff",
    },
    Case {
        name: "tagged fields without end",
        size: None,
        bytes: b"\0\x03\0\x0c\0\0\0\x01\xff\xff\xff\xff\xff\xff\x0f\x01\x01",
    },
    Case { name: "HTTP", size: None, bytes: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" },
    Case { name: "HTTP without a size", size: Some(0x4745_5420), bytes: b"/ HTTP/1.1\r\n\r\n" },
    Case { name: "a large metadata request", size: Some(9 << 20), bytes: b"\0\x03" },
    Case { name: "a large unknown request", size: Some(9 << 20), bytes: b"\x03\xe7" },
];

#[test]
fn what_is_no_request_ends_its_connection_and_no_other() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        for after_valid_traffic in [false, true] {
            for case in CLOSED {
                let mut bad = RawClient::connect(broker.address());
                if after_valid_traffic {
                    bad.ping();
                }
                let size = case.size.unwrap_or_else(|| i32::try_from(case.bytes.len()).unwrap());
                let bytes = [&size.to_be_bytes(), case.bytes].concat();
                bad.send(&bytes).unwrap();
                assert_eq!(bad.receive(PATIENCE), Received::Closed, "{driver}: {}", case.name);
                good.ping();
            }
        }
        println!("{driver}: {} frames that end their connection", 2 * CLOSED.len());
        broker.check_sound();
    }
}

#[test]
fn large_requests_that_clients_have_reason_to_send_are_answered() {
    for driver in DRIVERS {
        let broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        good.create_topic("good");
        // Members with long lists of topics.
        let metadata = vec![0; 4 << 20];
        let protocol = JoinGroupRequestProtocol { name: "range", metadata: &metadata };
        let join = JoinGroupRequest {
            group_id: "group",
            session_timeout_ms: 6000,
            rebalance_timeout_ms: 6000,
            protocol_type: "consumer",
            protocols: vec![protocol],
            ..Default::default()
        };
        let _member = good.ask(5, &join);
        // A produce is told that it is too large, however large it is.
        let value = vec![7; 20 << 20];
        assert_eq!(good.produce("good", &batch(&[&value])).0, 10, "{driver}");
        assert_eq!(good.produce("good", &batch(&[b"small"])), (0, 0), "{driver}");
        let pipelined = framed(9, &produce_request("good", Some(&batch(&[b"next"])))).repeat(20);
        good.send(&pipelined).unwrap();
        for _ in 0..20 {
            assert!(matches!(good.receive(PATIENCE), Received::Frame(_)), "{driver}");
        }
        assert_eq!(good.fetch_all("good").len(), 21, "{driver}");
    }
}
