//! Lists, all alike: so many at the most, and it is said if there is more.

use serde_json::Value;

use super::Session;
use crate::error::CliError;
use crate::output::note;
use crate::table::Column;

/// Of what grows without end, the latest.
const LATEST: usize = 50;

/// How much of a list.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Limit {
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Limit {
    /// All, unless asked otherwise.
    fn items(self) -> Option<usize> {
        self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// The latest alone, unless asked otherwise: for what grows without end.
    pub fn or_latest(self) -> Self {
        Self { limit: self.limit.or(u32::try_from(LATEST).ok()) }
    }
}

/// A list, and how it is shown.
pub struct List<'a> {
    /// Below `/api`.
    pub segments: &'a [&'a str],
    /// Names and values of the query.
    pub filters: &'a [(&'a str, &'a str)],
    pub limit: Limit,
    pub columns: &'a [Column],
    /// What is said where there is nothing.
    pub nothing: &'a str,
}

impl Session {
    /// Shows a list. With `--json` it is one page, `{"items": […], "next_cursor": …}`, whose cursor says
    /// that there is more.
    pub(super) async fn list(&self, list: List<'_>) -> Result<u8, CliError> {
        let page = self.api.list(list.segments, list.filters, list.limit.items()).await?;
        self.output.list(&page, list.columns, list.nothing)?;
        if !self.output.json
            && let Some(more) = more(&page)
        {
            note(&more);
        }
        Ok(0)
    }
}

/// What is said of a page behind which there is more.
fn more(page: &Value) -> Option<String> {
    page.get("next_cursor").filter(|cursor| cursor.is_string())?;
    let shown = page.get("items").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let shown = match shown {
        1 => "only the first is shown".to_owned(),
        shown => format!("only the first {shown} are shown"),
    };
    Some(format!("{shown}: --limit N shows N of them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_said_if_there_is_more() {
        let page = |count: usize, next: Option<&str>| json!({"items": vec![1; count], "next_cursor": next});
        assert_eq!(more(&page(50, None)), None);
        let said = more(&page(50, Some("c")));
        assert_eq!(said.as_deref(), Some("only the first 50 are shown: --limit N shows N of them"));
        let said = more(&page(1, Some("c")));
        assert_eq!(said.as_deref(), Some("only the first is shown: --limit N shows N of them"));
    }
}
