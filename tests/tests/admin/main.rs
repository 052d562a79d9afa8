//! What administrators ask, in every version that is offered, against the real binary: what comes
//! back, and what is refused.

mod cluster;
mod groups;
mod hanging;
mod metrics;
mod producers;
mod settings;
mod slow;
mod telemetry;
mod topics;

use tests::{broker_process::BrokerProcess, raw_client::RawClient};

/// A broker, and a connection to it.
fn broker() -> (BrokerProcess, RawClient) {
    let broker = BrokerProcess::start("uring", &["num.partitions=3"]);
    let client = RawClient::connect(broker.address());
    (broker, client)
}
