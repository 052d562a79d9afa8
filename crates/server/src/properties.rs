//! The format of `server.properties`: that of Java's `Properties`, in UTF-8.
//!
//! Pure. A key ends at the first `=`, `:` or white space that no backslash escapes; a line that
//! ends with an odd number of backslashes goes on in the next one; `#` and `!` begin a comment.

use std::{collections::BTreeMap, fmt, iter::Peekable, str::Chars};

/// A text that is no properties file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The first line of the entry, counted from 1.
    line: usize,
    reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

/// Reads the entries; of two with the same key the later one counts.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>, Malformed> {
    let mut entries = BTreeMap::new();
    let mut lines = natural_lines(text);
    while let Some((line, first)) = lines.next() {
        let first = trim_start(first);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.to_owned();
        while ends_open(&whole) {
            whole.pop();
            let Some((_, next)) = lines.next() else { break };
            whole.push_str(trim_start(next));
        }
        let (key, value) = entry(&whole).map_err(|reason| Malformed { line, reason })?;
        entries.insert(key, value);
    }
    Ok(entries)
}

/// Lines by `\n`, `\r` or both, with their numbers.
fn natural_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    let mut number = 0;
    std::iter::from_fn(move || {
        let current = rest?;
        number += 1;
        let Some(end) = current.find(['\n', '\r']) else {
            rest = None;
            return Some((number, current));
        };
        let width = if current[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&current[end + width..]);
        Some((number, &current[..end]))
    })
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\x0c')
}

fn trim_start(line: &str) -> &str {
    line.trim_start_matches(is_blank)
}

/// Whether the last backslash of the line stands for itself and not for an escaped one.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn entry(line: &str) -> Result<(String, String), &'static str> {
    let mut characters = line.chars().peekable();
    let mut key = String::new();
    while let Some(character) = characters.next_if(|next| !is_blank(*next) && !is_equals(*next)) {
        push(&mut key, character, &mut characters)?;
    }
    skip_blanks(&mut characters);
    if characters.next_if(|next| is_equals(*next)).is_some() {
        skip_blanks(&mut characters);
    }
    let mut value = String::new();
    while let Some(character) = characters.next() {
        push(&mut value, character, &mut characters)?;
    }
    Ok((key, value))
}

const fn is_equals(character: char) -> bool {
    matches!(character, '=' | ':')
}

fn skip_blanks(characters: &mut Peekable<Chars<'_>>) {
    while characters.next_if(|next| is_blank(*next)).is_some() {}
}

/// Takes one character, or what the backslash before it makes of it.
fn push(
    target: &mut String,
    character: char,
    rest: &mut Peekable<Chars<'_>>,
) -> Result<(), &'static str> {
    if character != '\\' {
        target.push(character);
        return Ok(());
    }
    // A backslash at the very end of the text stands for nothing.
    let Some(escaped) = rest.next() else { return Ok(()) };
    target.push(match escaped {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\x0c',
        'u' => unicode(rest)?,
        other => other,
    });
    Ok(())
}

/// The rest of `\uXXXX`, or of two of them that are one character.
fn unicode(rest: &mut Peekable<Chars<'_>>) -> Result<char, &'static str> {
    let first = unit(rest)?;
    let mut units = vec![first];
    if (0xD800..0xDC00).contains(&first) {
        if rest.next() != Some('\\') || rest.next() != Some('u') {
            return Err("half of a \\u pair");
        }
        units.push(unit(rest)?);
    }
    let decoded = char::decode_utf16(units).next().and_then(Result::ok);
    decoded.ok_or("half of a \\u pair")
}

fn unit(rest: &mut Peekable<Chars<'_>>) -> Result<u16, &'static str> {
    let digits: String = rest.by_ref().take(4).collect();
    let is_hex = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let unit = is_hex.then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
    unit.ok_or("\\u needs four hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        assert_eq!(parse(text), Ok(expected), "{text:?}");
    }

    #[test]
    fn entries_are_read_as_java_reads_them() {
        check("", &[]);
        check("a=b", &[("a", "b")]);
        check("a = b \n", &[("a", "b ")]);
        check("a:b\r\nc d\re", &[("a", "b"), ("c", "d"), ("e", "")]);
        check("  # comment\n\t! another\n\n a=1", &[("a", "1")]);
        check("a==b", &[("a", "=b")]);
        check("a = : b", &[("a", ": b")]);
        check("listeners=PLAINTEXT://:9092", &[("listeners", "PLAINTEXT://:9092")]);
        check("a=1\na=2", &[("a", "2")]);
        check("=x", &[("", "x")]);
        check("\\#a\\ \\=b=c", &[("#a =b", "c")]);
        check("a=\\t\\n\\r\\f\\q\\\\", &[("a", "\t\n\r\x0cq\\")]);
        check("a=\\u00e9\\uD83D\\uDE00", &[("a", "é😀")]);
    }

    #[test]
    fn a_line_goes_on_after_an_odd_number_of_backslashes() {
        check("a=1,\\\n   2,\\\r\n\t3\nb=4", &[("a", "1,2,3"), ("b", "4")]);
        check("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]);
        check("a=1\\\n# 2", &[("a", "1# 2")]);
        check("a=1\\", &[("a", "1")]);
        check("# comment \\\nb=2", &[("b", "2")]);
    }

    #[test]
    fn a_broken_escape_is_refused_with_its_line() {
        for (text, line) in [("a=1\nb=\\u12", 2), ("\\uzzzz=1", 1), ("a=\\ud83dx", 1)] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
