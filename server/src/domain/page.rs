//! Pages of a list: a limit and a cursor.

use serde::Serialize;
use uuid::Uuid;

/// Default number of items in a page.
pub const DEFAULT_LIMIT: u64 = 50;
/// Most items in a page.
pub const MAX_LIMIT: u64 = 500;

/// The requested page.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// The last id of the previous page; `None` for the first page.
    pub after: Option<Uuid>,
    pub limit: u64,
}

/// A cursor that no list returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`cursor` is not one that a list gave out")]
pub struct InvalidCursor;

impl PageRequest {
    /// The page of at most `limit` items after this cursor, or the first page.
    ///
    /// # Errors
    /// [`InvalidCursor`]
    pub fn read(cursor: Option<&str>, limit: u64) -> Result<Self, InvalidCursor> {
        // Only as a list returns it: other forms of the same id are refused.
        let read = |text: &str| Uuid::parse_str(text).ok().filter(|id| id.to_string() == text);
        let after = cursor.map(|text| read(text).ok_or(InvalidCursor)).transpose()?;
        Ok(Self { after, limit })
    }
}

/// One page.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Builds a page from rows that were read with one more than the limit.
    pub fn of(mut rows: Vec<T>, request: PageRequest, id: impl Fn(&T) -> Uuid) -> Self {
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = if more { rows.last().map(|row| id(row).to_string()) } else { None };
        Self { items: rows, next_cursor }
    }

    /// The same page with every item converted.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}
