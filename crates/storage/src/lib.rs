//! One partition's log on disk in Kafka's format.
