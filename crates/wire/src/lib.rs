//! Kafka's bytes to structs and back, every version.
