//! One message: its structures with their defaults, their decoding and their encoding.

use super::super::schema::{Field, Kind, Message, Struct, Versions};
use super::names::field as field_name;

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

/// `<'a>` if the structure borrows.
pub fn lifetime(message: &Message, name: &str) -> &'static str {
    let borrows = |field: &Field| match field.base.as_str() {
        "string" | "bytes" | "records" => true,
        base if is_primitive(base) => false,
        base => !lifetime(message, base).is_empty(),
    };
    if message.structure(name).fields.iter().any(borrows) { "<'a>" } else { "" }
}

fn anonymous(message: &Message, name: &str) -> &'static str {
    if lifetime(message, name).is_empty() { "" } else { "<'_>" }
}

fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word)
    })
}

fn is_primitive(base: &str) -> bool {
    primitive(base).is_some()
}

/// The Rust type, the method of reader and writer, and the size.
fn primitive(base: &str) -> Option<(&'static str, &'static str, usize)> {
    Some(match base {
        "bool" => ("bool", "bool", 1),
        "int8" => ("i8", "i8", 1),
        "int16" => ("i16", "i16", 2),
        "uint16" => ("u16", "u16", 2),
        "int32" => ("i32", "i32", 4),
        "uint32" => ("u32", "u32", 4),
        "int64" => ("i64", "i64", 8),
        "float64" => ("f64", "f64", 8),
        "uuid" => ("Uuid", "uuid", 16),
        _ => return None,
    })
}

fn element_type(message: &Message, base: &str) -> String {
    match (base, primitive(base)) {
        (_, Some((rust, _, _))) => rust.to_owned(),
        ("string", _) => "&'a str".to_owned(),
        ("bytes", _) => "&'a [u8]".to_owned(),
        ("records", _) => "Records<'a>".to_owned(),
        _ => format!("{base}{}", lifetime(message, base)),
    }
}

fn field_type(message: &Message, field: &Field) -> String {
    let mut rust = element_type(message, &field.base);
    if field.is_array {
        rust = format!("Vec<{rust}>");
    }
    if field.nullable.is_some() { format!("Option<{rust}>") } else { rust }
}

/// The default as an expression, and whether `Default::default()` is the same.
fn default(field: &Field) -> (String, bool) {
    let text = field.default.as_deref();
    let is_null = text == Some("null") || (field.base == "records" && field.nullable.is_some());
    if is_null {
        return ("None".to_owned(), true);
    }
    let (value, is_natural) = if field.is_array {
        ("Vec::new()".to_owned(), true)
    } else {
        match (field.base.as_str(), text) {
            ("bool", text) => (text.unwrap_or("false").to_owned(), text != Some("true")),
            ("string", text) => (format!("{:?}", text.unwrap_or("")), text.is_none()),
            ("bytes", _) => ("&[]".to_owned(), true),
            ("records", _) => ("Records::EMPTY".to_owned(), false),
            ("uuid", _) => ("Uuid::ZERO".to_owned(), true),
            ("float64", text) => (text.unwrap_or("0.0").to_owned(), text.is_none()),
            ("int64", Some("9223372036854775807")) => ("i64::MAX".to_owned(), false),
            ("int32", Some("2147483647")) => ("i32::MAX".to_owned(), false),
            ("int32", Some("-2147483648")) => ("i32::MIN".to_owned(), false),
            (base, text) if is_primitive(base) => (text.unwrap_or("0").to_owned(), text.is_none()),
            (base, _) => (format!("{base}::default()"), true),
        }
    };
    if field.nullable.is_some() { (format!("Some({value})"), false) } else { (value, is_natural) }
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

/// In which versions a field is there and may be null, if that needs saying.
fn presence(message: &Message, field: &Field) -> Option<String> {
    let range = |versions: Versions| {
        if versions.max == message.versions.max {
            format!("{}+", versions.min)
        } else if versions.min == versions.max {
            versions.min.to_string()
        } else {
            format!("{}-{}", versions.min, versions.max)
        }
    };
    let mut parts = Vec::new();
    if field.versions != message.versions {
        parts.push(format!("Versions {}", range(field.versions)));
    }
    if let Some(nullable) = field.nullable.filter(|nullable| *nullable != field.versions) {
        parts.push(format!("null in versions {}", range(nullable)));
    }
    if let Some(tag) = field.tag {
        parts.push(format!("tag {tag}"));
    }
    let text = parts.join(", ") + ".";
    let mut letters = text.chars();
    let first = letters.next()?.to_uppercase();
    (!parts.is_empty()).then(|| first.chain(letters).collect())
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

/// `version >= 4 && version <= 12`, shorter where the message's own range says as much.
fn condition(message: &Message, versions: Versions) -> Option<String> {
    let all = message.versions;
    match (versions.min > all.min, versions.max < all.max) {
        (false, false) => None,
        (true, false) => Some(format!("version >= {}", versions.min)),
        (false, true) => Some(format!("version <= {}", versions.max)),
        (true, true) if versions.min == versions.max => {
            Some(format!("version == {}", versions.min))
        }
        (true, true) => Some(format!("({}..={}).contains(&version)", versions.min, versions.max)),
    }
}

/// The statement that says how this version writes lengths, if the body asks.
fn lengths(message: &Message, body: &str) -> String {
    if !has_word(body, "lengths") {
        return String::new();
    }
    match message.flexible_from {
        None => "let lengths = Lengths::Fixed;\n".to_owned(),
        Some(from) if from <= message.versions.min => {
            "let lengths = Lengths::Compact;\n".to_owned()
        }
        Some(from) => format!("let lengths = Lengths::of(version, {from});\n"),
    }
}

fn version_argument(body: &str) -> &'static str {
    if has_word(body, "version") { "version" } else { "_version" }
}

/// `Nulls::Allowed`, or the condition under which they are.
fn nulls(message: &Message, field: &Field) -> String {
    let nullable = field.nullable.expect("asked of nullable fields only");
    let within_field = nullable.min <= field.versions.min && nullable.max >= field.versions.max;
    match condition(message, nullable) {
        Some(condition) if !within_field => format!("Nulls::when({condition})"),
        _ => "Nulls::Allowed".to_owned(),
    }
}

fn field_lengths(field: &Field) -> &'static str {
    if field.is_fixed { "Lengths::Fixed" } else { "lengths" }
}

/// The fewest bytes that an element of an array takes in any version that has the array.
fn element_bytes_min(message: &Message, field: &Field) -> usize {
    let versions = field.versions.min..=field.versions.max;
    versions.map(|version| base_bytes_min(message, &field.base, version)).min().unwrap_or(0).max(1)
}

fn base_bytes_min(message: &Message, base: &str, version: i16) -> usize {
    let is_flexible = message.is_flexible(version);
    let length_bytes = |fixed: usize| if is_flexible { 1 } else { fixed };
    match (base, primitive(base)) {
        (_, Some((_, _, size))) => size,
        ("string", _) => length_bytes(2),
        ("bytes" | "records", _) => length_bytes(4),
        (base, _) => {
            let fields = message.structure(base).fields.iter();
            let fields =
                fields.filter(|field| field.tag.is_none() && field.versions.contains(version));
            let size = |field: &Field| match (field.is_array, field.nullable) {
                (true, _) => length_bytes(4),
                (false, Some(_))
                    if !matches!(field.base.as_str(), "string" | "bytes" | "records") =>
                {
                    1
                }
                (false, _) => base_bytes_min(message, &field.base, version),
            };
            fields.map(size).sum::<usize>() + usize::from(is_flexible)
        }
    }
}

fn decode(message: &Message, structure: &Struct) -> String {
    let name = &structure.name;
    let mut fields = String::new();
    let mut tags = String::new();
    for field in &structure.fields {
        let rust_name = field_name(&field.name);
        let value = decode_field(message, field);
        let absent = default(field).0;
        let Some(tag) = field.tag else {
            fields += &match condition(message, field.versions) {
                None => format!("{rust_name}: {value},\n"),
                Some(when) => {
                    format!("{rust_name}: if {when} {{ {value} }} else {{ {absent} }},\n")
                }
            };
            continue;
        };
        fields += &format!("{rust_name}: {absent},\n");
        let when = condition(message, field.versions).map(|when| format!(" if {when}"));
        let when = when.unwrap_or_default();
        tags += &format!("{tag}{when} => message.{rust_name} = {value},\n");
    }
    let mut body = if !tags.is_empty() {
        format!(
            "let mut message = Self {{ {fields} }};
            reader.tagged_fields(lengths, |tag, reader| {{
                match tag {{ {tags} _ => return Ok(Tag::Unknown), }}
                Ok(Tag::Known)
            }})?;
            Ok(message)"
        )
    } else if message.flexible_from.is_some() {
        format!(
            "let message = Self {{ {fields} }};
            reader.skip_tagged_fields(lengths)?;
            Ok(message)"
        )
    } else {
        format!("Ok(Self {{ {fields} }})")
    };
    body = lengths(message, &body) + &body;
    if *name == message.name {
        body = format!("Self::check_version(version)?;\n{body}");
    }
    let reader = if has_word(&body, "reader") { "reader" } else { "_reader" };
    format!(
        "impl<'a> Decode<'a> for {name}{} {{
            fn decode({reader}: &mut Reader<'a>, {}: i16) -> Result<Self> {{ {body} }}
        }}\n\n",
        lifetime(message, name),
        version_argument(&body)
    )
}

fn decode_field(message: &Message, field: &Field) -> String {
    let lengths = field_lengths(field);
    let base = field.base.as_str();
    if field.is_array {
        let bytes_min = element_bytes_min(message, field);
        let element = match (base, primitive(base)) {
            (_, Some((_, method, _))) => format!("Reader::{method}"),
            ("string" | "bytes", _) => format!("|reader| reader.{base}({lengths})"),
            _ => format!("|reader| {base}::decode(reader, version)"),
        };
        return match field.nullable {
            None => format!("reader.array({lengths}, {bytes_min}, {element})?"),
            Some(_) => format!(
                "reader.nullable_array({lengths}, {}, {bytes_min}, {element})?",
                nulls(message, field)
            ),
        };
    }
    match (base, primitive(base), field.nullable) {
        (_, Some((_, method, _)), _) => format!("reader.{method}()?"),
        ("string" | "bytes" | "records", _, None) => format!("reader.{base}({lengths})?"),
        ("string" | "bytes" | "records", _, Some(_)) => {
            format!("reader.nullable_{base}({lengths}, {})?", nulls(message, field))
        }
        (_, _, None) => format!("{base}::decode(reader, version)?"),
        (_, _, Some(_)) => {
            let present = if field.tag.is_some() { "is_present_in_tag" } else { "is_present" };
            format!(
                "if reader.{present}()? {{ Some({base}::decode(reader, version)?) }} else {{ None }}"
            )
        }
    }
}

fn encode(message: &Message, structure: &Struct) -> String {
    let name = &structure.name;
    let mut body = String::new();
    for field in structure.fields.iter().filter(|field| field.tag.is_none()) {
        let value = encode_field(message, field);
        body += &match condition(message, field.versions) {
            None => format!("{value};\n"),
            Some(when) => format!("if {when} {{ {value}; }}\n"),
        };
    }
    if message.flexible_from.is_some() {
        body += &encode_tags(message, structure);
    }
    body = lengths(message, &body) + &body;
    if *name == message.name {
        body = format!(
            "if let Err(error) = Self::check_version(version) {{ return writer.fail(error); }}\n{body}"
        );
    }
    let writer = if has_word(&body, "writer") { "writer" } else { "_writer" };
    format!(
        "impl Encode for {name}{} {{
            fn encode(&self, {writer}: &mut Writer, {}: i16) {{ {body} }}
        }}\n\n",
        anonymous(message, name),
        version_argument(&body)
    )
}

fn encode_tags(message: &Message, structure: &Struct) -> String {
    let mut tagged: Vec<&Field> =
        structure.fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag);
    let (mut present, mut names, mut fields) = (String::new(), Vec::new(), String::new());
    for field in tagged {
        let name = field_name(&field.name);
        let (default, _) = default(field);
        let differs = match (default.as_str(), field.is_array) {
            ("None", _) => format!("self.{name}.is_some()"),
            ("Vec::new()", _) => format!("!self.{name}.is_empty()"),
            ("false", _) => format!("self.{name}"),
            ("true", _) => format!("!self.{name}"),
            _ => format!("self.{name} != {default}"),
        };
        let when = condition(message, field.versions).map(|when| format!("{when} && "));
        present += &format!("let {name} = {}{differs};\n", when.unwrap_or_default());
        fields += &format!(
            "if {name} {{ writer.tagged_field({}, |writer| {{ {}; }}); }}\n",
            field.tag.expect("these are the tagged ones"),
            encode_field(message, field)
        );
        names.push(name);
    }
    let names = names.join(", ");
    format!("{present}writer.tagged_field_count(&[{names}], lengths);\n{fields}")
}

fn encode_field(message: &Message, field: &Field) -> String {
    let lengths = field_lengths(field);
    let base = field.base.as_str();
    let value = format!("self.{}", field_name(&field.name));
    if field.is_array {
        let element = match (base, primitive(base)) {
            (_, Some((_, method, _))) => format!("|writer, value| writer.{method}(*value)"),
            ("string" | "bytes", _) => format!("|writer, value| writer.{base}(value, {lengths})"),
            _ => "|writer, value| value.encode(writer, version)".to_owned(),
        };
        return match field.nullable {
            None => format!("writer.array(&{value}, {lengths}, {element})"),
            Some(_) => format!(
                "writer.nullable_array({value}.as_deref(), {lengths}, {}, {element})",
                nulls(message, field)
            ),
        };
    }
    match (base, primitive(base), field.nullable) {
        (_, Some((_, method, _)), _) => format!("writer.{method}({value})"),
        ("string" | "bytes", _, None) => format!("writer.{base}({value}, {lengths})"),
        ("records", _, None) => format!("writer.records(&{value}, {lengths})"),
        ("string" | "bytes", _, Some(_)) => {
            format!("writer.nullable_{base}({value}, {lengths}, {})", nulls(message, field))
        }
        ("records", _, Some(_)) => {
            format!(
                "writer.nullable_records({value}.as_ref(), {lengths}, {})",
                nulls(message, field)
            )
        }
        (_, _, None) => format!("{value}.encode(writer, version)"),
        (_, _, Some(_)) => {
            let null = if field.tag.is_some() { 0 } else { -1 };
            format!(
                "match &{value} {{
                    Some(value) => {{ writer.i8(1); value.encode(writer, version); }}
                    None => writer.i8({null}),
                }}"
            )
        }
    }
}
