//! Rust source as the paths it names.
//!
//! The source is read as tokens, so comments and strings never count and macros' arguments do.
//! A `use` tree is unfolded: `use std::{fs, io}` names `std::fs` and `std::io`. Code under
//! `#[cfg(test)]` or `#[test]` is left out. Types are not resolved: a name that was renamed on
//! import escapes, which is what clippy's own bans are for.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The keywords that a path with a leading `::` may follow.
const KEYWORDS: &[&str] = &["use", "return", "in", "as", "dyn", "impl", "mut", "for", "else"];

/// A path as written, for instance `["std", "fs", "File"]`, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// Whether code that only tests see is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tests {
    Skipped,
    Included,
}

/// Every path that `source` names, in order.
///
/// # Errors
/// When the source is not made of Rust tokens.
pub(super) fn named_paths(source: &str, tests: Tests) -> Result<Vec<NamedPath>, String> {
    let stream: TokenStream =
        source.parse().map_err(|error: proc_macro2::LexError| error.to_string())?;
    let mut paths = Vec::new();
    walk(stream, tests, &mut paths);
    Ok(paths)
}

fn walk(stream: TokenStream, tests: Tests, paths: &mut Vec<NamedPath>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if tests == Tests::Skipped && is_test_attribute(&tokens[at..]) {
            at = end_of_item(&tokens, at + 2);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(_) => at = path_at(&tokens, at, &[], tests, paths),
            TokenTree::Group(group) => {
                walk(group.stream(), tests, paths);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}

/// Reads the path whose first name is at `at`, and returns where it ends.
fn path_at(
    tokens: &[TokenTree],
    mut at: usize,
    prefix: &[String],
    tests: Tests,
    paths: &mut Vec<NamedPath>,
) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].span().start().line;
    while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
        segments.push(ident.to_string());
        at += 1;
        // After a keyword, `::` begins a path instead of going on with one.
        let is_keyword = KEYWORDS.iter().any(|keyword| ident == keyword);
        if is_keyword || !is_path_separator(tokens, at) {
            break;
        }
        match tokens.get(at + 2) {
            Some(TokenTree::Ident(_)) => at += 2,
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                use_tree(group.stream(), &segments, tests, paths);
                return at + 3;
            }
            // A turbofish or a glob ends the path; what stands in it is read on its own.
            Some(_) | None => {
                at += 2;
                break;
            }
        }
    }
    paths.push(NamedPath { segments, line });
    at
}

/// Reads the braces of a `use`, each of whose items continues `prefix`.
fn use_tree(stream: TokenStream, prefix: &[String], tests: Tests, paths: &mut Vec<NamedPath>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for item in tokens.split(|token| is_punct(token, ',')) {
        match item.first() {
            Some(TokenTree::Ident(ident)) if ident == "self" => {
                paths
                    .push(NamedPath { segments: prefix.to_vec(), line: ident.span().start().line });
            }
            Some(TokenTree::Ident(_)) => {
                path_at(item, 0, prefix, tests, paths);
            }
            Some(TokenTree::Punct(star)) => {
                paths.push(NamedPath { segments: prefix.to_vec(), line: star.span().start().line })
            }
            Some(_) | None => {}
        }
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let joint = matches!(tokens.get(at), Some(TokenTree::Punct(first))
        if first.as_char() == ':' && first.spacing() == Spacing::Joint);
    joint && tokens.get(at + 1).is_some_and(|second| is_punct(second, ':'))
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, ...))]`, but not `#[cfg(not(test))]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(group), ..] = tokens else { return false };
    if !is_punct(hash, '#') || group.delimiter() != Delimiter::Bracket {
        return false;
    }
    let mut names = Vec::new();
    collect_idents(group.stream(), &mut names);
    match names.first().map(String::as_str) {
        Some("test") => names.len() == 1,
        Some("cfg") => {
            names.iter().any(|name| name == "test") && !names.iter().any(|name| name == "not")
        }
        Some(_) | None => false,
    }
}

fn collect_idents(stream: TokenStream, names: &mut Vec<String>) {
    for token in stream {
        match token {
            TokenTree::Ident(ident) => names.push(ident.to_string()),
            TokenTree::Group(group) => collect_idents(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Where the item (or field, or statement) that begins at `at` ends.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    const ITEM_WORDS: &[&str] = &["fn", "mod", "use", "impl", "struct", "enum", "trait", "const"];
    let mut is_item = false;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Ident(ident) if ITEM_WORDS.iter().any(|word| ident == word) => {
                is_item = true;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                // `use a::{b};` goes on to its semicolon.
                let goes_on = tokens.get(at).is_some_and(|next| is_punct(next, ';'));
                return if goes_on { at + 1 } else { at };
            }
            _ if is_punct(token, ';') || (!is_item && is_punct(token, ',')) => return at,
            TokenTree::Ident(_)
            | TokenTree::Group(_)
            | TokenTree::Punct(_)
            | TokenTree::Literal(_) => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str, tests: Tests) -> Vec<String> {
        let paths = named_paths(source, tests).unwrap();
        paths.into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_unfold_and_text_does_not_count() {
        let cases: &[(&str, &[&str])] = &[
            ("use std::fs;", &["use", "std::fs"]),
            ("use std::{io, fs::{self, File}};", &["use", "std::io", "std::fs", "std::fs::File"]),
            ("use ::std::net::*;", &["use", "std::net"]),
            ("f(\"std::fs\"); // std::net\n/* x */", &["f"]),
            ("assert!(Instant::now() > t)", &["assert", "Instant::now", "t"]),
            ("Vec::<std::fs::File>::new()", &["Vec", "std::fs::File", "new"]),
            ("#[cfg(test)] mod tests { use std::fs; } g()", &["g"]),
            ("#[cfg(test)] use std::{fs, io}; g()", &["g"]),
            ("#[test] fn a<A, B>() { h() } g()", &["g"]),
            ("#[cfg(not(test))] fn a() {}", &["cfg", "not", "test", "fn", "a"]),
            ("struct S { #[cfg(test)] a: u8, b: u8 }", &["struct", "S", "b", "u8"]),
        ];
        for (source, expected) in cases {
            assert_eq!(names(source, Tests::Skipped), *expected, "{source}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let paths = named_paths("a\n\nb::c", Tests::Included).unwrap();
        assert_eq!(paths[1], NamedPath { segments: vec!["b".into(), "c".into()], line: 3 });
    }

    #[test]
    fn what_does_not_lex_is_refused() {
        assert!(named_paths("fn f( {", Tests::Included).is_err());
    }
}
