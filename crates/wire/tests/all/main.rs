//! Every message in every version, against the table, against `kafka-protocol` and against bytes
//! that are nobody's message.
//!
//! `fill` writes random messages straight from the table of `schema/`, with no help from the code
//! under test. What is decoded from them and encoded again must be the same bytes; so says the
//! oracle of its own code too.
#![expect(
    elided_lifetimes_in_paths,
    reason = "one macro names messages that borrow and that do not"
)]

mod bounds;
mod fill;
mod messages;
mod mutations;
mod oracle;
mod random;
mod round_trip;
#[expect(dead_code, reason = "the generator needs more of it")]
#[path = "../../../../tools/xtask/src/codegen/schema.rs"]
mod schema;

use std::{fs, path::Path};

use bytes::Bytes;
use schema::Message;

/// One message of the generated code, without its type.
pub struct Case {
    pub name: &'static str,
    pub versions: wire::Versions,
    /// Decodes bytes, to the last, and encodes the message again.
    pub again: fn(&[u8], i16) -> wire::Result<Bytes>,
    /// Decodes bytes and forgets the message.
    pub decode: fn(&[u8], i16) -> wire::Result<()>,
    /// The encoded default.
    pub default: fn(i16) -> wire::Result<Bytes>,
}

macro_rules! case {
    ($module:ident::$name:ident) => {
        Case {
            name: stringify!($name),
            versions: <wire::$module::$name as wire::Message>::VERSIONS,
            again: |bytes, version| {
                let message: wire::$module::$name = wire::decode(bytes, version)?;
                wire::encode(&message, version)
            },
            decode: |bytes, version| {
                let message: wire::$module::$name = wire::decode(bytes, version)?;
                std::hint::black_box(&message);
                Ok(())
            },
            default: |version| wire::encode(&wire::$module::$name::default(), version),
        }
    };
}
use case;

/// The table, in the order of [`messages::MESSAGES`].
fn table() -> Vec<Message> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let mut messages = Vec::new();
    for directory in [schema.clone(), schema.join("api")] {
        let mut paths: Vec<_> = fs::read_dir(directory)
            .expect("the table is there")
            .map(|entry| entry.expect("the table can be listed").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
            .collect();
        paths.sort();
        for path in paths {
            let text = fs::read_to_string(&path).expect("the table can be read");
            messages.extend(schema::parse(&text).expect("the table is well formed"));
        }
    }
    messages
}

/// The table's message of a name.
fn described<'t>(table: &'t [Message], name: &str) -> &'t Message {
    table.iter().find(|message| message.name == name).expect("both lists hold the same names")
}
