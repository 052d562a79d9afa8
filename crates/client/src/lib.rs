//! A small Kafka client on our runtime.
