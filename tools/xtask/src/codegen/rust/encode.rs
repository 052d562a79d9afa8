//! A structure's `Encode`.

use super::super::schema::{Field, Message, Struct};
use super::names::field as field_name;
use super::types::{
    anonymous, condition, default, field_lengths, has_word, lengths, nulls, primitive,
    version_argument,
};

pub fn encode(message: &Message, structure: &Struct) -> String {
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
