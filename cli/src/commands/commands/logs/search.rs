//! `muster logs --search`: the lines of an execution's output that have a text.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::output_stream::Stream;
use crate::error::CliError;
use crate::output::printer::{print, print_note};
use crate::output::text::sanitize;
use crate::session::Session;

/// Prints each line after its offset, as `grep -b` does. The server searches a part of a large output in
/// each request, so this requests the next one until the end or until `limit` lines were found.
///
/// # Errors
/// [`CliError`].
pub async fn print_found(
    session: &Session,
    id: &str,
    text: &str,
    stream: Option<Stream>,
    limit: usize,
) -> Result<(), CliError> {
    let mut found: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = (limit - found.len()).min(PAGE);
        let mut query = vec![("q", text.to_owned()), ("limit", left.to_string())];
        query.extend(stream.map(|stream| ("stream", stream.name().to_owned())));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let segments = ["executions", id, "output", "search"];
        let request = session.api.request(Method::GET, &segments).query(&query);
        let page = session.api.json_with_retries(request).await?;
        let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        if !session.output.json {
            items.iter().try_for_each(|line| print(&shown(line)))?;
        }
        found.extend(items);
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() || found.len() >= limit {
            break;
        }
    }
    if session.output.json {
        let answer = json!({"items": found, "next_cursor": cursor});
        return session.output.answer(&answer, |_| String::new());
    }
    match (found.len(), cursor) {
        (0, _) => print_note("no line has this text"),
        (_, Some(_)) => print_note("more lines may have this text; use --limit N for more"),
        _ => {}
    }
    Ok(())
}

/// Most lines of one request.
const PAGE: usize = 500;

fn shown(line: &Value) -> String {
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let offset = line.get("offset_bytes").and_then(Value::as_u64).unwrap_or_default();
    let mark = if text("stream") == "stderr" { " (stderr)" } else { "" };
    format!("{offset}{mark}: {}", sanitize(text("text")))
}
