//! Claims that nothing stands behind: they cost next to nothing, and others are served meanwhile.

use tests::{
    broker_process::BrokerProcess,
    raw_client::{RawClient, batch},
};
use wire::{produce_request::ProduceRequest, produce_request::TopicProduceData};

use super::{DRIVERS, MIB};

const CONNECTIONS: usize = 800;
/// What they may cost together.
const GROWTH_MAX: u64 = 64 * MIB;

#[test]
fn eight_hundred_claims_of_large_frames_cost_little_and_others_are_served() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        good.create_topic("good");
        assert_eq!(good.produce("good", &batch(&[b"first"])), (0, 0));
        let before = broker.resident_bytes();
        let mut offset = 0;
        for (claim, trickled) in [(90_u32 << 20, 0), (1 << 20, 0), (1 << 20, 3), (90 << 20, 3)] {
            let sockets = broker.socket_count();
            let mut claimants: Vec<RawClient> =
                (0..CONNECTIONS).map(|_| RawClient::connect(broker.address())).collect();
            for claimant in &mut claimants {
                claimant.send(&claim.to_be_bytes()).unwrap();
            }
            for _ in 0..trickled {
                // One byte at a time: the key of a produce, which may be large.
                for claimant in &mut claimants {
                    claimant.send(&[0]).unwrap();
                }
            }
            good.ping();
            let value = format!("after {offset}");
            offset += 1;
            assert_eq!(good.produce("good", &batch(&[value.as_bytes()])), (0, offset));
            // A newcomer is served as well, and its answer comes after what was sent before.
            RawClient::connect(broker.address()).ping();
            let growth = broker.resident_bytes().saturating_sub(before);
            println!(
                "{driver}: {CONNECTIONS} claims of {} MiB with {trickled} bytes behind: {} KiB",
                u64::from(claim) / MIB,
                growth >> 10,
            );
            assert!(growth < GROWTH_MAX, "{driver}, {claim} and {trickled}: {growth} bytes more");
            drop(claimants);
            broker.wait_for_sockets(sockets);
        }
        assert_eq!(good.fetch_all("good").len(), 5);
        broker.check_sound();
    }
}

#[test]
fn a_large_produce_of_tiny_topics_costs_little() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        good.ping();
        let before = broker.resident_bytes();
        // Three bytes on the wire each, and dozens in memory.
        let topic_data = vec![TopicProduceData::default(); 10 << 20];
        let request = ProduceRequest { acks: -1, topic_data, ..Default::default() };
        let frame = tests::raw_client::framed(9, &request);
        let mut bad = RawClient::connect(broker.address());
        bad.send(&frame).unwrap();
        let received = bad.receive(tests::broker_process::PATIENCE);
        assert_eq!(received, tests::raw_client::Received::Closed, "{driver}");
        let growth = broker.resident_bytes().saturating_sub(before);
        println!(
            "{driver}: {} MiB that name topics of no name: {} KiB",
            frame.len() >> 20,
            growth >> 10
        );
        assert!(growth < 2 * GROWTH_MAX, "{driver}: {growth} bytes more");
        good.ping();
        broker.check_sound();
    }
}
