//! Rules that need no parser: sizes, white space, leftovers, paths of one machine.

use super::Finding;

/// A source file past this length holds more than one concept.
const LINES_MAX: usize = 800;

/// What a generated file says in one of its first lines.
const GENERATED_MARK: &str = concat!("@", "generated");
const GENERATED_MARK_WITHIN_LINES: usize = 5;

/// Files whose content others decide.
const FOREIGN: &[&str] = &["Cargo.lock", "package-lock.json", "go.sum", "LICENSE"];

/// Languages in which a tab is how one indents.
const TABBED: &[&str] = &[".go", ".mod", "Makefile", ".tsv"];

/// Endings of files that are written by people and read as code.
const SOURCE: &[&str] = &[".rs", ".py", ".java", ".go", ".js", ".mjs", ".sh", ".c"];

/// What is missing stands in docs/COMPATIBILITY.md, not in the code.
const LEFTOVERS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("unimplemented", "!("),
    concat!("to", "do!("),
];

/// Folders that exist on the machine of whoever wrote the line.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Judges the text `content` of `file`.
pub(super) fn check(file: &str, content: &str) -> Vec<Finding> {
    let name = file.rsplit('/').next().unwrap_or(file);
    if FOREIGN.contains(&name) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let generated =
        content.lines().take(GENERATED_MARK_WITHIN_LINES).any(|line| line.contains(GENERATED_MARK));
    let is_source = SOURCE.iter().any(|ending| name.ends_with(ending));
    let count = content.lines().count();
    if is_source && !generated && count > LINES_MAX {
        findings.push(Finding::new(
            file,
            0,
            format!("{count} lines, {LINES_MAX} at most: split it"),
        ));
    }
    if !content.is_empty() && !content.ends_with('\n') {
        findings.push(Finding::new(file, count, "no newline at the end"));
    }
    let tabs_allowed = TABBED.iter().any(|ending| name.ends_with(ending));
    for (index, line) in content.split('\n').enumerate() {
        for message in check_line(line, tabs_allowed) {
            findings.push(Finding::new(file, index + 1, message));
        }
    }
    findings
}

fn check_line(line: &str, tabs_allowed: bool) -> Vec<String> {
    let mut messages = Vec::new();
    if line.ends_with([' ', '\t', '\r']) {
        messages.push("white space at the end of the line".to_owned());
    }
    if !tabs_allowed && line.contains('\t') {
        messages.push("a tab".to_owned());
    }
    for word in LEFTOVERS.iter().filter(|word| line.contains(**word)) {
        messages.push(format!("`{word}`: finish it or write it down in docs/COMPATIBILITY.md"));
    }
    for path in MACHINE_PATHS.iter().filter(|path| names_machine_path(line, path)) {
        messages.push(format!("`{path}` is a folder of one machine"));
    }
    messages
}

/// `path` at the start of a path: not `src/home/x`, nor `https://host/home/`.
fn names_machine_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before
            .is_some_and(|character| character.is_alphanumeric() || "._-/$})".contains(character))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_bad_line_and_passes_the_good_one() {
        let long = "x\n".repeat(LINES_MAX + 1);
        let fitting = "x\n".repeat(LINES_MAX);
        let generated = format!("// {GENERATED_MARK} by codegen\n{long}");
        let todo = format!("// {}: later\n", LEFTOVERS[0]);
        let local = format!("let a = \"{}x\";\n", MACHINE_PATHS[0]);
        let web = format!("https://example.org{}x\n", MACHINE_PATHS[2]);
        let cases: &[(&str, &str, usize)] = &[
            ("a.rs", "fn f() {}\n", 0),
            ("a.rs", "", 0),
            ("a.rs", "fn f() {}", 1),
            ("a.rs", "fn f() {} \n", 1),
            ("a.rs", "fn f() {}\r\n", 1),
            ("a.rs", "\tfn f() {}\n", 1),
            ("tests/compat/go/main.go", "\tx()\n", 0),
            ("a.rs", &long, 1),
            ("a.rs", &fitting, 0),
            ("a.rs", &generated, 0),
            ("docs/a.md", &long, 0),
            ("a.rs", &todo, 1),
            ("Cargo.lock", &todo, 0),
            ("a.md", &local, 1),
            ("a.md", &web, 0),
        ];
        for (file, content, expected) in cases {
            let findings = check(file, content);
            assert_eq!(findings.len(), *expected, "{file}: {findings:?}");
        }
    }
}
