//! `cargo xtask codegen`: the message table of crates/wire/schema to Rust in
//! crates/wire/src/generated. With `--check` it writes nothing and fails if the two differ.

mod rust;
mod schema;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use schema::Message;

const SCHEMA: &str = "crates/wire/schema";
const GENERATED: &str = "crates/wire/src/generated";
/// The list of all messages for the tests of the room.
const TEST_LIST: &str = "crates/wire/tests/all/messages.rs";
/// Files are formatted here before they are compared or moved; below the workspace's rustfmt.toml.
const SCRATCH: &str = "target/codegen";

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Write nothing; fail if the committed files are not what the table says
    #[arg(long)]
    check: bool,
}

/// Runs the command in the workspace at `root`.
pub fn run(root: &Path, options: &Options) -> Result<(), String> {
    let files = generate(root)?;
    if options.check { compare(root, &files) } else { write(root, &files) }
}

/// The formatted files by path.
fn generate(root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
    let messages = read_table(root)?;
    let scratch = root.join(SCRATCH);
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(in_file(&scratch))?;
    }
    let mut targets = Vec::new();
    for (name, text) in rust::files(&messages) {
        targets.push((scratch.join(&name), root.join(GENERATED).join(&name), text));
    }
    let list = rust::test_list(&messages);
    targets.push((scratch.join("test_list.rs"), root.join(TEST_LIST), list));
    fs::create_dir_all(&scratch).map_err(in_file(&scratch))?;
    for (path, _, text) in &targets {
        fs::write(path, text).map_err(in_file(path))?;
    }
    let status = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .args(targets.iter().map(|(path, _, _)| path))
        .status()
        .map_err(|error| format!("rustfmt: {error}"))?;
    if !status.success() {
        return Err("rustfmt failed".to_owned());
    }
    let read = |path: &Path| fs::read_to_string(path).map_err(in_file(path));
    targets.iter().map(|(path, target, _)| Ok((target.clone(), read(path)?))).collect()
}

fn read_table(root: &Path) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    for directory in [root.join(SCHEMA), root.join(SCHEMA).join("api")] {
        for path in list(&directory, "txt")? {
            let text = fs::read_to_string(&path).map_err(in_file(&path))?;
            let parsed = schema::parse(&text);
            messages.extend(parsed.map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    Ok(messages)
}

fn write(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    for (path, text) in files {
        let directory = path.parent().expect("a file is in a directory");
        fs::create_dir_all(directory).map_err(in_file(directory))?;
        if fs::read_to_string(path).ok().as_ref() != Some(text) {
            fs::write(path, text).map_err(in_file(path))?;
        }
    }
    for path in list(&root.join(GENERATED), "rs")? {
        if !files.contains_key(&path) {
            fs::remove_file(&path).map_err(in_file(&path))?;
        }
    }
    Ok(())
}

fn compare(root: &Path, files: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let stale =
        files.iter().find(|(path, text)| fs::read_to_string(path).ok().as_ref() != Some(*text));
    if let Some((path, _)) = stale {
        return Err(format!("{} is not what the table says: run codegen", path.display()));
    }
    match list(&root.join(GENERATED), "rs")?.iter().find(|path| !files.contains_key(*path)) {
        Some(path) => Err(format!("{} is not in the table: run codegen", path.display())),
        None => Ok(()),
    }
}

fn list(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(in_file(directory))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(in_file(directory))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
