//! Tables: items under headings, and the fields of one object.
//!
//! Pure: the caller passes the terminal's width. Text from hosts is sanitized.

use std::collections::BTreeSet;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use serde_json::Value;

use super::state_colours::mark;
use super::text::sanitize;
use super::time_format::TimeFormat;

/// Blanks between two columns.
const GAP: u16 = 2;
/// Least width of a truncated column, in characters.
const MIN_WIDTH: u16 = 8;
/// In narrower terminals, lists with names have no ids.
const WIDTH_WITH_IDS: u16 = 80;
/// How much of an id a narrow list shows, the least first: the first part is unique to a millisecond. All
/// commands take the beginning of an id.
const ID_LENGTHS: [usize; 2] = [13, 23];
/// Columns whose values have colours on a terminal.
const STATE_HEADINGS: [&str; 5] = ["STATE", "STATUS", "OUTCOME", "HEALTH", "LAST RESULT"];
/// Levels of nested objects that are shown field by field. Deeper levels are shown as JSON.
const MAX_DEPTH: usize = 4;

/// One column: its heading, and how it formats an item.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    heading: &'static str,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    /// The value at this path: names with dots between them.
    Field(&'static str),
    /// A text about the whole item.
    Text(fn(&Value) -> String),
}

impl Column {
    /// Shows the value at a path: names with dots between them.
    pub const fn of(heading: &'static str, path: &'static str) -> Self {
        Self { heading, content: Content::Field(path) }
    }

    /// Shows the text that `text` returns for an item; the table sanitizes it.
    pub const fn by(heading: &'static str, text: fn(&Value) -> String) -> Self {
        Self { heading, content: Content::Text(text) }
    }

    /// True for columns that are never truncated: users copy ids, and half a state is useless.
    fn is_never_truncated(self) -> bool {
        match self.content {
            Content::Field(path) => {
                path.ends_with("id") || matches!(path, "state" | "status" | "exit_code" | "action")
            }
            Content::Text(_) => false,
        }
    }

    fn is_instant(self) -> bool {
        matches!(self.content, Content::Field(path) if path.ends_with("_at") || path == "at")
    }

    fn is_id(self) -> bool {
        matches!(self.content, Content::Field(path) if path == "id" || path.ends_with("_id"))
    }

    /// True for names, which people can use instead of ids.
    fn is_name(self) -> bool {
        matches!(self.content, Content::Field(path) if path == "name" || path.ends_with("_name"))
    }

    fn cell(self, item: &Value, is_narrow: bool, time: TimeFormat) -> String {
        let text = match self.content {
            Content::Field(path) => cell(at(item, path)),
            Content::Text(text) => sanitize(&text(item)),
        };
        match (self.is_instant(), is_narrow) {
            (true, true) => time.short_instant(&text),
            (true, false) => time.instant(&text),
            (false, _) if STATE_HEADINGS.contains(&self.heading) => mark(&text),
            (false, _) => text,
        }
    }
}

/// Items under headings. If the table is wider than `width` characters, times lose their seconds, long
/// columns are truncated, then ids are shortened, and then the rightmost columns are left out; states stay
/// whole.
pub fn table(items: &[Value], columns: &[Column], width: Option<u16>, time: TimeFormat) -> String {
    let full = build(items, columns, false, time);
    let Some(width) = width.filter(|width| total_width(full.column_max_content_widths()) > *width)
    else {
        return lines_of(&full);
    };
    let short = with_short_ids(items, columns);
    let (whole, fewer) =
        (fitting(items, columns, width, time), fitting(&short, columns, width, time));
    let is_too_wide = least_width(items, &whole, time) > width;
    let (items, columns) = match is_too_wide || fewer.len() > whole.len() {
        true => (&*short, fewer),
        false => (items, whole),
    };
    let mut narrow = build(items, &columns, true, time);
    narrow.set_content_arrangement(ContentArrangement::Dynamic);
    // One more blank at both ends, which `lines_of` trims.
    narrow.set_width(width.saturating_add(GAP)).set_truncation_indicator("…");
    for (column, shown) in narrow.column_iter_mut().zip(&columns) {
        if shown.is_never_truncated() || shown.is_instant() {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    lines_of(&narrow)
}

/// The items with the beginnings of their ids, as long as these differ.
fn with_short_ids(items: &[Value], columns: &[Column]) -> Vec<Value> {
    let mut items = items.to_vec();
    let is_own = |column: &&Column| matches!(column.content, Content::Field("id"));
    if columns.iter().any(|column| column.is_name()) || !columns.iter().any(|c| is_own(&c)) {
        return items;
    }
    let ids: Vec<_> = items.iter().filter_map(|item| item.get("id")?.as_str()).collect();
    let is_unique = |length: &usize| {
        let starts: BTreeSet<_> = ids.iter().map(|id| id.get(..*length)).collect();
        starts.len() == ids.len()
    };
    let Some(length) = ID_LENGTHS.into_iter().find(is_unique) else { return items };
    for item in &mut items {
        if let Some(start) = item["id"].as_str().and_then(|id| id.get(..length)).map(str::to_owned)
        {
            item["id"] = start.into();
        }
    }
    items
}

/// The columns that fit after truncation.
fn fitting(items: &[Value], columns: &[Column], width: u16, time: TimeFormat) -> Vec<Column> {
    let mut kept = columns.to_vec();
    if width < WIDTH_WITH_IDS && kept.iter().any(|column| column.is_name()) {
        kept.retain(|column| !column.is_id());
    }
    loop {
        if least_width(items, &kept, time) <= width {
            return kept;
        }
        match kept.iter().rposition(|column| !column.is_never_truncated()) {
            Some(last) if kept.len() > 1 => kept.remove(last),
            _ => return kept,
        };
    }
}

/// The width after truncation.
fn least_width(items: &[Value], columns: &[Column], time: TimeFormat) -> u16 {
    let widths = build(items, columns, true, time).column_max_content_widths();
    let needed = columns.iter().zip(widths).map(|(column, width)| {
        let is_whole = column.is_never_truncated() || column.is_instant();
        if is_whole { width } else { width.min(MIN_WIDTH) }
    });
    total_width(needed.collect())
}

/// The width of a table with these column widths.
fn total_width(widths: Vec<u16>) -> u16 {
    let columns = u16::try_from(widths.len()).unwrap_or(u16::MAX);
    let gaps = columns.saturating_sub(1).saturating_mul(GAP);
    widths.into_iter().fold(gaps, u16::saturating_add)
}

fn build(items: &[Value], columns: &[Column], is_narrow: bool, time: TimeFormat) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(one_line(columns.iter().map(|column| column.heading.to_owned())));
    for item in items {
        table.add_row(one_line(columns.iter().map(|column| column.cell(item, is_narrow, time))));
    }
    table
}

fn one_line(cells: impl Iterator<Item = String>) -> Row {
    let mut row = Row::from(cells.collect::<Vec<_>>());
    row.max_height(1);
    row
}

/// One line for each field of an object. Nested fields have dots between their names, and items of
/// lists their number: `problems.1.code`.
pub fn details(value: &Value, time: TimeFormat) -> String {
    if !value.is_object() {
        return cell(Some(value));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    add_fields(&mut table, "", value, MAX_DEPTH, time);
    lines_of(&table)
}

fn add_fields(table: &mut Table, before: &str, value: &Value, depth: usize, time: TimeFormat) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = format!("{before}{}", sanitize(name));
        match value {
            Value::Object(fields) if !fields.is_empty() && depth > 1 => {
                add_fields(table, &format!("{name}."), value, depth - 1, time);
            }
            Value::Array(items)
                if !items.is_empty() && depth > 1 && items.iter().all(Value::is_object) =>
            {
                for (index, item) in items.iter().enumerate() {
                    let before = format!("{name}.{}.", index + 1);
                    add_fields(table, &before, item, depth - 1, time);
                }
            }
            value => {
                let shown = cell(Some(value));
                let shown = match name.rsplit('.').next() {
                    Some("explanation" | "error") => time.sentence(&shown),
                    Some("state" | "status") => mark(&shown),
                    Some("at" | "not_before" | "history_before") => time.instant(&shown),
                    Some(last) if last.ends_with("_at") || last.ends_with("_since") => {
                        time.instant(&shown)
                    }
                    _ => shown,
                };
                table.add_row([name, shown]);
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
        Some(Value::String(text)) => sanitize(text),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Object(fields)) if fields.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).map(sanitize).collect();
            items.join(", ")
        }
        // JSON does not escape C1 control characters and direction marks.
        Some(other) => sanitize(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
