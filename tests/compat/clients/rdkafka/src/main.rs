//! The rdkafka crate (with the librdkafka that comes with it) as a client under test: see
//! harness/process.py for the protocol.

mod admin;
mod consumer;
mod lines;
mod producer;
mod transact;

use std::env;
use std::error::Error;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error>>;

const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["produce", bootstrap, topic] => producer::run(bootstrap, topic)?,
        ["consume", bootstrap, topic, group] => {
            consumer::run(bootstrap, topic, group, &env::var("GROUP_PROTOCOL")?)?;
        }
        ["transact", bootstrap, topic, id] => {
            transact::run(bootstrap, topic, id, &env::var("GROUP_PROTOCOL")?)?;
        }
        ["alone", bootstrap, topic, other] => admin::run(bootstrap, topic, other)?,
        other => return Err(format!("not a role with its arguments: {other:?}").into()),
    }
    lines::say(&json!({"event": "closed"}));
    Ok(())
}
