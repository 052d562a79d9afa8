//! Random messages as bytes, written from the table alone.

use super::random::Random;
use super::schema::{Field, Message, Struct};

/// What a field is given.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    Random,
    Default,
    /// Zeros and empty; every array claims more elements than it has.
    Hostile {
        claim: u32,
    },
}

/// A random message in one version.
pub fn random(message: &Message, version: i16, random: &mut Random) -> Vec<u8> {
    filled(message, version, random, Content::Random)
}

/// A message whose every array claims `claim` elements and has one.
pub fn hostile(message: &Message, version: i16, claim: u32) -> Vec<u8> {
    filled(message, version, &mut Random::new(0), Content::Hostile { claim })
}

fn filled(message: &Message, version: i16, random: &mut Random, content: Content) -> Vec<u8> {
    let is_flexible = message.is_flexible(version);
    let mut filler = Filler { message, version, is_flexible, random, bytes: Vec::new() };
    filler.structure(message.structure(&message.name), content);
    filler.bytes
}

struct Filler<'f> {
    message: &'f Message,
    version: i16,
    is_flexible: bool,
    random: &'f mut Random,
    bytes: Vec<u8>,
}

impl<'f> Filler<'f> {
    fn structure(&mut self, structure: &'f Struct, content: Content) {
        let version = self.version;
        let present = structure.fields.iter().filter(|field| field.versions.contains(version));
        let (tagged, plain): (Vec<_>, Vec<_>) = present.partition(|field| field.tag.is_some());
        for field in plain {
            self.field(field, content);
        }
        if self.is_flexible {
            self.tags(tagged, content);
        }
    }

    /// The tagged fields whose value is not the default.
    fn tags(&mut self, mut fields: Vec<&'f Field>, content: Content) {
        fields.sort_by_key(|field| field.tag);
        let mut tags = Vec::new();
        for field in fields {
            if content == Content::Default || self.random.one_in(3) {
                continue;
            }
            let value = self.aside(|filler| filler.field(field, content));
            let default = self.aside(|filler| filler.field(field, Content::Default));
            if value != default {
                tags.push((field.tag.expect("it is tagged"), value));
            }
        }
        self.uvarint(count(tags.len()));
        for (tag, value) in tags {
            self.uvarint(tag);
            self.uvarint(count(value.len()));
            self.bytes.extend(value);
        }
    }

    fn field(&mut self, field: &'f Field, content: Content) {
        let nullable = field.nullable.is_some_and(|versions| versions.contains(self.version));
        let default_is_null = field.default.as_deref() == Some("null")
            || (field.base == "records" && field.nullable.is_some());
        let is_null = match content {
            Content::Random => nullable && self.random.one_in(4),
            Content::Default => nullable && default_is_null,
            Content::Hostile { .. } => false,
        };
        let is_flexible = self.is_flexible && !field.is_fixed;
        if field.is_array {
            self.array(field, is_null, content);
            return;
        }
        let is_structure = self.message.structs.iter().any(|other| other.name == field.base);
        match (is_structure, nullable, is_null) {
            (true, true, true) => {
                self.bytes.push(if field.tag.is_some() { 0 } else { 0xff });
                return;
            }
            (true, true, false) => self.bytes.push(1),
            (false, _, true) => {
                let fixed = if field.base == "string" { 2 } else { 4 };
                self.length(None, is_flexible, fixed);
                return;
            }
            (_, _, false) | (true, false, true) => {}
        }
        self.value(&field.base, field.default.as_deref(), is_flexible, content);
    }

    fn array(&mut self, field: &'f Field, is_null: bool, content: Content) {
        if is_null {
            return self.length(None, self.is_flexible, 4);
        }
        let elements = match content {
            Content::Random => self.random.below(4),
            Content::Default => 0,
            Content::Hostile { .. } => 1,
        };
        let claimed = match content {
            Content::Hostile { claim } => claim,
            Content::Random | Content::Default => count(elements),
        };
        self.length(Some(claimed), self.is_flexible, 4);
        for _ in 0..elements {
            self.value(&field.base, None, self.is_flexible, content);
        }
    }

    fn value(&mut self, base: &str, default: Option<&str>, is_flexible: bool, content: Content) {
        let size = match base {
            "bool" | "int8" => 1,
            "int16" | "uint16" => 2,
            "int32" | "uint32" => 4,
            "int64" | "float64" => 8,
            "uuid" => 16,
            "string" | "bytes" | "records" => {
                return self.text(base, default, is_flexible, content);
            }
            _ => return self.structure(self.message.structure(base), content),
        };
        match (base, content) {
            ("bool", Content::Random) => {
                let value = self.random.byte() & 1;
                self.bytes.push(value);
            }
            (_, Content::Random) => {
                for _ in 0..size {
                    let value = self.random.byte();
                    self.bytes.push(value);
                }
            }
            _ => {
                let value: i64 = match default {
                    Some("true") => 1,
                    Some("false") | None => 0,
                    Some(text) => text.parse().expect("a default is a number"),
                };
                self.bytes.extend(&value.to_be_bytes()[8_usize.saturating_sub(size)..]);
                self.bytes.extend(std::iter::repeat_n(0, size.saturating_sub(8)));
            }
        }
    }

    fn text(&mut self, base: &str, default: Option<&str>, is_flexible: bool, content: Content) {
        let value: Vec<u8> = match content {
            Content::Random => {
                let long = if self.random.one_in(20) { 300 } else { 12 };
                let length = self.random.below(long);
                (0..length)
                    .map(|_| self.random.byte() & if base == "string" { 0x7f } else { 0xff })
                    .collect()
            }
            Content::Default => default.unwrap_or_default().as_bytes().to_vec(),
            Content::Hostile { .. } => Vec::new(),
        };
        self.length(Some(count(value.len())), is_flexible, if base == "string" { 2 } else { 4 });
        self.bytes.extend(value);
    }

    fn length(&mut self, length: Option<u32>, is_flexible: bool, fixed_bytes: usize) {
        if is_flexible {
            self.uvarint(length.map_or(0, |length| length + 1));
        } else {
            let length = length.map_or(-1, i64::from);
            self.bytes.extend(&length.to_be_bytes()[8 - fixed_bytes..]);
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// What `write` writes, apart.
    fn aside(&mut self, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let before = std::mem::take(&mut self.bytes);
        write(self);
        std::mem::replace(&mut self.bytes, before)
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("test messages are small")
}
