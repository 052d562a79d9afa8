//! The table's types, defaults and versions as pieces of Rust.

use super::super::schema::{Field, Message, Versions};

/// `<'a>` if the structure borrows.
pub fn lifetime(message: &Message, name: &str) -> &'static str {
    let borrows = |field: &Field| match field.base.as_str() {
        "string" | "bytes" | "records" => true,
        base if is_primitive(base) => false,
        base => !lifetime(message, base).is_empty(),
    };
    if message.structure(name).fields.iter().any(borrows) { "<'a>" } else { "" }
}

pub fn anonymous(message: &Message, name: &str) -> &'static str {
    if lifetime(message, name).is_empty() { "" } else { "<'_>" }
}

pub fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word)
    })
}

pub fn is_primitive(base: &str) -> bool {
    primitive(base).is_some()
}

/// The Rust type, the method of reader and writer, and the size.
pub fn primitive(base: &str) -> Option<(&'static str, &'static str, usize)> {
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

pub fn field_type(message: &Message, field: &Field) -> String {
    let mut rust = element_type(message, &field.base);
    if field.is_array {
        rust = format!("Vec<{rust}>");
    }
    if field.nullable.is_some() { format!("Option<{rust}>") } else { rust }
}

/// The default as an expression, and whether `Default::default()` is the same.
pub fn default(field: &Field) -> (String, bool) {
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

/// In which versions a field is there and may be null, if that needs saying.
pub fn presence(message: &Message, field: &Field) -> Option<String> {
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

/// `version >= 4 && version <= 12`, shorter where the message's own range says as much.
pub fn condition(message: &Message, versions: Versions) -> Option<String> {
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
pub fn lengths(message: &Message, body: &str) -> String {
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

pub fn version_argument(body: &str) -> &'static str {
    if has_word(body, "version") { "version" } else { "_version" }
}

/// `Nulls::Allowed`, or the condition under which they are.
pub fn nulls(message: &Message, field: &Field) -> String {
    let nullable = field.nullable.expect("asked of nullable fields only");
    let within_field = nullable.min <= field.versions.min && nullable.max >= field.versions.max;
    match condition(message, nullable) {
        Some(condition) if !within_field => format!("Nulls::when({condition})"),
        _ => "Nulls::Allowed".to_owned(),
    }
}

pub fn field_lengths(field: &Field) -> &'static str {
    if field.is_fixed { "Lengths::Fixed" } else { "lengths" }
}

/// The fewest bytes that an element of an array takes in any version that has the array.
pub fn element_bytes_min(message: &Message, field: &Field) -> usize {
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
