//! Parses JSON objects from outside. Errors are bounded in length and name the place.
//!
//! Does not know what the objects mean.

mod strict;

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

/// Longest error message, in characters. It quotes the input, and goes into frames, responses and
/// logs.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Why a text is not the expected object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", place(*line, *column))]
pub struct ObjectError {
    /// From 1; 0 if unknown.
    pub line: usize,
    /// From 1, in bytes; 0 means the start of a line that ended too early.
    pub column: usize,
    pub message: String,
}

/// Parses an object. Rejects a list of its values in order, which serde would accept.
///
/// # Errors
/// [`ObjectError`] for the first error.
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

/// A value that must be a JSON object, as must be all structs within it. Without this wrapper serde also
/// accepts a list of their fields in order.
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
        T::deserialize(MapAccessDeserializer::new(strict::Strict(fields))).map(Object)
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

/// Truncates a quoted text to [`MAX_MESSAGE_CHARS`].
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
    fn list_is_rejected_as_a_nested_object() {
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
    fn list_is_rejected_for_every_struct_within_an_object() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Choice {
            Number(u8),
            One { number: u8 },
            Nothing,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Outer {
            #[serde(default)]
            list: Vec<One>,
            #[serde(default)]
            map: std::collections::BTreeMap<String, Option<One>>,
            #[serde(default)]
            pair: Option<(u8, One)>,
            #[serde(default)]
            choices: Vec<Choice>,
            #[serde(default)]
            any: serde_json::Value,
        }
        let good = r#"{"list": [{"number": 1}], "map": {"a": {"number": 2}, "b": null}, "pair": [3, {"number": 4}],
            "choices": [{"number": 5}, {"one": {"number": 6}}, "nothing"], "any": [[7], {"a": [8]}]}"#;
        let read: Object<Outer> = serde_json::from_str(good).expect("valid");
        let value: serde_json::Value = serde_json::from_str(good).expect("valid");
        assert_eq!(Object::<Outer>::deserialize(&value).expect("valid"), read);
        let outer = read.0;
        assert_eq!(outer.list, [One { number: 1 }]);
        assert_eq!(outer.map["a"], Some(One { number: 2 }));
        assert_eq!(outer.pair, Some((3, One { number: 4 })));
        assert_eq!(outer.choices, [Choice::Number(5), Choice::One { number: 6 }, Choice::Nothing]);
        assert_eq!(outer.any, value["any"]);
        for bad in [
            r#"{"list": [[1]]}"#,
            r#"{"list": [[]]}"#,
            r#"{"map": {"a": [2]}}"#,
            r#"{"pair": [3, [4]]}"#,
            r#"{"choices": [{"one": [6]}]}"#,
        ] {
            assert!(serde_json::from_str::<Outer>(bad).is_ok() || bad.contains("[[]]"), "{bad}");
            serde_json::from_str::<Object<Outer>>(bad).expect_err(bad);
            let value: serde_json::Value = serde_json::from_str(bad).expect("JSON");
            Object::<Outer>::deserialize(value).expect_err(bad);
        }
    }

    #[test]
    fn object_is_accepted_and_a_list_of_its_values_is_rejected() {
        assert_eq!(read(" {\"number\": 7}"), Ok(One { number: 7 }));
        let error = read::<One>("\n\n [7]").expect_err("a list");
        assert_eq!(error.to_string(), "expected an object, not a list at line 3 column 2");
        assert!(read::<One>("").expect_err("nothing").to_string().ends_with(" at line 1 column 0"));
    }

    #[test]
    fn error_message_is_bounded_for_any_input() {
        for text in ["ü".repeat(100_000), " at line 7".repeat(1000)] {
            let text = format!("{{\"{text}\": 7}}");
            let error = read::<One>(&text).expect_err("unknown field");
            assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS + 1);
            assert!(error.column > 1000, "{error}");
        }
    }
}
