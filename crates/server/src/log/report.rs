//! What is printed: items with named fields, for people or as JSON, and the count of problems.

use std::{
    fmt::{self, Display, Write as _},
    io::{self, Write},
    path::Path,
};

use cluster::json::Quoted;
use indicatif::ProgressBar;
use runtime::{Errno, Runtime};
use storage::Error;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines below the name of their file.
    Table,
    /// An object a line.
    Json,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Show {
    /// What is wrong.
    Problems,
    /// Everything but records.
    Batches,
    /// Everything.
    Records,
}

/// A field's value.
enum Value {
    Number(i64),
    Text(String),
}

/// One line: what it is, and its fields in order.
pub(super) struct Item {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Item {
    pub(super) fn new(kind: &'static str) -> Item {
        Item { kind, fields: Vec::new() }
    }

    pub(super) fn number(mut self, name: &'static str, value: impl Into<i64>) -> Item {
        self.fields.push((name, Value::Number(value.into())));
        self
    }

    /// A size or position; one that fits no i64 is none that a file has.
    pub(super) fn size(self, name: &'static str, value: u64) -> Item {
        self.number(name, i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn text(mut self, name: &'static str, value: impl Display) -> Item {
        self.fields.push((name, Value::Text(value.to_string())));
        self
    }
}

impl Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => number.fmt(formatter),
            Value::Text(text) => Quoted(text).fmt(formatter),
        }
    }
}

/// See the module.
pub(super) struct Report<W: Write> {
    out: W,
    format: Format,
    show: Show,
    file: String,
    /// The heading of `file` is yet to be printed.
    is_new_file: bool,
    files: u64,
    batches: u64,
    problems: u64,
    /// The first failure to write; nothing is written after it.
    failure: Option<io::Error>,
    /// For who waits, where only problems are shown.
    bar: ProgressBar,
}

impl<W: Write> Report<W> {
    /// `bar` shows how far it is; a hidden one costs nothing.
    pub(super) fn new(out: W, format: Format, show: Show, bar: ProgressBar) -> Report<W> {
        Report {
            out,
            format,
            show,
            file: String::new(),
            is_new_file: false,
            files: 0,
            batches: 0,
            problems: 0,
            failure: None,
            bar,
        }
    }

    /// So many directories and files will be looked at.
    pub(super) fn expect(&self, count: usize) {
        self.bar.set_length(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// The next of them.
    pub(super) fn next(&self, name: &str) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            self.bar.set_message(one_line(name));
        }
    }

    pub(super) fn shows_records(&self) -> bool {
        self.show >= Show::Records
    }

    /// What follows is of this file.
    pub(super) fn begin(&mut self, path: &Path) {
        self.file = path.display().to_string();
        self.is_new_file = true;
        self.files += 1;
    }

    pub(super) fn item(&mut self, item: Item) {
        if item.kind == "batch" {
            self.batches += 1;
        }
        if self.show >= Show::Batches {
            self.print(&item);
        }
    }

    /// Something that has to be known to judge the rest.
    pub(super) fn note(&mut self, what: impl Display) {
        self.print(&Item::new("note").text("what", what));
    }

    pub(super) fn problem(&mut self, what: impl Display) {
        self.problems += 1;
        self.print(&Item::new("problem").text("what", what));
    }

    /// Ends the report; gives the number of problems.
    pub(super) fn finish(&mut self) -> io::Result<u64> {
        let summary = Item::new("summary")
            .size("files", self.files)
            .size("batches", self.batches)
            .size("problems", self.problems);
        self.file.clear();
        self.is_new_file = false;
        self.bar.finish_and_clear();
        self.print(&summary);
        match self.failure.take() {
            // Whoever read has seen enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(self.problems),
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.problems),
        }
    }

    fn print(&mut self, item: &Item) {
        if self.failure.is_some() {
            return;
        }
        let text = match self.format {
            Format::Table => self.line(item),
            Format::Json => self.object(item),
        };
        let out = &mut self.out;
        let written = if self.bar.is_hidden() || self.bar.is_finished() {
            out.write_all(text.as_bytes())
        } else {
            // Above the bar, and not into it.
            self.bar.suspend(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
        };
        if let Err(error) = written {
            self.failure = Some(error);
        }
    }

    fn line(&mut self, item: &Item) -> String {
        let mut text = String::new();
        if std::mem::take(&mut self.is_new_file) {
            text.push_str(&self.file);
            text.push('\n');
        }
        let indent = if self.file.is_empty() { "" } else { "  " };
        text.push_str(indent);
        text.push_str(if item.kind == "problem" { "PROBLEM" } else { item.kind });
        for (name, value) in &item.fields {
            match value {
                Value::Text(value) if *name == "what" => write!(text, ": {}", one_line(value)),
                Value::Text(value) => write!(text, " {name}={}", one_line(value)),
                Value::Number(value) => write!(text, " {name}={value}"),
            }
            .expect("a String takes all text");
        }
        text.push('\n');
        text
    }

    fn object(&self, item: &Item) -> String {
        let mut text = format!("{{\"kind\":{}", Quoted(item.kind));
        if !self.file.is_empty() {
            write!(text, ",\"file\":{}", Quoted(&self.file)).expect("a String takes all text");
        }
        for (name, value) in &item.fields {
            write!(text, ",{}:{value}", Quoted(name)).expect("a String takes all text");
        }
        text.push_str("}\n");
        text
    }
}

/// Text from a file must not look like another line.
fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|one| {
            let escaped = one.is_control().then(|| one.escape_default());
            escaped.into_iter().flatten().chain((!one.is_control()).then_some(one))
        })
        .collect()
}

/// The content of a small file, if it is there, under a heading; one that is larger than
/// `bytes_max` is a problem.
pub(super) async fn read_whole<W: Write>(
    runtime: &Runtime,
    bytes_max: usize,
    path: &Path,
    report: &mut Report<W>,
) -> Result<Option<Vec<u8>>, Error> {
    match runtime.read_file(path, bytes_max).await {
        Ok(content) => {
            report.begin(path);
            Ok(Some(content))
        }
        Err(Errno::NOT_FOUND) => Ok(None),
        Err(Errno::INVALID) => {
            report.begin(path);
            report.problem(format!("larger than {bytes_max} bytes: not read"));
            Ok(None)
        }
        Err(errno) => Err(Error::Io { path: path.to_owned(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, show: Show) -> String {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, format, show, ProgressBar::hidden());
        report.begin(Path::new("/a/\"b"));
        report.item(Item::new("batch").number("offset", 7).text("codec", "a\nb"));
        report.problem("it is bad");
        assert_eq!(report.finish().unwrap(), 1);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_one_line_and_an_object_is_json() {
        let table = "/a/\"b\n  batch offset=7 codec=a\\nb\n  PROBLEM: it is bad\n\
                     summary files=1 batches=1 problems=1\n";
        assert_eq!(printed(Format::Table, Show::Records), table);
        let json = printed(Format::Json, Show::Batches);
        for line in json.lines() {
            let value = cluster::json::parse(line).unwrap();
            assert!(value.field("kind").is_some(), "{line}");
        }
        assert!(
            json.starts_with("{\"kind\":\"batch\",\"file\":\"/a/\\\"b\",\"offset\":7"),
            "{json}"
        );
        let problems = "/a/\"b\n  PROBLEM: it is bad\nsummary files=1 batches=1 problems=1\n";
        assert_eq!(printed(Format::Table, Show::Problems), problems);
    }
}
