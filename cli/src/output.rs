//! What people and programs get to read: tables and sentences, or one JSON document.
//!
//! Text from hosts is not trusted: control characters never reach a terminal through a table.

use std::io::{self, Write as _};

use console::Term;
use serde_json::Value;

use crate::error::CliError;
use crate::table::{Column, details, table};

/// Where answers go, and in which shape.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The server's JSON instead of tables.
    pub json: bool,
}

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
            Some(items) if !items.is_empty() => table(items, columns, width()),
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

/// Characters of a line, if people see it.
fn width() -> Option<u16> {
    let terminal = Term::stdout();
    let (_, columns) = terminal.is_term().then(|| terminal.size_checked())??;
    // A terminal that does not say has none.
    (columns > 0).then_some(columns)
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

/// How many there are of something: `1 agent`, `2 agents`.
pub fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
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

    #[test]
    fn one_is_not_several() {
        let said = [0, 1, 2].map(|count| counted(count, "agent"));
        assert_eq!(said, ["0 agents", "1 agent", "2 agents"]);
    }
}
