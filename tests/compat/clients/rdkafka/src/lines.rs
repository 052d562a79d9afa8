//! The line protocol: commands from stdin, events to stdout, bytes in base64.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::{Value, json};

use crate::Outcome;

pub(crate) fn say(event: &Value) {
    let mut output = io::stdout().lock();
    writeln!(output, "{event}").and_then(|()| output.flush()).expect("stdout is the harness's");
}

pub(crate) fn say_record(message: &BorrowedMessage<'_>) {
    let headers: Vec<Value> = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| json!([header.key, encode(header.value)])).collect()
    });
    say(&json!({
        "event": "record", "partition": message.partition(), "offset": message.offset(), "key": encode(message.key()),
        "value": encode(message.payload()), "headers": headers, "timestamp": message.timestamp().to_millis(),
    }));
}

fn encode(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| STANDARD.encode(bytes))
}

pub(crate) fn decode(text: &Value) -> Outcome<Option<Vec<u8>>> {
    Ok(text.as_str().map(|text| STANDARD.decode(text)).transpose()?)
}

/// The commands, read by a thread of their own; the end of stdin is a `close` too.
pub(crate) fn commands() -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines() {
            let command = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let Some(command) = command else { break };
            if sender.send(command).is_err() {
                return;
            }
        }
        // Nobody may be left to hear it.
        let _ = sender.send(json!({"do": "close"}));
    });
    receiver
}

pub(crate) fn what(command: &Value) -> &str {
    command["do"].as_str().unwrap_or_default()
}

pub(crate) fn number<T: TryFrom<i64>>(command: &Value, field: &str) -> Outcome<T> {
    let number = command[field].as_i64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("no {field} in {command}").into())
}
