//! `cargo xtask tidy`: the rules of docs/ARCHITECTURE.md that no compiler checks.
//!
//! Every rule is a plain function from text to findings, so that it can be tested with snippets;
//! this file only finds the files and hands them over. It reads, and never writes.
//! - `graph`: who may depend on whom;
//! - `bans`: what code above the runtime may not call, and where `unsafe` may stand;
//! - `text`: sizes, white space, leftovers, paths of one machine;
//! - `packaging`: what packages are made of.

mod bans;
mod graph;
mod packaging;
mod paths;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The list, kept in the runtime's own room, of the files that may hold `unsafe`.
const UNSAFE_LIST: &str = "crates/runtime/unsafe-files.txt";

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) file: String,
    /// Counted from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Checks the tree under `root` and prints each finding.
///
/// # Errors
/// When there is a finding, or the tree cannot be read.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let files = project_files(root)?;
    let unsafe_files = bans::parse_unsafe_list(&read_or_empty(&root.join(UNSAFE_LIST))?);
    let mut findings = Vec::new();
    let mut holding_unsafe = BTreeSet::new();
    for file in &files {
        // A symbolic link or a file deleted but not yet staged is nobody's text.
        let Ok(bytes) = fs::read(root.join(file)) else { continue };
        let Ok(content) = String::from_utf8(bytes) else { continue };
        findings.extend(text::check(file, &content));
        findings.extend(packaging::check(file, &content));
        if file.ends_with(".rs") {
            let source = bans::check(file, &content, &unsafe_files);
            findings.extend(source.findings);
            if source.holds_unsafe {
                holding_unsafe.insert(file.clone());
            }
        }
        if let Some(krate) = graph::crate_of_manifest(file) {
            findings.extend(graph::check(krate, file, &content));
        }
    }
    for listed in unsafe_files.difference(&holding_unsafe) {
        findings.push(Finding::new(UNSAFE_LIST, 0, format!("{listed} holds no unsafe: unlist it")));
    }
    findings.extend(packaging::verify(root));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    Err(format!("tidy: {} findings", findings.len()))
}

/// Tracked files and those about to be: what git knows and what it does not ignore.
fn project_files(root: &Path) -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("git ls-files: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let unique: BTreeSet<&str> = listed.split('\0').filter(|name| !name.is_empty()).collect();
    Ok(unique.into_iter().map(str::to_owned).collect())
}

fn read_or_empty(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
