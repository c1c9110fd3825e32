//! Lists: the `--limit` option, and a note where a list is cut off.

use serde_json::Value;

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

/// Default limit of lists that grow without bound.
const DEFAULT_LIMIT: u32 = 50;

/// The `--limit` of lists that are short: all items by default.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Limit {
    /// Show at most N items [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// The `--limit` of lists that grow without bound.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LatestLimit {
    /// Show at most N items, the newest first
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT,
          value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Default for LatestLimit {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT }
    }
}

impl From<LatestLimit> for Limit {
    fn from(latest: LatestLimit) -> Self {
        Self { limit: Some(latest.limit) }
    }
}

/// A list to request, and how to show it.
pub struct List<'a> {
    /// The path below `/api`.
    pub segments: &'a [&'a str],
    /// Names and values of the query.
    pub filters: &'a [(&'a str, &'a str)],
    pub limit: Limit,
    pub columns: &'a [Column],
    /// The text for an empty list.
    pub empty: &'a str,
}

impl List<'_> {
    /// Requests and shows the list. With `--json` it is one page, `{"items": […], "next_cursor": …}`; a
    /// cursor means that there are more items.
    pub async fn show(self, session: &Session) -> Result<u8, CliError> {
        let page = self.read(session).await?;
        self.show_page(session, &page)
    }

    /// Requests the list.
    pub async fn read(&self, session: &Session) -> Result<Value, CliError> {
        let limit = self.limit.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        session.api.list(self.segments, self.filters, limit).await
    }

    /// Shows the list that was read.
    pub fn show_page(self, session: &Session, page: &Value) -> Result<u8, CliError> {
        session.output.list(page, self.columns, self.empty)?;
        if !session.output.json
            && let Some(notice) = truncation_notice(page)
        {
            print_note(&notice);
        }
        Ok(0)
    }
}

/// The note for a page that is not the last.
fn truncation_notice(page: &Value) -> Option<String> {
    page.get("next_cursor").filter(|cursor| cursor.is_string())?;
    let shown = page.get("items").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let shown = match shown {
        1 => "only the newest item is shown".to_owned(),
        shown => format!("only the newest {shown} items are shown"),
    };
    Some(format!("{shown}; use --limit N for more"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn notice_appears_only_if_there_are_more_items() {
        let page = |count: usize, next: Option<&str>| json!({"items": vec![1; count], "next_cursor": next});
        assert_eq!(truncation_notice(&page(50, None)), None);
        let notice = truncation_notice(&page(50, Some("c")));
        assert_eq!(
            notice.as_deref(),
            Some("only the newest 50 items are shown; use --limit N for more")
        );
        let notice = truncation_notice(&page(1, Some("c")));
        assert_eq!(
            notice.as_deref(),
            Some("only the newest item is shown; use --limit N for more")
        );
    }
}
