//! A structure's `Decode`.

use super::super::schema::{Field, Message, Struct};
use super::names::field as field_name;
use super::types::{
    condition, default, element_bytes_min, field_lengths, has_word, lengths, lifetime, nulls,
    primitive, version_argument,
};

pub fn decode(message: &Message, structure: &Struct) -> String {
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
