//! What commands print: rows with named columns, for people or as JSON.

use clap::ValueEnum;
use serde_json::{Map, Value};

/// For whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    Table,
    /// An array of objects.
    Json,
}

/// Rows of the same columns.
pub(crate) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn new(columns: &'static [&'static str]) -> Table {
        Table { columns, rows: Vec::new() }
    }

    /// # Panics
    /// When it does not have a value for every column.
    pub(crate) fn push<const N: usize>(&mut self, row: [Value; N]) {
        assert!(N == self.columns.len(), "a value for every column");
        self.rows.push(row.into());
    }

    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Table => self.text(),
            Format::Json => self.json(),
        }
    }

    fn json(&self) -> String {
        let row = |row: &Vec<Value>| {
            let fields = self.columns.iter().zip(row);
            let fields = fields.map(|(name, value)| ((*name).to_owned(), value.clone()));
            Value::Object(fields.collect::<Map<_, _>>())
        };
        let rows = Value::Array(self.rows.iter().map(row).collect());
        format!("{rows:#}\n")
    }

    fn text(&self) -> String {
        let head = self.columns.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
        let body = self.rows.iter().map(|row| row.iter().map(shown).collect());
        let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
        let width = |column: usize| {
            lines.iter().map(|line: &Vec<String>| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let mut cells = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                cells.push_str(cell);
                let room = width + 2 - cell.chars().count();
                cells.extend(std::iter::repeat_n(' ', room));
            }
            text.push_str(cells.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value for people; what a terminal would act on is shown escaped.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown_text(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The same of a text.
pub(crate) fn shown_text(text: &str) -> String {
    text.chars().flat_map(shown_character).collect()
}

fn shown_character(character: char) -> Vec<char> {
    if character.is_control() { character.escape_default().collect() } else { vec![character] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_columns_and_programs_get_objects() {
        let mut table = Table::new(&["topic", "end_offset"]);
        table.push(["a\u{1b}[31m".into(), 7.into()]);
        table.push(["longer name".into(), Value::Null]);
        let text = table.render(Format::Table);
        assert_eq!(text, "TOPIC        END OFFSET\na\\u{1b}[31m  7\nlonger name  -\n");
        let json: Value = serde_json::from_str(&table.render(Format::Json)).unwrap();
        assert_eq!(json[0]["end_offset"], 7);
        assert_eq!(json[1]["topic"], "longer name");
        assert_eq!(Table::new(&["a"]).render(Format::Json), "[]\n");
    }
}
