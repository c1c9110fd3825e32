//! What people and programs get to read: tables and sentences, or one JSON document.
//!
//! Text from hosts is not trusted: control characters never reach a terminal through a table.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::error::CliError;

/// Where answers go, and in which shape.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The server's JSON instead of tables.
    pub json: bool,
}

/// One column: its heading and the path of its value in an item, dots between names.
pub type Column = (&'static str, &'static str);

impl Output {
    /// Writes an answer, for people as `human` puts it.
    ///
    /// # Errors
    /// [`CliError::Terminal`], also when the reader has gone.
    pub fn answer(
        self,
        value: &Value,
        human: impl FnOnce(&Value) -> String,
    ) -> Result<(), CliError> {
        if !self.json {
            return print(&human(value));
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        print(&text)
    }

    /// Writes the items of a list.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn list(self, page: &Value, columns: &[Column], nothing: &str) -> Result<(), CliError> {
        self.answer(page, |page| match page.get("items").and_then(Value::as_array) {
            Some(items) if !items.is_empty() => table(items, columns),
            _ => nothing.to_owned(),
        })
    }

    /// Writes one thing with all that is known of it.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn details(self, value: &Value) -> Result<(), CliError> {
        self.answer(value, details)
    }
}

/// Writes a line to standard output.
///
/// # Errors
/// [`CliError::Terminal`], also when the reader has gone.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes a line to standard error; what happens to it is not worth failing for.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", clean(text));
}

/// Items under headings, for people.
pub fn table(items: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        table.add_row(columns.iter().map(|(_, path)| cell(at(item, path))));
    }
    lines_of(&table)
}

fn details(value: &Value) -> String {
    let Some(fields) = value.as_object() else { return cell(Some(value)) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in fields {
        table.add_row([clean(name), cell(Some(value))]);
    }
    lines_of(&table)
}

fn lines_of(table: &Table) -> String {
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}

fn at<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(item, |value, name| value.get(name))
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).map(clean).collect();
            items.join(", ")
        }
        // JSON escapes control characters itself, but not those of C1 and not the direction marks.
        Some(other) => clean(&other.to_string()),
    }
}

/// Replaces what would move the cursor, ring, recolour or reverse the reading direction.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// True for a character that steers instead of being shown: controls, and marks of direction.
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn table_lines_up_and_shows_what_is_absent() {
        let items = [
            json!({"name": "web-1", "tags": ["eu", "web"], "key": {"name": "fleet"}}),
            json!({"name": "a", "tags": [], "key": null}),
        ];
        let columns = [("NAME", "name"), ("TAGS", "tags"), ("KEY", "key.name")];
        let text = table(&items, &columns);
        let lines: Vec<Vec<_>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [Vec<&str>; 3] = [
            vec!["NAME", "TAGS", "KEY"],
            vec!["web-1", "eu,", "web", "fleet"],
            vec!["a", "-", "-"],
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn hostile_names_can_not_steer_the_terminal() {
        let items = [json!({"name": "web\u{1b}[2J\u{9b}31m\u{202e}\r\n1", "os": {"a": "\u{9b}"}})];
        let text = table(&items, &[("NAME", "name"), ("OS", "os")]);
        assert!(
            !text.chars().any(|c| c != '\n' && clean(&c.to_string()) != c.to_string()),
            "{text:?}"
        );
        assert_eq!(text.lines().count(), 2);
    }
}
