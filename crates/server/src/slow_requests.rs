//! The slowest requests as they are told: as JSON by the admin port, and from that as rows for
//! people, by the same port and by `odradek status`.

use std::time::Duration;

use broker::{SlowRequest, Slowest, Stage};
use serde_json::{Map, Value, json};

use crate::table::{Format, Table};

/// What the admin port answers.
pub(crate) fn json(slowest: &Slowest) -> Value {
    let requests: Vec<Value> = slowest.requests.iter().map(json_of).collect();
    json!({ "now_ms": slowest.now_ms, "requests": requests })
}

fn json_of(request: &SlowRequest) -> Value {
    let stages = Stage::ALL.into_iter().map(|stage| {
        let time = micros(request.times.of(stage));
        (stage.name().to_owned(), Value::from(time))
    });
    json!({
        "api": request.api,
        "version": request.version,
        "client_id": request.client_id,
        "peer": request.peer.to_string(),
        "shard": request.shard,
        "group": request.group,
        "topic": request.topic,
        "partition": request.partition,
        "partitions": request.partitions,
        "request_bytes": request.request_bytes,
        "response_bytes": request.response_bytes,
        "began_ms": request.began_ms,
        "total_us": micros(request.times.total()),
        "slow_us": micros(request.times.busy()),
        "stages_us": Value::Object(stages.collect::<Map<_, _>>()),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The same for people: from what [`json`] made, so that a command can show what a port answered.
pub(crate) fn text(answer: &Value) -> String {
    let requests = answer["requests"].as_array().map(Vec::as_slice).unwrap_or_default();
    if requests.is_empty() {
        return "no requests in the last minutes\n".to_owned();
    }
    let columns =
        &["slow", "api", "about", "client", "peer", "bytes_in", "bytes_out", "ago", "where"];
    let mut table = Table::new(columns);
    for request in requests {
        let moment = |value: &Value| value.as_i64().unwrap_or(0);
        let ago = moment(&answer["now_ms"]).saturating_sub(moment(&request["began_ms"])).max(0);
        table.push([
            duration(request["slow_us"].as_u64().unwrap_or(0)).into(),
            format!("{} v{}", word(&request["api"]), request["version"]).into(),
            about(request).into(),
            request["client_id"].clone(),
            request["peer"].clone(),
            request["request_bytes"].clone(),
            request["response_bytes"].clone(),
            format!("{} s", ago / 1000).into(),
            stages(&request["stages_us"]).into(),
        ]);
    }
    table.render(Format::Table)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The group, or the partition with the number of the others.
fn about(request: &Value) -> String {
    if let Some(group) = request["group"].as_str() {
        return format!("group {group}");
    }
    let (Some(topic), Some(partition)) = (request["topic"].as_str(), request["partition"].as_i64())
    else {
        return "-".to_owned();
    };
    match request["partitions"].as_u64().unwrap_or(1) {
        0 | 1 => format!("{topic}-{partition}"),
        count => format!("{topic}-{partition} and {} more", count - 1),
    }
}

/// Where the time went, the longest stage first.
fn stages(stages: &Value) -> String {
    let known = stages.as_object().into_iter().flatten();
    let times = known.map(|(name, micros)| (micros.as_u64().unwrap_or(0), name));
    let mut times: Vec<(u64, &String)> = times.filter(|(micros, _)| *micros > 0).collect();
    times.sort_by(|one, other| other.cmp(one));
    let texts: Vec<String> =
        times.into_iter().map(|(micros, name)| format!("{name} {}", duration(micros))).collect();
    texts.join(", ")
}

/// Microseconds for people, with three figures or more.
pub(crate) fn duration(micros: u64) -> String {
    let (whole, part) = (micros / 1000, micros % 1000);
    match micros {
        0..=999 => format!("{micros} us"),
        1_000..=9_999 => format!("{whole}.{:02} ms", part / 10),
        10_000..=99_999 => format!("{whole}.{} ms", part / 100),
        100_000..=999_999 => format!("{whole} ms"),
        _ => format!("{}.{:02} s", whole / 1000, whole % 1000 / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        for (micros, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_234_567, "1.23 s"),
            (61_000_000, "61.00 s"),
        ] {
            assert_eq!(duration(micros), text);
        }
    }

    #[test]
    fn people_see_the_longest_stage_first() {
        let of_fetch = json!({
            "api": "Fetch", "version": 17, "client_id": "mine\n", "peer": "127.0.0.1:5", "group": null,
            "topic": "t", "partition": 3, "partitions": 2, "request_bytes": 90,
            "response_bytes": 1000, "began_ms": 1000, "total_us": 4210, "slow_us": 4210,
            "stages_us": { "read": 0, "log_read": 200, "send": 4000, "handle": 10 },
        });
        let of_group = json!({
            "api": "OffsetCommit", "version": 9, "client_id": "", "peer": "-", "group": "g",
            "topic": null, "partition": null, "partitions": 0, "slow_us": 5, "began_ms": 5000,
            "stages_us": { "sync": 5 },
        });
        let text = text(&json!({ "now_ms": 4000, "requests": [of_fetch, of_group] }));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].starts_with("4.21 ms  Fetch v17"), "{text}");
        assert!(lines[1].contains("t-3 and 1 more"), "{text}");
        assert!(lines[1].contains("mine\\n"), "{text}");
        assert!(lines[1].ends_with("3 s  send 4.00 ms, log_read 200 us, handle 10 us"), "{text}");
        assert!(lines[2].contains("group g") && lines[2].contains("0 s "), "{text}");
        assert!(text.starts_with("SLOW"), "{text}");
    }
}
