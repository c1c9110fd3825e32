//! Writes answers to standard output, as text or as one JSON document, and notes to standard error.

use std::io::{self, Write as _};

use console::Term;
use serde_json::Value;

use super::state_colours::paint;
use super::table::{Column, details, table};
use super::text::sanitize;
use super::time_format::TimeFormat;
use crate::error::CliError;

/// The form of answers.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The server's JSON instead of tables and sentences.
    pub json: bool,
    /// The zone of the times in tables and sentences.
    pub time: TimeFormat,
}

impl Output {
    /// Writes an answer; `text` formats it unless JSON is requested.
    ///
    /// # Errors
    /// [`CliError::Terminal`], also if the reader closed the pipe.
    pub fn answer(
        self,
        value: &Value,
        text: impl FnOnce(&Value) -> String,
    ) -> Result<(), CliError> {
        if !self.json {
            return print(&paint(&text(value), console::colors_enabled()));
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        print(&text)
    }

    /// Writes only a new secret to standard output, so that a script can capture it.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn new_secret(self, answer: &Value, secret: &str) -> Result<(), CliError> {
        self.answer(answer, |_| sanitize(secret))?;
        print_note("Store this now; it is not shown again.");
        Ok(())
    }

    /// Writes the items of a list as a table, or `empty` if there are none.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn list(self, page: &Value, columns: &[Column], empty: &str) -> Result<(), CliError> {
        self.answer(page, |page| match page.get("items").and_then(Value::as_array) {
            Some(items) if !items.is_empty() => table(items, columns, terminal_width(), self.time),
            _ => empty.to_owned(),
        })
    }

    /// Writes all fields of one object.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn details(self, value: &Value) -> Result<(), CliError> {
        self.answer(value, |value| details(value, self.time))
    }
}

/// Characters in a line of the terminal; none if standard output is no terminal.
fn terminal_width() -> Option<u16> {
    let terminal = Term::stdout();
    let (_, columns) = terminal.is_term().then(|| terminal.size_checked())??;
    // Some terminals report a width of 0.
    (columns > 0).then_some(columns)
}

/// Writes a line to standard output.
///
/// # Errors
/// [`CliError::Terminal`], also if the reader closed the pipe.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes a line to standard error, and ignores errors.
pub fn print_note(text: &str) {
    let text = paint(&sanitize(text), console::colors_enabled_stderr());
    let _ = writeln!(io::stderr(), "{text}");
}
