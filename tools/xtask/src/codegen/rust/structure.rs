//! The file of one message: its structures with their defaults, and what they implement.

use super::super::schema::{Kind, Message, Struct, Versions};
use super::names::field as field_name;
use super::types::{anonymous, default, field_type, has_word, lifetime, presence};
use super::{decode::decode, encode::encode};

/// What a generated file may need of the room.
const IMPORTS: &[&str] = &[
    "api::ApiKey",
    "Decode",
    "Encode",
    "Lengths",
    "Message",
    "MetadataMessage",
    "Nulls",
    "Reader",
    "RecordKey",
    "RecordValue",
    "Records",
    "Request",
    "Response",
    "Result",
    "Tag",
    "Versions",
    "Writer",
];

/// The file of one message, without the banner.
pub fn file(message: &Message, messages: &[Message]) -> String {
    let mut body = String::new();
    for structure in message.structs.iter().rev() {
        body += &definition(message, structure);
        if structure.name == message.name {
            body += &message_traits(message, messages);
        }
        body += &decode(message, structure);
        body += &encode(message, structure);
    }
    let is_used = |name: &&str| match *name {
        "Request" | "Response" => body.contains(&format!("impl {name} for")),
        _ => has_word(&body, name.rsplit(':').next().unwrap_or(name)),
    };
    let used: Vec<_> = IMPORTS.iter().copied().filter(is_used).collect();
    let uuid = if has_word(&body, "Uuid") { "use model::Uuid;\n" } else { "" };
    format!("{uuid}use crate::{{{}}};\n\n{body}", used.join(", "))
}

fn definition(message: &Message, structure: &Struct) -> String {
    let name = &structure.name;
    let is_natural = structure.fields.iter().all(|field| default(field).1);
    let derive = if is_natural { ", Default" } else { "" };
    let about = if *name == message.name {
        let versions = message.versions;
        format!("{name}, versions {}-{}.", versions.min, versions.max)
    } else {
        format!("A part of {}.", message.name)
    };
    let mut fields = String::new();
    for field in &structure.fields {
        if let Some(about) = presence(message, field) {
            fields += &format!("/// {about}\n");
        }
        fields += &format!("pub {}: {},\n", field_name(&field.name), field_type(message, field));
    }
    let own = lifetime(message, name);
    let mut text = format!(
        "/// {about}\n#[derive(Clone, Debug, PartialEq{derive})]\npub struct {name}{own} {{ {fields} }}\n\n"
    );
    if !is_natural {
        let values = structure.fields.iter();
        let values =
            values.map(|field| format!("{}: {},", field_name(&field.name), default(field).0));
        let values: String = values.collect();
        text += &format!(
            "impl Default for {name}{} {{ fn default() -> Self {{ Self {{ {values} }} }} }}\n\n",
            anonymous(message, name)
        );
    }
    text
}

fn message_traits(message: &Message, messages: &[Message]) -> String {
    let name = &message.name;
    let any = anonymous(message, name);
    let Versions { min, max } = message.versions;
    let flexible =
        message.flexible_from.map_or_else(|| "i16::MAX".to_owned(), |from| from.to_string());
    let mut text = format!(
        "impl Message for {name}{any} {{
            const NAME: &'static str = \"{name}\";
            const VERSIONS: Versions = Versions {{ min: {min}, max: {max} }};
            const FLEXIBLE_FROM: i16 = {flexible};
        }}\n\n"
    );
    let key = message.key.unwrap_or(-1);
    text += &match message.kind {
        Kind::Request => {
            let api = name.strip_suffix("Request").expect("a request's name ends so");
            let response = format!("{api}Response");
            let module = super::names::module(&response);
            let found = messages.iter().find(|message| message.name == response);
            let own = lifetime(found.expect("a request has a response"), &response);
            let own = own.replace('a', "r");
            format!(
                "impl Request for {name}{any} {{
                    const KEY: ApiKey = ApiKey::{api};
                    type Response<'r> = crate::{module}::{response}{own};
                }}\n\n"
            )
        }
        Kind::Response => {
            let api = name.strip_suffix("Response").expect("a response's name ends so");
            format!("impl Response for {name}{any} {{ const KEY: ApiKey = ApiKey::{api}; }}\n\n")
        }
        Kind::Metadata => {
            format!("impl MetadataMessage for {name}{any} {{ const KEY: i16 = {key}; }}\n\n")
        }
        Kind::ConsumerOffsetsKey | Kind::TransactionStateKey => {
            format!("impl RecordKey for {name}{any} {{ const TYPE: i16 = {key}; }}\n\n")
        }
        Kind::ConsumerOffsetsValue | Kind::TransactionStateValue => {
            format!("impl RecordValue for {name}{any} {{}}\n\n")
        }
        Kind::Header | Kind::Data => String::new(),
    };
    text
}
