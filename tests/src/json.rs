//! Fields of an answer that a test relies on: each is there, or the test fails with the answer.

use serde_json::Value;

/// Access to the fields of a JSON object that must be there. A missing field, or one of another
/// type, panics with the whole object.
pub trait JsonFields {
    /// The object's `id`.
    fn id(&self) -> &str;

    /// A string.
    fn text(&self, field: &str) -> &str;

    /// The items of an array.
    fn list(&self, field: &str) -> &Vec<Value>;

    /// A whole number that is not negative.
    fn number(&self, field: &str) -> u64;
}

impl JsonFields for Value {
    #[track_caller]
    fn id(&self) -> &str {
        self.text("id")
    }

    #[track_caller]
    fn text(&self, field: &str) -> &str {
        self[field].as_str().unwrap_or_else(|| panic!("no text in `{field}` of {self}"))
    }

    #[track_caller]
    fn list(&self, field: &str) -> &Vec<Value> {
        self[field].as_array().unwrap_or_else(|| panic!("no list in `{field}` of {self}"))
    }

    #[track_caller]
    fn number(&self, field: &str) -> u64 {
        self[field].as_u64().unwrap_or_else(|| panic!("no number in `{field}` of {self}"))
    }
}
