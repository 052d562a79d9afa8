//! Compaction keeps the latest value of each key, and a tombstone until its time is over.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Facts, LogId, ValueId},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let mut latest: BTreeMap<(LogId, &str), (i64, ValueId)> = BTreeMap::new();
    let mut last_read: BTreeMap<(LogId, &str), i64> = BTreeMap::new();
    for (log_id, log) in facts.logs.iter().enumerate() {
        if !log.is_compacted || !log.is_drained {
            continue;
        }
        for (offset, value) in &log.known {
            if let Some(key) = facts.values[*value].key {
                latest.insert((log_id, key), (*offset, *value));
                if facts.values[*value].is_in_final {
                    last_read.insert((log_id, key), *offset);
                }
            }
        }
    }
    let retention_ns = facts.setup.delete_retention_ms * 1_000_000;
    for ((log, key), (offset, id)) in latest {
        let found = last_read.get(&(log, key)).copied();
        if found == Some(offset) {
            continue;
        }
        let value = &facts.values[id];
        // When somebody first knew of it.
        let call = value.writer.or(value.reader).map(|call| &facts.calls[call]);
        let since_ns = call.map_or(0, |call| call.begun_ns());
        let may_be_gone = value.name.starts_with("tombstone ")
            && found.is_none()
            && facts.end_ns.saturating_sub(since_ns) >= retention_ns;
        if !may_be_gone {
            let ops: Vec<u64> = call.into_iter().map(|call| call.index()).collect();
            let log = facts.logs[log].name;
            let text = format!("{log}: {key} was {} at {offset}, found {found:?}", value.name);
            report.note(Anomaly::Compaction, &ops, text);
        }
    }
}
