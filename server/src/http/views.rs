//! Shapes that several resources share.

use muster_protocol::commands::stdin::Stdin;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::outbound::OutboundUrl;
use crate::domain::page::Page;
use crate::services::access::caller::Caller;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView<T> {
    items: Vec<T>,
    /// Pass it as `cursor` for the next page; `null` on the last.
    next_cursor: Option<String>,
}

impl<T> From<Page<T>> for PageView<T> {
    fn from(page: Page<T>) -> Self {
        Self { items: page.items, next_cursor: page.next_cursor }
    }
}

/// Text that was stored as JSON.
pub fn stored_json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or(serde_json::Value::Null)
}

/// The data of a stored command, which is valid JSON. Standard input is shown by its size.
pub fn shown_data(data: String) -> Box<RawValue> {
    let shown = match data.contains("\"stdin\"") {
        true => shown_value(&data).to_string(),
        false => data,
    };
    RawValue::from_string(shown).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// As [`shown_data`], as a value.
pub fn shown_value(text: &str) -> serde_json::Value {
    let mut data = stored_json(text);
    if let Some(bytes) = stdin_bytes(&data)
        && let Some(fields) = data.as_object_mut()
    {
        fields.remove("stdin");
        fields.insert("stdin_bytes".into(), bytes.into());
    }
    data
}

/// The bytes of standard input in the stored data of an `execute`.
pub fn stdin_bytes(data: &serde_json::Value) -> Option<u64> {
    let text = data.get("stdin")?.as_str()?;
    Some(Stdin::decode(text).ok()?.bytes().len() as u64)
}

/// The URL of a webhook as the caller may see it. `is_own`: the caller wrote it.
pub fn shown_webhook(url: &str, caller: &Caller, is_own: bool) -> String {
    match is_own || caller.may_see_webhook_urls() {
        true => OutboundUrl::shown(url).to_owned(),
        false => OutboundUrl::shown_to_readers(url),
    }
}
