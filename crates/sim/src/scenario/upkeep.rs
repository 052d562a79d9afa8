//! What administrators do to topics in use: they delete records by request and change settings.

use std::time::Duration;

use client::{Client, Connection, Error, FetchOptions, OffsetSpec, Position};
use model::{ErrorCode, Offset};
use wire::{
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
};

use super::{clients::Workload, history::Partition, plan::TopicPlan, topics::TIMEOUT};
use crate::Rng;

/// Of the resources that have settings, topics.
const TOPIC_RESOURCE: i8 = 2;
/// Between two requests, at most.
const PAUSE_MS_MAX: u64 = 150;
/// Of 1,000 deletions so many go up to the high watermark.
const TO_THE_END_PERMILLE: u32 = 100;

impl Workload {
    /// Deletes records over and over, and looks whether they have gone.
    pub(crate) async fn trim(self, partition: Partition, mut rng: Rng) {
        let client = self.client("trimmer");
        while !self.stop.get() {
            let connection = self.connect(&client).await;
            if let Err(error) = self.trim_once(&connection, &partition, &mut rng).await {
                self.refuse_nonsense("deleting records", error);
                self.pause().await;
            }
            self.runtime.sleep(Duration::from_millis(rng.below(PAUSE_MS_MAX))).await;
        }
    }

    async fn trim_once(
        &self,
        connection: &Connection,
        partition: &Partition,
        rng: &mut Rng,
    ) -> Result<(), Error> {
        let (topic, number) = partition;
        let floor = self.deleted_up_to(partition);
        let start = connection.list_offset(topic, *number, OffsetSpec::Earliest).await?;
        let start = start.unwrap_or_default().0;
        if start < floor {
            self.complain(format!("{partition:?} starts at {start}: deleted up to {floor}"));
        }
        self.look_below(connection, partition, floor).await?;
        let end = connection.list_offset(topic, *number, OffsetSpec::Latest).await?;
        let end = end.unwrap_or_default().0;
        if end <= start {
            return Ok(());
        }
        let to_end = rng.chance(TO_THE_END_PERMILLE);
        let length = u64::try_from(end - start).unwrap_or(1);
        // Mostly a little, so that there is something left to keep.
        let some = i64::try_from(rng.below(length / 4 + 1)).unwrap_or(0);
        let offset = if to_end { end } else { start + some };
        self.ask(partition, offset);
        let low = delete_records(connection, partition, offset).await?;
        self.operation();
        if low < offset {
            self.complain(format!("{partition:?}: deleted up to {low} instead of {offset}"));
        }
        self.note_deleted(partition, offset);
        self.look_below(connection, partition, offset).await
    }

    fn ask(&self, partition: &Partition, offset: i64) {
        let mut history = self.history.borrow_mut();
        let start = history.starts.entry(partition.clone()).or_default();
        start.asked = start.asked.max(offset);
    }

    fn note_deleted(&self, partition: &Partition, offset: i64) {
        let mut history = self.history.borrow_mut();
        history.counts.deletions += 1;
        let start = history.starts.entry(partition.clone()).or_default();
        start.acked = start.acked.max(offset);
    }

    fn note_altered(&self, topic: &str, name: &str, value: &str) {
        let mut history = self.history.borrow_mut();
        history.counts.settings_altered += 1;
        history.settings.insert((topic.to_owned(), name.to_owned()), value.to_owned());
    }

    fn deleted_up_to(&self, partition: &Partition) -> i64 {
        self.history.borrow().starts.get(partition).map_or(0, |start| start.acked)
    }

    /// What lies below an offset has gone.
    async fn look_below(
        &self,
        connection: &Connection,
        partition: &Partition,
        offset: i64,
    ) -> Result<(), Error> {
        if offset == 0 {
            return Ok(());
        }
        let below = Offset(offset - 1);
        let position =
            Position { topic: partition.0.clone(), partition: partition.1, offset: below };
        let options = FetchOptions { max_wait: Duration::ZERO, ..FetchOptions::default() };
        let fetched = connection.fetch(std::slice::from_ref(&position), options).await?;
        let fetched = fetched.first().ok_or(Error::Nonsense("an empty answer"))?;
        if fetched.error_code == ErrorCode::OffsetOutOfRange {
            return Ok(());
        }
        Error::check(fetched.error_code.code())?;
        self.complain(format!("{partition:?}: {below} is served, and was deleted"));
        Ok(())
    }

    /// Changes the settings of a topic, over and over.
    pub(crate) async fn alter(self, topic: TopicPlan, mut rng: Rng) {
        let client = self.client("alterer");
        let changes = topic.role.changes();
        while !self.stop.get() {
            let (name, values) = &changes[rng.index(changes.len())];
            let value = &values[rng.index(values.len())];
            loop {
                let connection = self.connect(&client).await;
                match alter_setting(&connection, topic.name, (name, value)).await {
                    Ok(()) => break,
                    Err(error) => {
                        self.refuse_nonsense("IncrementalAlterConfigs", error);
                        self.pause().await;
                    }
                }
                if self.stop.get() {
                    // Nobody knows which value it has.
                    let key = (topic.name.to_owned(), (*name).to_owned());
                    self.history.borrow_mut().settings.remove(&key);
                    return;
                }
            }
            self.operation();
            self.note_altered(topic.name, name, value);
            self.runtime.sleep(Duration::from_millis(rng.below(PAUSE_MS_MAX))).await;
        }
    }

    /// Every setting has the value that was acknowledged last.
    pub(crate) async fn check_settings(&self, client: &Client) {
        let settings = self.history.borrow().settings.clone();
        for ((topic, name), value) in settings {
            loop {
                let connection = self.connect(client).await;
                match setting(&connection, &topic, &name).await {
                    Ok(found) if found.as_deref() == Some(&*value) => break,
                    Ok(found) => {
                        self.complain(format!("{name} of {topic} is {found:?}, not {value}"));
                        break;
                    }
                    Err(error) => {
                        self.refuse_nonsense("DescribeConfigs", error);
                        self.pause().await;
                    }
                }
            }
        }
    }
}

/// Deletes what lies below an offset; gives where the log starts.
async fn delete_records(
    connection: &Connection,
    (topic, partition): &Partition,
    offset: i64,
) -> Result<i64, Error> {
    let partitions = vec![DeleteRecordsPartition { partition_index: *partition, offset }];
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic { name: topic, partitions }],
        timeout_ms: i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX),
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let result = response.topics.first().and_then(|topic| topic.partitions.first());
    let result = result.ok_or(Error::Nonsense("no partition in the answer"))?;
    Error::check(result.error_code)?;
    Ok(result.low_watermark)
}

async fn alter_setting(
    connection: &Connection,
    topic: &str,
    (name, value): (&str, &str),
) -> Result<(), Error> {
    let config = AlterableConfig { name, config_operation: 0, value: Some(value) };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic,
            configs: vec![config],
        }],
        validate_only: false,
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let result = response.responses.first().ok_or(Error::Nonsense("no topic in the answer"))?;
    Error::check(result.error_code)
}

async fn setting(
    connection: &Connection,
    topic: &str,
    name: &str,
) -> Result<Option<String>, Error> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic,
            configuration_keys: Some(vec![name]),
        }],
        ..Default::default()
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let result = response.results.first().ok_or(Error::Nonsense("no topic in the answer"))?;
    Error::check(result.error_code)?;
    let found = result.configs.iter().find(|config| config.name == name);
    Ok(found.and_then(|config| config.value.map(str::to_owned)))
}
