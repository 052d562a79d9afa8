//! The administrator of a topic, and a reader that seeks by time.

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use crate::lines::{self, say, say_record};
use crate::{Outcome, POLL, TIMEOUT, config};

fn client(bootstrap: &str) -> Outcome<AdminClient<DefaultClientContext>> {
    Ok(config(bootstrap).create()?)
}

pub(crate) fn create(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Outcome<()> {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    for outcome in block_on(client(bootstrap)?.create_topics([&new], &AdminOptions::new()))? {
        outcome.map_err(|(topic, code)| format!("{topic} was not created: {code}"))?;
    }
    Ok(())
}

pub(crate) fn run(bootstrap: &str, topic: &str, other: &str) -> Outcome<()> {
    let client = client(bootstrap)?;
    for command in lines::commands() {
        match lines::what(&command) {
            "create" => {
                create(bootstrap, other, lines::number(&command, "partitions")?, &pairs(&command))?;
                say(&json!({"event": "created"}));
            }
            "list" => {
                let metadata = client.inner().fetch_metadata(None, TIMEOUT)?;
                let names: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
                say(&json!({"event": "listed", "topics": names}));
            }
            "describe" => describe(&client, other, &command)?,
            "alter" => {
                let mut change = AlterConfig::new(ResourceSpecifier::Topic(other));
                for (name, value) in pairs(&command) {
                    change = change.set(name, value);
                }
                for outcome in block_on(client.alter_configs([&change], &AdminOptions::new()))? {
                    outcome.map_err(|(_, code)| format!("{other} was not altered: {code}"))?;
                }
                say(&json!({"event": "altered"}));
            }
            "delete" => {
                for outcome in block_on(client.delete_topics(&[other], &AdminOptions::new()))? {
                    outcome.map_err(|(topic, code)| format!("{topic} was not deleted: {code}"))?;
                }
                say(&json!({"event": "deleted"}));
            }
            "seek" => say(&json!({"event": "sought", "offset": seek(bootstrap, topic, &command)?})),
            _ => break,
        }
    }
    Ok(())
}

fn pairs(command: &Value) -> Vec<(&str, &str)> {
    let settings = command["settings"].as_object().into_iter().flatten();
    settings.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

fn describe(
    client: &AdminClient<DefaultClientContext>,
    other: &str,
    command: &Value,
) -> Outcome<()> {
    let metadata = client.inner().fetch_metadata(Some(other), TIMEOUT)?;
    let partitions = metadata.topics().first().map(|topic| topic.partitions().len());
    let mut settings = Map::new();
    for resource in
        block_on(client.describe_configs([&ResourceSpecifier::Topic(other)], &AdminOptions::new()))?
    {
        let resource = resource.map_err(|code| format!("{other} was not described: {code}"))?;
        for name in command["settings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let entry = resource.get(name).ok_or_else(|| format!("no setting {name}"))?;
            settings.insert(name.to_owned(), json!(entry.value));
        }
    }
    say(&json!({"event": "described", "partitions": partitions, "settings": settings}));
    Ok(())
}

/// The offset of the time, if a record is so late; says what it read from there on.
fn seek(bootstrap: &str, topic: &str, command: &Value) -> Outcome<Option<i64>> {
    let consumer: BaseConsumer =
        config(bootstrap).set("group.id", "alone").set("enable.auto.commit", "false").create()?;
    let partition = lines::number(command, "partition")?;
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(
        topic,
        partition,
        Offset::Offset(lines::number(command, "timestamp")?),
    )?;
    let found = consumer.offsets_for_times(asked, TIMEOUT)?;
    let found = found.find_partition(topic, partition).ok_or("not told of the partition")?;
    found.error()?;
    let Offset::Offset(offset) = found.offset() else { return Ok(None) };
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    // A partition can be sought in when it is being fetched.
    while consumer.poll(POLL).transpose()?.is_none() {}
    consumer.seek(topic, partition, Offset::Offset(offset), TIMEOUT)?;
    let mut left: usize = lines::number(command, "count")?;
    while left > 0 {
        if let Some(message) = consumer.poll(POLL).transpose()? {
            say_record(&message);
            left -= 1;
        }
    }
    Ok(Some(offset))
}
