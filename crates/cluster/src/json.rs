//! As much of JSON as `quorum-state` and `.kafka_cleanshutdown` need: whole numbers, strings,
//! arrays and objects, a few levels deep. Files of a directory are input from outside, so text
//! and depth are bounded.

use model::collections::BTreeMap;
use std::fmt;

/// The longest text: a quorum-state of a hundred voters is far shorter.
const TEXT_BYTES_MAX: usize = 1 << 16;
/// The deepest nesting: quorum-state has an object in an array in an object.
const DEPTH_MAX: usize = 8;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
    /// A list.
    Array(Vec<Value>),
    /// Fields by name.
    Object(BTreeMap<String, Value>),
    /// `true` or `false`.
    Boolean(bool),
    /// `null`.
    Null,
}

impl Value {
    /// The field of an object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(fields) => fields.get(name),
            Value::Number(_)
            | Value::Text(_)
            | Value::Array(_)
            | Value::Boolean(_)
            | Value::Null => None,
        }
    }

    /// The number that this is.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        if let Value::Number(number) = self { Some(*number) } else { None }
    }

    /// The string that this is.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }
}

/// Writes a string as JSON does.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(formatter, "\\{character}")?,
                control if u32::from(control) < 0x20 => {
                    write!(formatter, "\\u{:04x}", u32::from(control))?;
                }
                other => write!(formatter, "{other}")?,
            }
        }
        formatter.write_str("\"")
    }
}

/// Reads one value and nothing behind it; `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Value> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut parser = Parser { rest: text };
    let value = parser.value(0)?;
    parser.skip_space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Takes this text if it comes next.
    fn take(&mut self, expected: &str) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.skip_space();
        match self.rest.chars().next()? {
            '{' => self.object(depth),
            '[' => self.array(depth),
            '"' => self.string().map(Value::Text),
            't' => self.take("true").map(|()| Value::Boolean(true)),
            'f' => self.take("false").map(|()| Value::Boolean(false)),
            'n' => self.take("null").map(|()| Value::Null),
            _ => self.number().map(Value::Number),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.take("{")?;
        let mut fields = BTreeMap::new();
        if self.take("}").is_some() {
            return Some(Value::Object(fields));
        }
        loop {
            self.skip_space();
            let name = self.string()?;
            self.take(":")?;
            fields.insert(name, self.value(depth + 1)?);
            if self.take("}").is_some() {
                return Some(Value::Object(fields));
            }
            self.take(",")?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        self.take("[")?;
        let mut values = Vec::new();
        if self.take("]").is_some() {
            return Some(Value::Array(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.take("]").is_some() {
                return Some(Value::Array(values));
            }
            self.take(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('"')?;
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        loop {
            let (position, character) = characters.next()?;
            match character {
                '"' => {
                    self.rest = &self.rest[position + 1..];
                    return Some(text);
                }
                '\\' => match characters.next()?.1 {
                    'u' => {
                        let digits: String = (0..4)
                            .map(|_| characters.next().map(|(_, digit)| digit))
                            .collect::<Option<_>>()?;
                        text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    plain @ ('"' | '\\' | '/') => text.push(plain),
                    _ => return None,
                },
                plain => text.push(plain),
            }
        }
    }

    fn number(&mut self) -> Option<i64> {
        let is_part = |character: char| character.is_ascii_digit() || character == '-';
        let end = self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        number.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let value = parse(" {\"a\":[1,-2 , {}], \"b\\u0041\\n\":null,\"c\":true} ").unwrap();
        let items = vec![Value::Number(1), Value::Number(-2), Value::Object(BTreeMap::new())];
        assert_eq!(value.field("a"), Some(&Value::Array(items)));
        assert_eq!(value.field("bA\n"), Some(&Value::Null));
        assert_eq!(value.field("c"), Some(&Value::Boolean(true)));
        let quoted = Quoted("a\"\\\u{1}é").to_string();
        assert_eq!(parse(&quoted), Some(Value::Text("a\"\\\u{1}é".to_owned())));
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = "[".repeat(1000);
        let long = format!("\"{}\"", "x".repeat(TEXT_BYTES_MAX));
        for text in [
            "",
            "{",
            "{\"a\"}",
            "[1,]",
            "1 2",
            "tru",
            "\"",
            "\"\\x\"",
            "\"\\u12",
            "-",
            "1.5",
            "+1",
            "1-",
            deep.as_str(),
            long.as_str(),
        ] {
            assert_eq!(parse(text), None, "{text:.20}");
        }
    }
}
