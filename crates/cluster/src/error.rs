//! What can be wrong: with a request, with the metadata log, with a directory.

use std::fmt;

use model::{NodeId, TopicId};

/// Every way in which this crate says no. The broker chooses Kafka's error codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name is no topic's name, or too like that of another topic.
    InvalidTopic(String),
    /// There is a topic of this name already.
    TopicExists(String),
    /// There is no topic of this name.
    UnknownTopic(String),
    /// There is no topic of this id.
    UnknownTopicId(TopicId),
    /// The number of partitions cannot be had.
    InvalidPartitions(String),
    /// The number of replicas cannot be had.
    InvalidReplicationFactor(String),
    /// The brokers that were named for a partition cannot hold it.
    InvalidReplicaAssignment(String),
    /// A setting's name or value is refused.
    InvalidConfig(String),
    /// The request contradicts itself.
    InvalidRequest(String),
    /// A feature cannot be brought to this level.
    InvalidFeatureLevel(String),
    /// There is no broker of this id.
    UnknownBroker(NodeId),
    /// The request asks for more than one request may.
    PolicyViolation(String),
    /// The broker was registered anew since, or is not registered.
    StaleBrokerEpoch(NodeId),
    /// Every producer id was given out.
    ProducerIdsExhausted,
    /// The controller gives up its work: another one, or this one later, will take the request.
    Stopping,
    /// The disk failed or is full: the metadata log, or a partition's log, could not be written.
    Storage(String),
    /// The metadata log says what cannot be: the image is no longer to be used.
    Damaged(String),
    /// The directory belongs to a quorum that is not exactly this node, or cannot be read here.
    ForeignDirectory(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidTopic(text)
            | Error::InvalidPartitions(text)
            | Error::InvalidReplicationFactor(text)
            | Error::InvalidReplicaAssignment(text)
            | Error::InvalidConfig(text)
            | Error::InvalidRequest(text)
            | Error::InvalidFeatureLevel(text)
            | Error::PolicyViolation(text)
            | Error::Storage(text)
            | Error::ForeignDirectory(text) => formatter.write_str(text),
            Error::TopicExists(name) => write!(formatter, "Topic '{name}' already exists."),
            Error::UnknownTopic(_) => {
                formatter.write_str("This server does not host this topic-partition.")
            }
            Error::UnknownBroker(id) => {
                write!(formatter, "Broker ID {id} is not currently registered")
            }
            Error::UnknownTopicId(_) => {
                formatter.write_str("This server does not host this topic ID.")
            }
            Error::StaleBrokerEpoch(node) => {
                write!(formatter, "broker {node} is not registered with this epoch")
            }
            Error::ProducerIdsExhausted => formatter.write_str("every producer id was given out"),
            Error::Stopping => formatter.write_str("the controller is stopping"),
            Error::Damaged(text) => write!(formatter, "the metadata log is damaged: {text}"),
        }
    }
}

impl std::error::Error for Error {}
