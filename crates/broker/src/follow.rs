//! What a shard does about committed metadata: creates, opens, changes and removes its partitions.

use std::{cell::Cell, future::Future, pin::Pin, rc::Rc};

use cluster::{Delta, MetadataImage, MetadataRecord, record::ResourceType};
use model::{
    TopicId, TopicPartition,
    collections::{BTreeMap, BTreeSet},
    topic_config::TopicConfig,
};
use runtime::{Runtime, TaskQueue, local::Notify};
use storage::Log;

use crate::{
    handle_shares::HandleShares,
    shard::Shard,
    topic_settings::{CONSUMER_OFFSETS, TRANSACTION_STATE},
};

/// Partitions that are opened at the same time: enough to keep a disk busy with their
/// syncs, few enough for the file handles and buffers of recovery.
const CONCURRENT_MAX: usize = 64;

/// Partitions that are deleted at the same time: one sync serves so many renames, and those who
/// use the disk beside it wait for no more.
const DELETED_MAX: usize = 16;

/// What a shard that has seen nothing has to do: all of it.
pub(crate) fn delta_of_everything(image: &MetadataImage) -> Delta {
    let mut delta = Delta::default();
    for topic in image.topics() {
        delta.topics_created.insert(topic.id);
        delta.partitions.extend(
            topic
                .partitions
                .keys()
                .map(|partition| TopicPartition { topic: topic.id, partition: *partition }),
        );
    }
    delta
}

impl Shard {
    /// Brings this shard's partitions to what the metadata says now.
    ///
    /// # Errors
    /// When a log cannot be created or opened: the shard must not serve what it does not have.
    pub(crate) async fn follow(self: &Rc<Self>, delta: Delta) -> Result<(), String> {
        let mut deleting: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        for (id, topic) in &delta.topics_removed {
            for partition in topic.partitions.keys() {
                let id = TopicPartition { topic: *id, partition: *partition };
                if let Some(removed) = self.remove_partition(id) {
                    self.groups.partition_removed(id);
                    self.transactions.partition_removed(id);
                    deleting.push(Box::pin(async move {
                        if let Err(error) = removed.log.delete().await {
                            tracing::error!(partition = %removed.name(), %error, "not deleted");
                        }
                    }));
                }
            }
        }
        concurrently(&self.runtime, DELETED_MAX, deleting).await;
        let removed: Vec<&str> =
            delta.topics_removed.values().map(|topic| topic.name.as_str()).collect();
        if !removed.is_empty() {
            self.forget_offsets_of(&removed);
        }
        self.tell_transactions_of_features();
        if !delta.partitions.is_empty() || !delta.topics_removed.is_empty() {
            self.tell_groups_of_topics();
        }
        let node = self.node();
        let mut missing: Vec<(TopicPartition, String)> = Vec::new();
        {
            let image = self.image.borrow();
            for id in &delta.partitions {
                let is_own = self.owner_of(id.topic, id.partition) == Some(self.runtime.shard());
                let holds = image
                    .partition(*id)
                    .is_some_and(|partition| partition.replicas.contains(&node));
                if is_own && holds && self.partition(id.topic, id.partition).is_none() {
                    let topic = image.topic(id.topic).expect("the partition's topic");
                    missing.push((*id, topic.name.clone()));
                }
            }
        }
        self.obtain_all(missing).await?;
        if delta.configs.iter().any(|one| one.resource_type == ResourceType::BROKER) {
            self.all_settings_changed();
        }
        let topics = delta.configs.iter();
        for resource in topics.filter(|one| one.resource_type == ResourceType::TOPIC) {
            let topic = self.image.borrow().topic_by_name(&resource.name).map(|topic| topic.id);
            if let Some(topic) = topic {
                self.settings_changed(topic, &resource.name);
            }
        }
        Ok(())
    }

    /// The broker's settings changed, and with them what topics have by default.
    fn all_settings_changed(&self) {
        let mut configs: BTreeMap<TopicId, Rc<TopicConfig>> = BTreeMap::new();
        for partition in self.partitions() {
            let config = configs
                .entry(partition.log.topic_id())
                .or_insert_with(|| self.topic_config(partition.log.topic()));
            partition.log.set_config(Rc::clone(config));
        }
    }

    fn settings_changed(&self, topic: TopicId, name: &str) {
        let config = self.topic_config(name);
        for partition in self.partitions() {
            if partition.log.topic_id() == topic {
                partition.log.set_config(Rc::clone(&config));
            }
        }
    }

    /// Places the partitions that records create, and gives those that are this shard's and not
    /// there yet, with their topics' names.
    pub(crate) fn place_new(&self, records: &[MetadataRecord]) -> Vec<(TopicPartition, String)> {
        let mut names: BTreeMap<TopicId, &str> = BTreeMap::new();
        let mut missing = Vec::new();
        let image = self.image.borrow();
        for record in records {
            if let MetadataRecord::Topic { name, topic_id } = record {
                names.insert(*topic_id, name);
            }
            let MetadataRecord::Partition(new) = record else { continue };
            let id = TopicPartition { topic: new.topic_id, partition: new.partition_id };
            let is_own = self.place(id) == self.runtime.shard();
            let holds = new.replicas.contains(&self.node());
            let known = image.topic(id.topic).map(|topic| topic.name.as_str());
            let name = names.get(&id.topic).copied().or(known);
            let is_missing = self.partition(id.topic, id.partition).is_none();
            if let (true, true, true, Some(name)) = (is_own, holds, is_missing, name) {
                missing.push((id, name.to_owned()));
            }
        }
        missing
    }

    pub(crate) async fn obtain_all(
        self: &Rc<Self>,
        missing: Vec<(TopicPartition, String)>,
    ) -> Result<(), String> {
        let (found, new): (Vec<_>, Vec<_>) =
            missing.into_iter().partition(|(id, topic)| self.is_in_directory(*id, topic));
        let mut configs: BTreeMap<&str, Rc<TopicConfig>> = BTreeMap::new();
        let plan = self.start_plan.borrow().clone();
        let mut gone = BTreeSet::new();
        for (id, topic) in &new {
            let config = configs.entry(topic).or_insert_with(|| self.topic_config(topic));
            let (parent, config) = (&self.config.data_dir, Rc::clone(config));
            let recorded = plan.as_ref().and_then(|plan| plan.find_gone(topic, *id));
            let log = match recorded {
                None => self.storage.new_log(parent, topic, id.partition, id.topic, config),
                Some(start) => {
                    gone.insert(*id);
                    let (storage, partition) = (&self.storage, id.partition);
                    storage.gone_log(parent, topic, partition, id.topic, config, &start)
                }
            };
            self.add_partition(*id, log);
        }
        for (id, topic) in new {
            match self.host_coordinator(id, &topic).await {
                Err(error) if gone.contains(&id) => not_loaded(&error),
                hosted => hosted?,
            }
        }
        let obtaining = found
            .into_iter()
            .map(|(id, topic)| {
                let shard = Rc::clone(self);
                let future: Pin<Box<dyn Future<Output = Result<(), String>>>> =
                    Box::pin(async move {
                        let log = shard
                            .obtain(id, &topic)
                            .await
                            .map_err(|error| format!("{topic}-{}: {error}", id.partition))?;
                        shard.add_partition(id, log);
                        // The node serves without it; what it holds has no coordinator.
                        if let Err(error) = shard.host_coordinator(id, &topic).await {
                            not_loaded(&error);
                        }
                        Ok(())
                    });
                future
            })
            .collect();
        let handles = HandleShares::of(self.config.handles_max, self.runtime.shard_count());
        // Recovery has two files of a log open at a time.
        let concurrent_max = CONCURRENT_MAX.min(handles.files_max / 2).max(1);
        for obtained in concurrently(&self.runtime, concurrent_max, obtaining).await {
            obtained?;
        }
        Ok(())
    }

    /// Starts the coordinator of a partition that was just added, if it has one.
    async fn host_coordinator(
        self: &Rc<Self>,
        id: TopicPartition,
        topic: &str,
    ) -> Result<(), String> {
        let partition = || self.partition(id.topic, id.partition).expect("just added");
        match topic {
            CONSUMER_OFFSETS => self.host_groups(id, partition()).await,
            TRANSACTION_STATE => self.host_transactions(id, partition()).await,
            _ => Ok(()),
        }
    }

    /// Whether the directory had the partition's log when the node started. One that it had not is
    /// new, or nothing was appended to it yet.
    fn is_in_directory(&self, id: TopicPartition, topic: &str) -> bool {
        self.start_plan.borrow().as_ref().is_some_and(|plan| plan.find(topic, id).is_some())
    }

    /// Opens a partition's log, which the directory has.
    async fn obtain(&self, id: TopicPartition, topic: &str) -> Result<Log, storage::Error> {
        let config = self.topic_config(topic);
        let plan = self.start_plan.borrow().clone().expect("it told of the partition");
        let (directory, start) = plan.find(topic, id).expect("it told of the partition");
        let (log, report) = self.storage.open_log(&directory, id.topic, config, start).await?;
        plan.recovered(&report);
        Ok(log)
    }
}

fn not_loaded(error: &str) {
    tracing::error!(error, "the coordinator of a partition was not loaded");
}

/// Runs futures, at most `limit` at a time, and gives their results in their order.
pub(crate) async fn concurrently<T: 'static>(
    runtime: &Runtime,
    limit: usize,
    futures: Vec<Pin<Box<dyn Future<Output = T>>>>,
) -> Vec<T> {
    let count = futures.len();
    let results: Rc<std::cell::RefCell<Vec<Option<T>>>> =
        Rc::new(std::cell::RefCell::new((0..count).map(|_| None).collect()));
    let running = Rc::new(Cell::new(0usize));
    let done = Rc::new(Cell::new(0usize));
    let changed = Rc::new(Notify::new());
    for (index, future) in futures.into_iter().enumerate() {
        changed.wait_until(|| running.get() < limit).await;
        running.set(running.get() + 1);
        let (results, running) = (Rc::clone(&results), Rc::clone(&running));
        let (done, changed) = (Rc::clone(&done), Rc::clone(&changed));
        runtime.spawn("one of many", TaskQueue::Foreground, async move {
            let result = future.await;
            results.borrow_mut()[index] = Some(result);
            running.set(running.get() - 1);
            done.set(done.get() + 1);
            changed.notify_all();
        });
    }
    changed.wait_until(|| done.get() == count).await;
    let results = std::mem::take(&mut *results.borrow_mut());
    results.into_iter().map(|result| result.expect("each was done")).collect()
}
