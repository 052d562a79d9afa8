//! Subscriptions by regular expression. Apache Kafka takes RE2's syntax; ours is that of the
//! `regex` crate, which is RE2's but for a few corners, with `\Q...\E` besides. An expression has
//! to match the whole name. Matching takes time linear in the name, whatever the expression.

use std::rc::Rc;

use model::collections::BTreeSet;
use regex::{Regex, RegexBuilder};

use crate::topics::Topics;

/// Memory that one compiled expression may take: enough for any list of names that somebody
/// writes by hand, and too little to hurt where each member of a group brings its own.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// The topics that an expression matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// Their names.
    pub topics: BTreeSet<String>,
    /// The version of the metadata that was looked at.
    pub version: i64,
    /// When that was.
    pub timestamp_ms: i64,
}

/// Compiles an expression; or says what is wrong with it.
pub fn compile(expression: &str) -> Result<Regex, String> {
    let whole = format!(r"\A(?:{})\z", unquoted(expression));
    // Checked by itself, for `a)|(?:b` would be sound within the brackets.
    let sound = RegexBuilder::new(&unquoted(expression)).size_limit(COMPILED_BYTES_MAX).build();
    sound.and_then(|_| RegexBuilder::new(&whole).size_limit(COMPILED_BYTES_MAX).build()).map_err(
        |error| {
            if let regex::Error::CompiledTooBig(_) = error {
                return "expression too large".to_owned();
            }
            error.to_string().lines().last().unwrap_or_default().trim().to_owned()
        },
    )
}

/// The topics that match now.
pub fn resolve(expression: &str, topics: &dyn Topics, timestamp_ms: i64) -> Rc<ResolvedRegex> {
    let names = match compile(expression) {
        Ok(regex) => topics.matching(&|name| regex.is_match(name)),
        // One that Apache Kafka wrote and that is none here matches nothing.
        Err(_) => Vec::new(),
    };
    let version = topics.version();
    Rc::new(ResolvedRegex { topics: names.into_iter().collect(), version, timestamp_ms })
}

/// Writes what stands between `\Q` and `\E` in a way that needs neither.
fn unquoted(expression: &str) -> String {
    let mut plain = String::with_capacity(expression.len());
    let mut rest = expression;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(literal));
            rest = after;
        } else {
            let end = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
            plain.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_whole_names() {
        let cases = [
            ("orders.*", "orders-1", true),
            ("orders", "orders-1", false),
            ("rders", "orders", false),
            ("a|orders", "orders", true),
            ("^orders$", "orders", true),
            (r"\Qa.b\E-\d+", "a.b-17", true),
            (r"\Qa.b\E-\d+", "axb-17", false),
            (r"a\\Q", r"a\Q", true),
            ("(?i)ORDERS", "orders", true),
            ("", "orders", false),
        ];
        for (expression, name, expected) in cases {
            assert_eq!(compile(expression).unwrap().is_match(name), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for expression in ["(", "a)|(?:b", "*a", r"(a{1000}){1000}", "[", r"(?=a)"] {
            compile(expression).expect_err(expression);
        }
    }
}
