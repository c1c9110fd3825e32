//! Tables for people: items under headings, and all that is known of one thing.
//!
//! Pure: how wide the reader's terminal is is passed in. Text from hosts is cleaned.

use chrono::DateTime;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use serde_json::Value;

use crate::output::clean;

/// Blanks between two columns.
const GAP: u16 = 2;
/// Characters of a column that is cut.
const LEAST: u16 = 8;
/// Objects in objects that are shown field by field; what lies deeper is JSON.
const MAX_DEPTH: usize = 4;

/// One column: its heading, and what it shows of an item.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    heading: &'static str,
    shown: Shown,
}

#[derive(Debug, Clone, Copy)]
enum Shown {
    /// The value of this path, dots between names.
    Field(&'static str),
    /// A few words on the item as a whole.
    Words(fn(&Value) -> String),
}

impl Column {
    /// The value of a path, dots between names.
    pub const fn of(heading: &'static str, path: &'static str) -> Self {
        Self { heading, shown: Shown::Field(path) }
    }

    /// What `words` makes of an item; it is cleaned here.
    pub const fn by(heading: &'static str, words: fn(&Value) -> String) -> Self {
        Self { heading, shown: Shown::Words(words) }
    }

    /// True for what is copied from a table, or is of no use in part.
    fn is_kept_whole(self) -> bool {
        match self.shown {
            Shown::Field(path) => {
                path.ends_with("id") || matches!(path, "state" | "status" | "exit_code")
            }
            Shown::Words(_) => false,
        }
    }

    fn is_instant(self) -> bool {
        matches!(self.shown, Shown::Field(path) if path.ends_with("_at"))
    }

    fn cell(self, item: &Value, is_narrow: bool) -> String {
        let text = match self.shown {
            Shown::Field(path) => cell(at(item, path)),
            Shown::Words(words) => clean(&words(item)),
        };
        if is_narrow && self.is_instant() { short_instant(text) } else { text }
    }
}

/// Items under headings. For a terminal that is narrower than that, `width` in characters, instants
/// lose their seconds and long columns their ends, and those at the right that do not fit then are
/// left out; ids and states stay whole.
pub fn table(items: &[Value], columns: &[Column], width: Option<u16>) -> String {
    let full = made(items, columns, false);
    let Some(width) = width.filter(|width| sum(full.column_max_content_widths()) > *width) else {
        return lines_of(&full);
    };
    let columns = fitting(items, columns, width);
    let mut narrow = made(items, &columns, true);
    narrow.set_content_arrangement(ContentArrangement::Dynamic);
    // A blank at both ends that is cut off again.
    narrow.set_width(width.saturating_add(GAP)).set_truncation_indicator("…");
    for (column, shown) in narrow.column_iter_mut().zip(&columns) {
        if shown.is_kept_whole() || shown.is_instant() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    lines_of(&narrow)
}

/// The columns for which there is room when the long ones are cut.
fn fitting(items: &[Value], columns: &[Column], width: u16) -> Vec<Column> {
    let mut kept = columns.to_vec();
    loop {
        let widths = made(items, &kept, true).column_max_content_widths();
        let needed = kept.iter().zip(widths).map(|(column, width)| {
            let is_whole = column.is_kept_whole() || column.is_instant();
            if is_whole { width } else { width.min(LEAST) }
        });
        if sum(needed.collect()) <= width {
            return kept;
        }
        match kept.iter().rposition(|column| !column.is_kept_whole()) {
            Some(last) if kept.len() > 1 => kept.remove(last),
            _ => return kept,
        };
    }
}

/// The width of a table whose columns are this wide.
fn sum(widths: Vec<u16>) -> u16 {
    let columns = u16::try_from(widths.len()).unwrap_or(u16::MAX);
    let gaps = columns.saturating_sub(1).saturating_mul(GAP);
    widths.into_iter().fold(gaps, u16::saturating_add)
}

fn made(items: &[Value], columns: &[Column], is_narrow: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(one_line(columns.iter().map(|column| column.heading.to_owned())));
    for item in items {
        table.add_row(one_line(columns.iter().map(|column| column.cell(item, is_narrow))));
    }
    table
}

fn one_line(cells: impl Iterator<Item = String>) -> Row {
    let mut row = Row::from(cells.collect::<Vec<_>>());
    row.max_height(1);
    row
}

/// Month, day and minute of an instant.
fn short_instant(text: String) -> String {
    match DateTime::parse_from_rfc3339(&text) {
        Ok(instant) => instant.to_utc().format("%m-%d %H:%MZ").to_string(),
        Err(_) => text,
    }
}

/// All that is known of one thing: a line for each field, those of objects in it behind a dot, and of
/// lists of objects behind their number.
pub fn details(value: &Value) -> String {
    if !value.is_object() {
        return cell(Some(value));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    add_fields(&mut table, "", value, MAX_DEPTH);
    lines_of(&table)
}

fn add_fields(table: &mut Table, before: &str, value: &Value, depth: usize) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = format!("{before}{}", clean(name));
        match value {
            Value::Object(fields) if !fields.is_empty() && depth > 1 => {
                add_fields(table, &format!("{name}."), value, depth - 1);
            }
            Value::Array(items)
                if !items.is_empty() && depth > 1 && items.iter().all(Value::is_object) =>
            {
                for (index, item) in items.iter().enumerate() {
                    add_fields(table, &format!("{name}.{}.", index + 1), item, depth - 1);
                }
            }
            value => {
                table.add_row([name, cell(Some(value))]);
            }
        }
    }
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
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Object(fields)) if fields.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).map(clean).collect();
            items.join(", ")
        }
        // JSON escapes control characters itself, but not those of C1 and not the direction marks.
        Some(other) => clean(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
