//! The settings of clients' metrics (KIP-714).

use super::{ConfigError, Reader};

/// Whether clients are asked for their metrics, and how much of them is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// `odradek.client.telemetry`: what a plugin is to Apache Kafka, which has none by default.
    pub is_received: bool,
    /// `telemetry.max.bytes`: of a push, as it is sent and as it is decompressed.
    pub max_bytes: usize,
}

pub(super) fn settings(reader: &Reader<'_>) -> Result<TelemetryConfig, ConfigError> {
    Ok(TelemetryConfig {
        is_received: reader.boolean("odradek.client.telemetry", false)?,
        max_bytes: reader.int("telemetry.max.bytes", 1, 1_048_576)?,
    })
}
