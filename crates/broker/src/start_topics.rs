//! Topics that have to be there when the node begins to serve: made at its start if they are not.
//!
//! What is there already is left as it is, with a warning where it is not what was asked for.
//! Whatever cannot be made keeps the node from starting, in one line: whoever asked for the topic
//! would otherwise find that out from a client. Costs one decision of the controller.

use std::{collections::BTreeSet, rc::Rc};

use cluster::{
    controller::{Intent, NewTopic},
    topic_name,
};

use crate::{Error, shard::Shard};

/// A topic that is made at the start if it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None`: `num.partitions`.
    pub partition_count: Option<i32>,
    /// How many replicas of each; `None`: `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// Its `cleanup.policy`, if it has one of its own.
    pub cleanup_policy: Option<String>,
}

impl StartTopic {
    /// Reads `NAME` or `NAME:PARTITIONS`.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse(text: &str) -> Result<StartTopic, String> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        topic_name::check(name).map_err(|error| error.to_string())?;
        let count = count.map(|count| positive(count, "partitions")).transpose()?;
        Ok(StartTopic {
            name: name.to_owned(),
            partition_count: count,
            replication_factor: None,
            cleanup_policy: None,
        })
    }

    /// Reads `NAME:PARTITIONS:REPLICAS[:CLEANUP.POLICY]`, as the variable `KAFKA_CREATE_TOPICS` of
    /// some images has them.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse_long(text: &str) -> Result<StartTopic, String> {
        let mut words = text.splitn(4, ':').map(str::trim);
        let (Some(name), Some(count), Some(replicas)) = (words.next(), words.next(), words.next())
        else {
            return Err("NAME:PARTITIONS:REPLICAS expected".to_owned());
        };
        topic_name::check(name).map_err(|error| error.to_string())?;
        Ok(StartTopic {
            name: name.to_owned(),
            partition_count: Some(positive(count, "partitions")?),
            replication_factor: Some(positive(replicas, "replicas")?),
            cleanup_policy: words.next().filter(|policy| !policy.is_empty()).map(str::to_owned),
        })
    }
}

fn positive<T: std::str::FromStr + PartialOrd + From<i8>>(
    text: &str,
    what: &str,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= T::from(1));
    number.ok_or_else(|| format!("{text:?} is no number of {what}"))
}

/// Makes those of the configured topics that are not there.
///
/// # Errors
/// The first topic that cannot be made, and why.
pub(crate) async fn create(shard: &Rc<Shard>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for topic in &shard.config.start_topics {
        if !seen.insert(&topic.name) {
            return Err(refuse(&topic.name, "named twice"));
        }
    }
    let missing: Vec<NewTopic> = {
        let image = shard.image.borrow();
        let topics = shard.config.start_topics.iter();
        topics
            .filter(|topic| match image.topic_by_name(&topic.name) {
                Some(there) => {
                    warn_of_difference(topic, there.partitions.len());
                    false
                }
                None => true,
            })
            .map(new_topic)
            .collect()
    };
    if missing.is_empty() {
        return Ok(());
    }
    let created = shard.create_topics(missing, Intent::Apply).await.map_err(Error::Cluster)?;
    for (name, result) in created {
        let topic = result.map_err(|error| refuse(&name, &error.to_string()))?;
        tracing::info!(topic = name, partitions = topic.partition_count, "created at the start");
    }
    Ok(())
}

fn warn_of_difference(topic: &StartTopic, there: usize) {
    let asked = topic.partition_count.and_then(|count| usize::try_from(count).ok());
    if let Some(asked) = asked.filter(|asked| *asked != there) {
        let topic = &topic.name;
        tracing::warn!(topic, there, asked, "the topic has another number of partitions: left so");
    }
}

fn new_topic(topic: &StartTopic) -> NewTopic {
    let policy = topic.cleanup_policy.iter();
    NewTopic {
        name: topic.name.clone(),
        partition_count: topic.partition_count.unwrap_or(-1),
        replication_factor: topic.replication_factor.unwrap_or(-1),
        configs: policy.map(|value| ("cleanup.policy".to_owned(), Some(value.clone()))).collect(),
        ..NewTopic::default()
    }
}

fn refuse(name: &str, reason: &str) -> Error {
    Error::Config(format!("topic {name} cannot be made at the start: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, partitions: Option<i32>) -> StartTopic {
        StartTopic {
            name: name.to_owned(),
            partition_count: partitions,
            replication_factor: None,
            cleanup_policy: None,
        }
    }

    #[test]
    fn a_name_may_have_a_number_of_partitions() {
        assert_eq!(StartTopic::parse("a.b"), Ok(topic("a.b", None)));
        assert_eq!(StartTopic::parse("a:3"), Ok(topic("a", Some(3))));
        for text in ["", ":3", "a:", "a:0", "a:-1", "a:x", "a:3:1", "a b:1", "a:2147483648"] {
            assert!(StartTopic::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_long_form_has_replicas_and_perhaps_a_cleanup_policy() {
        let long = StartTopic { replication_factor: Some(1), ..topic("a", Some(3)) };
        assert_eq!(StartTopic::parse_long(" a:3:1"), Ok(long.clone()));
        let compact = StartTopic { cleanup_policy: Some("compact".to_owned()), ..long };
        assert_eq!(StartTopic::parse_long("a:3:1:compact"), Ok(compact));
        for text in ["", "a", "a:3", "a:3:0", "a:3:32768", "a::1", ":1:1"] {
            assert!(StartTopic::parse_long(text).is_err(), "{text}");
        }
    }
}
