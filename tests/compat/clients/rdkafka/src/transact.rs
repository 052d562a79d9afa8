//! A producer with a transactional id, which also copies and reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::lines::{self, say};
use crate::{Outcome, POLL, TIMEOUT, config};

/// A partition and a text.
type Values = Vec<(i32, String)>;

/// What was refused.
#[derive(Default)]
struct Refused(Mutex<Vec<String>>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no holder panics").push(error.to_string());
        }
    }
}

pub(crate) fn run(bootstrap: &str, topic: &str, id: &str, protocol: &str) -> Outcome<()> {
    let producer: BaseProducer<Refused> = config(bootstrap)
        .set("transactional.id", id)
        .set("linger.ms", "5")
        .create_with_context(Refused::default())?;
    producer.init_transactions(TIMEOUT)?;
    say(&json!({"event": "ready"}));
    let mut copier: Option<BaseConsumer> = None;
    for command in lines::commands() {
        match lines::what(&command) {
            "close" => break,
            "begin" => {
                producer.begin_transaction()?;
                say(&json!({"event": "begun"}));
            }
            "send" => {
                let values = serde_json::from_value(command["values"].clone())?;
                send(&producer, text(&command, "topic")?, &values)?;
                say(&json!({"event": "sent"}));
            }
            "copy" => {
                let group = text(&command, "group")?;
                let consumer = reader(bootstrap, group, "read_committed", protocol)?;
                let copied = copy(&producer, &consumer, topic, &command)?;
                copier = Some(consumer);
                say(&json!({"event": "copied", "values": copied}));
            }
            "read" => {
                let consumer = reader(bootstrap, "reads", text(&command, "level")?, "classic")?;
                say(&json!({"event": "read", "values": read(&consumer, topic, &command)?}));
            }
            outcome => {
                say(&json!({"event": end(&producer, outcome)?}));
                // It leaves its group.
                copier = None;
            }
        }
    }
    drop(copier);
    Ok(())
}

fn text<'a>(command: &'a Value, field: &str) -> Outcome<&'a str> {
    command[field].as_str().ok_or_else(|| format!("no {field} in {command}").into())
}

fn end(producer: &BaseProducer<Refused>, outcome: &str) -> Outcome<&'static str> {
    let ended = match outcome {
        "commit" => producer.commit_transaction(TIMEOUT),
        _ => producer.abort_transaction(TIMEOUT),
    };
    match ended {
        Ok(()) => Ok("ended"),
        Err(KafkaError::Transaction(error))
            if matches!(
                error.code(),
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            ) =>
        {
            Ok("fenced")
        }
        Err(error) => Err(error.into()),
    }
}

fn send(producer: &BaseProducer<Refused>, topic: &str, values: &Values) -> Outcome<()> {
    for (partition, text) in values {
        let record: BaseRecord<'_, (), str> =
            BaseRecord::to(topic).partition(*partition).payload(text);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(TIMEOUT)?;
    let refused = std::mem::take(&mut *producer.context().0.lock().expect("no holder panics"));
    if refused.is_empty() { Ok(()) } else { Err(format!("{refused:?}").into()) }
}

fn reader(bootstrap: &str, group: &str, level: &str, protocol: &str) -> Outcome<BaseConsumer> {
    let mut config = config(bootstrap);
    config.set("group.id", group).set("auto.offset.reset", "earliest");
    config.set("enable.auto.commit", "false").set("group.protocol", protocol);
    Ok(config.set("isolation.level", level).create()?)
}

fn copy(
    producer: &BaseProducer<Refused>,
    consumer: &BaseConsumer,
    topic: &str,
    command: &Value,
) -> Outcome<Values> {
    let (source, count) = (text(command, "source")?, lines::number::<usize>(command, "count")?);
    consumer.subscribe(&[source])?;
    let (mut copied, mut positions) = (Values::new(), BTreeMap::new());
    while copied.len() < count {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        let text = message.payload_view::<str>().ok_or("no value")??;
        copied.push((message.partition(), text.to_owned()));
        positions.insert(message.partition(), message.offset() + 1);
    }
    send(producer, topic, &copied)?;
    let mut offsets = TopicPartitionList::new();
    for (partition, position) in positions {
        offsets.add_partition_offset(source, partition, Offset::Offset(position))?;
    }
    let metadata = consumer.group_metadata().ok_or("no group")?;
    producer.send_offsets_to_transaction(&offsets, &metadata, TIMEOUT)?;
    Ok(copied)
}

fn read(consumer: &BaseConsumer, topic: &str, command: &Value) -> Outcome<Values> {
    let (partitions, until) =
        (lines::number::<i32>(command, "partitions")?, text(command, "until")?);
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut values, mut left) = (Values::new(), (0..partitions).collect::<BTreeSet<_>>());
    while !left.is_empty() {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        if left.contains(&message.partition()) {
            let text = message.payload_view::<str>().ok_or("no value")??;
            values.push((message.partition(), text.to_owned()));
            if text == until {
                left.remove(&message.partition());
            }
        }
    }
    Ok(values)
}
