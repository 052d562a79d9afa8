//! Creation and deletion of topics, and the look at everything when all is done.

use std::time::Duration;

use client::{AutoCreate, Client, Connection, Error, FetchOptions, NewTopic, OffsetSpec, Position};
use model::{ErrorCode, Offset, record_batch::RecordBatch};

use super::{
    clients::Workload,
    features::Role,
    history::{LogRead, Partition, Power},
    plan::{Plan, TopicPlan},
};
use crate::Rng;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

impl Workload {
    /// Creates a topic of the plan, as often as it takes.
    pub(crate) async fn create(&self, client: &Client, topic: &TopicPlan) {
        let segment_bytes = topic.segment_bytes.to_string();
        let own = topic.role.settings();
        let mut configs = vec![
            ("internal.segment.bytes", segment_bytes.as_str()),
            ("index.interval.bytes", "1024"),
        ];
        configs.extend(own.iter().map(|(name, value)| (*name, value.as_str())));
        let new = NewTopic {
            name: topic.name,
            partition_count: topic.partition_count,
            replication_factor: 1,
            configs: &configs,
        };
        self.create_topic(client, &new).await;
    }

    pub(crate) async fn create_topic(&self, client: &Client, new: &NewTopic<'_>) {
        loop {
            let connection = self.connect(client).await;
            match connection.create_topic(new, TIMEOUT).await {
                // The first attempt may have arrived before its connection broke.
                Ok(()) | Err(Error::Refused(ErrorCode::TopicAlreadyExists)) => break,
                // A broker that is about to stop leads nothing any more.
                Err(Error::Refused(ErrorCode::InvalidReplicationFactor)) => self.pause().await,
                Err(error) => {
                    self.refuse_nonsense("CreateTopics", error);
                    self.pause().await;
                }
            }
        }
        self.note_topic(new.name, true);
    }

    pub(crate) async fn delete_topic(&self, client: &Client, name: &str) {
        loop {
            let connection = self.connect(client).await;
            match connection.delete_topic(name, TIMEOUT).await {
                Ok(()) | Err(Error::Refused(ErrorCode::UnknownTopicOrPartition)) => break,
                Err(error) => {
                    self.refuse_nonsense("DeleteTopics", error);
                    self.pause().await;
                }
            }
        }
        self.note_topic(name, false);
    }

    fn note_topic(&self, name: &str, there: bool) {
        self.operation();
        let mut history = self.history.borrow_mut();
        history.counts.topic_changes += 1;
        history.topics_there.insert(name.to_owned(), there);
    }

    /// Creates topics and deletes some of them, looking after each step.
    pub(crate) async fn churn_topics(self, count: u64, mut rng: Rng) {
        let client = self.client("topics");
        for index in 0..count {
            let name = format!("temporary-{index}");
            let partition_count = i32::try_from(rng.between(1, 4)).expect("small");
            let new =
                NewTopic { name: &name, partition_count, replication_factor: 1, configs: &[] };
            self.create_topic(&client, &new).await;
            self.check_topic(&client, &name, true).await;
            self.runtime.sleep(Duration::from_millis(rng.below(300))).await;
            if rng.chance(500) {
                self.delete_topic(&client, &name).await;
                self.check_topic(&client, &name, false).await;
            }
        }
        self.done();
    }

    /// A topic's creation was acknowledged, or its deletion: so it is there, or not.
    pub(crate) async fn check_topic(&self, client: &Client, name: &str, there: bool) {
        loop {
            let connection = self.connect(client).await;
            match connection.metadata(Some(&[name]), AutoCreate::Never).await {
                Ok(metadata) => {
                    self.operation();
                    let code = metadata.topics.first().map(|topic| topic.error_code);
                    let found = code == Some(ErrorCode::None);
                    if found != there {
                        self.complain(format!("{name}: there {there}, Metadata says {code:?}"));
                    }
                    return;
                }
                Err(error) => {
                    self.refuse_nonsense("Metadata", error);
                    self.pause().await;
                }
            }
        }
    }

    /// Reads everything and compares.
    pub(crate) async fn check_everything(&self, plan: &Plan) {
        let client = self.client("checker");
        let topics: Vec<(String, bool)> =
            self.history.borrow().topics_there.iter().map(|(n, t)| (n.clone(), *t)).collect();
        for (name, there) in topics {
            self.check_topic(&client, &name, there).await;
        }
        let power = if plan.keeps_power() { Power::Kept } else { Power::Cut };
        for topic in &plan.topics {
            for partition in 0..topic.partition_count {
                let partition = (topic.name.to_owned(), partition);
                let log = self.read_log(&client, &partition).await;
                self.history.borrow_mut().check_log(&partition, &log, power);
            }
        }
        self.check_commits(&client).await;
        self.check_settings(&client).await;
        self.done();
    }

    async fn read_log(&self, client: &Client, partition: &Partition) -> LogRead {
        let mut log = LogRead::default();
        loop {
            let connection = self.connect(client).await;
            match self.read_on(&connection, partition, &mut log).await {
                Ok(()) => return log,
                Err(error) if error.is_retriable() => self.pause().await,
                // Retention was faster.
                Err(Error::Refused(ErrorCode::OffsetOutOfRange))
                    if matches!(self.history.borrow().role(partition), Role::Trimmed { .. }) =>
                {
                    log = LogRead::default();
                    self.pause().await;
                }
                Err(error) => {
                    self.complain(format!("the last look at {partition:?}: {error}"));
                    return LogRead::default();
                }
            }
        }
    }

    /// Reads behind what is there already: a connection may break many times.
    async fn read_on(
        &self,
        connection: &Connection,
        partition: &Partition,
        log: &mut LogRead,
    ) -> Result<(), Error> {
        let (topic, number) = partition;
        let start = connection.list_offset(topic, *number, OffsetSpec::Earliest).await?;
        let Some(start) = start else { return Err(Error::Nonsense("a log without a start")) };
        if log.records.is_empty() && log.refused.is_empty() {
            log.start = start.0;
            if start.0 > 0 {
                log.now_ms = self.runtime.wall_clock_ms();
            }
        }
        let end = connection.list_offset(topic, *number, OffsetSpec::Latest).await?;
        let end = end.unwrap_or_default();
        log.end = end.0;
        let read = log.records.last().map_or(log.start, |(offset, _)| offset + 1);
        let refused = log.refused.last().map_or(0, |refused| refused.end);
        let offset = Offset(read.max(refused));
        let mut position = Position { topic: topic.clone(), partition: *number, offset };
        while position.offset < end {
            let options = FetchOptions::default();
            let fetched = connection.fetch(std::slice::from_ref(&position), options).await?;
            let fetched = fetched.first().ok_or(Error::Nonsense("an empty answer"))?;
            if matches!(
                fetched.error_code,
                ErrorCode::CorruptMessage | ErrorCode::KafkaStorageError
            ) {
                let from = position.offset.0;
                let passed = self.history.borrow_mut().pass_damage(partition, from);
                if let Some(to) = passed {
                    log.refused.push(from..to);
                    position.offset = Offset(to);
                    continue;
                }
            }
            Error::check(fetched.error_code.code())?;
            let (records, next) = fetched.records_from(position.offset)?;
            if let Ok(first) = RecordBatch::first(&fetched.records) {
                log.first_batch.get_or_insert_with(|| first.base_offset().0);
            }
            log.bytes += u64::try_from(fetched.records.len()).unwrap_or(0);
            for record in records {
                let (offset, content) =
                    (record.offset.0, (record.key.as_deref(), record.value.as_deref()));
                let value = self.history.borrow_mut().identify(partition, offset, content);
                log.records.extend(value.map(|value| (offset, value)));
            }
            position.offset = next;
            // What came since: nobody has to have heard of it.
            log.end = log.end.max(next.0);
            self.history.borrow_mut().counts.last_looks += 1;
        }
        Ok(())
    }

    async fn check_commits(&self, client: &Client) {
        let acked = self.history.borrow().committed();
        for (group, partition, _) in acked {
            let asked = [(partition.0.clone(), vec![partition.1])].into();
            loop {
                let connection = self.connect(client).await;
                match connection.committed_offsets(&group, Some(&asked)).await {
                    Ok(committed) => {
                        let found = committed.get(&partition).map_or(-1, |found| found.offset.0);
                        self.history.borrow_mut().check_committed(&group, &partition, found);
                        break;
                    }
                    Err(error) => {
                        self.refuse_nonsense("OffsetFetch", error);
                        self.pause().await;
                    }
                }
            }
        }
    }
}
