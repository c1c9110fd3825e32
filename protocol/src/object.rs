//! JSON objects from outside: read, or refused in a sentence of bounded length that says where.
//!
//! Knows nothing of what the objects mean.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

/// Longest message of a refusal, in characters: what was refused stands in it, and it goes into
/// frames, answers and logs.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Why a text is not the object that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", place(*line, *column))]
pub struct ObjectError {
    /// From 1; 0 if the place is not known.
    pub line: usize,
    /// From 1, in bytes; 0 is the beginning of a line that ended too early.
    pub column: usize,
    pub message: String,
}

/// Reads an object. A list of its values in order is none, though it could be read as one.
///
/// # Errors
/// [`ObjectError`] at the first thing that does not fit.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, ObjectError> {
    if text.trim_start().starts_with('[') {
        let before = &text[..text.len() - text.trim_start().len()];
        let column = before.len() - before.rfind('\n').map_or(0, |index| index + 1) + 1;
        let line = before.matches('\n').count() + 1;
        return Err(ObjectError { line, column, message: "expected an object, not a list".into() });
    }
    serde_json::from_str(text).map_err(|error| ObjectError {
        line: error.line(),
        column: error.column(),
        message: without_place(&error),
    })
}

/// A value that stands as an object. Without it a list of the fields in their order would do too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!(" at line {line} column {column}") }
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = match text.rfind(" at line ") {
        Some(position) if error.line() > 0 => position,
        _ => text.len(),
    };
    cut(&text[..end])
}

/// A text that is repeated to whoever sent it, cut to a bound.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct One {
        number: u8,
    }

    #[test]
    fn within_a_text_too_a_list_is_no_object() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            one: Object<One>,
        }
        let outer = Outer { one: Object(One { number: 7 }) };
        assert_eq!(read(r#"{"one": {"number": 7}}"#), Ok(outer));
        let error = read::<Outer>(r#"{"one": [7]}"#).expect_err("a list");
        assert!(error.message.contains("expected an object"), "{error}");
        assert!(read::<Outer>(r#"{"one": {"number": 7, "more": 1}}"#).is_err());
    }

    #[test]
    fn an_object_is_read_and_a_list_of_its_values_is_not() {
        assert_eq!(read(" {\"number\": 7}"), Ok(One { number: 7 }));
        let error = read::<One>("\n\n [7]").expect_err("a list");
        assert_eq!(error.to_string(), "expected an object, not a list at line 3 column 2");
        assert!(read::<One>("").expect_err("nothing").to_string().ends_with(" at line 1 column 0"));
    }

    #[test]
    fn a_refusal_is_no_longer_than_its_bound_whatever_is_refused() {
        for text in ["ü".repeat(100_000), " at line 7".repeat(1000)] {
            let text = format!("{{\"{text}\": 7}}");
            let error = read::<One>(&text).expect_err("unknown field");
            assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS + 1);
            assert!(error.column > 1000, "{error}");
        }
    }
}
