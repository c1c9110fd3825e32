//! Shapes that several resources share.

use serde::Serialize;
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

/// The URL of a webhook as the caller may see it. `is_own`: the caller wrote it.
pub fn shown_webhook(url: &str, caller: &Caller, is_own: bool) -> String {
    match is_own || caller.may_see_webhook_urls() {
        true => OutboundUrl::shown(url).to_owned(),
        false => OutboundUrl::shown_to_readers(url),
    }
}
