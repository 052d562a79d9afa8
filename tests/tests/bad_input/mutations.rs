//! Broken frames over a socket, between traffic that has to go on.

use std::{env, time::Duration};

use tests::{
    broker_process::BrokerProcess,
    random::Random,
    raw_client::{RawClient, Received, batch},
};

use super::{DRIVERS, MIB, samples};

/// How many broken frames, unless `ODRADEK_SOCKET_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 10_000;
/// After so many of them a good client is served.
const GOOD_EVERY: u64 = 500;
/// How long an answer is waited for: some requests are those of a patient consumer.
const PATIENCE: Duration = Duration::from_millis(20);
/// What the broker may take more than before, with all that the broken requests created.
const GROWTH_MAX: u64 = 256 * MIB;

#[test]
fn broken_frames_over_a_socket_harm_nobody() {
    let name = "ODRADEK_SOCKET_MUTATIONS";
    let count = env::var(name).map_or(MUTATIONS, |text| text.parse().unwrap());
    let frames = samples::frames();
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["odradek.client.telemetry=true"]);
        let mut good = RawClient::connect(broker.address());
        good.create_topic("good");
        good.create_topic(samples::TOPIC);
        let before = broker.resident_bytes();
        let mut expected = Vec::new();
        let (mut answered, mut closed) = (0, 0);
        let mut bad = RawClient::connect(broker.address());
        for seed in 0..count {
            if seed % GOOD_EVERY == 0 {
                let offset = i64::try_from(expected.len()).unwrap();
                let value = format!("good {offset}").into_bytes();
                assert_eq!(good.produce("good", &batch(&[&value])), (0, offset), "#{seed}");
                expected.push((offset, value));
            }
            let mut random = Random::new(seed);
            let mut frame = random.pick(&frames).clone();
            random.mutate(&mut frame);
            let mut bytes = u32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
            bytes.extend(frame);
            let sent = bad.send(&bytes).is_ok();
            match if sent { bad.receive(PATIENCE) } else { Received::Closed } {
                Received::Frame(_) => {
                    answered += 1;
                    continue;
                }
                Received::Closed => closed += 1,
                Received::Silence => {}
            }
            bad = RawClient::connect(broker.address());
        }
        assert_eq!(good.fetch_all("good"), expected);
        let growth = broker.resident_bytes().saturating_sub(before);
        println!(
            "{driver}: {count} broken frames: {answered} answered, {closed} closed, {} MiB",
            growth / MIB,
        );
        assert!(growth < GROWTH_MAX, "{driver}: {growth} bytes more");
        assert!(answered > count / 20 && closed > count / 20, "{answered} and {closed}");
        broker.check_sound();
    }
}
