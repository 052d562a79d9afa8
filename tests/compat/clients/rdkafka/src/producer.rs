//! A producer for each codec; the offsets come with the delivery reports.

use std::collections::HashMap;
use std::sync::Mutex;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::{Value, json};

use crate::lines::{self, say};
use crate::{Outcome, TIMEOUT, admin, config};

/// What became of each record of the command that is being carried out.
#[derive(Default)]
struct Reports(Mutex<Vec<Result<i64, String>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let told = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        self.0.lock().expect("no holder panics")[index] = told;
    }
}

pub(crate) fn run(bootstrap: &str, topic: &str) -> Outcome<()> {
    let mut producers: HashMap<String, BaseProducer<Reports>> = HashMap::new();
    for command in lines::commands() {
        match lines::what(&command) {
            "create" => {
                admin::create(bootstrap, topic, lines::number(&command, "partitions")?, &[])?;
                say(&json!({"event": "created"}));
            }
            "produce" => {
                let codec = command["codec"].as_str().unwrap_or_default();
                if !producers.contains_key(codec) {
                    producers.insert(codec.to_owned(), producer(bootstrap, codec)?);
                }
                let offsets = send(&producers[codec], topic, &command)?;
                say(&json!({"event": "produced", "offsets": offsets}));
            }
            _ => break,
        }
    }
    Ok(())
}

fn producer(bootstrap: &str, codec: &str) -> Outcome<BaseProducer<Reports>> {
    let mut config = config(bootstrap);
    config.set("compression.type", codec).set("linger.ms", "5");
    // One of them with sequence numbers, the others as the client is by default.
    config.set("enable.idempotence", if codec == "zstd" { "true" } else { "false" });
    Ok(config.create_with_context(Reports::default())?)
}

fn send(producer: &BaseProducer<Reports>, topic: &str, command: &Value) -> Outcome<Vec<i64>> {
    let records = command["records"].as_array().ok_or("no records")?;
    *producer.context().0.lock().expect("no holder panics") =
        vec![Err("not told of".to_owned()); records.len()];
    for (index, record) in records.iter().enumerate() {
        let (key, value) = (lines::decode(&record["key"])?, lines::decode(&record["value"])?);
        let mut headers = OwnedHeaders::new();
        for header in record["headers"].as_array().ok_or("no headers")? {
            let value = lines::decode(&header[1])?;
            headers = headers.insert(Header {
                key: header[0].as_str().unwrap_or_default(),
                value: value.as_ref(),
            });
        }
        let mut sent: BaseRecord<'_, Vec<u8>, Vec<u8>, usize> =
            BaseRecord::with_opaque_to(topic, index)
                .partition(lines::number(record, "partition")?)
                .timestamp(lines::number(record, "timestamp")?)
                .headers(headers);
        if let Some(key) = &key {
            sent = sent.key(key);
        }
        if let Some(value) = &value {
            sent = sent.payload(value);
        }
        producer.send(sent).map_err(|(error, _)| error)?;
    }
    producer.flush(TIMEOUT)?;
    let told = std::mem::take(&mut *producer.context().0.lock().expect("no holder panics"));
    Ok(told.into_iter().collect::<Result<_, _>>()?)
}
