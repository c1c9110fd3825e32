//! Which fields of a delivery's body become parameters of the job, and which it must have. Only declared
//! fields are used.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Most fields that become parameters.
pub const MAX_FIELDS: usize = 32;
/// Most conditions of a hook.
pub const MAX_CONDITIONS: usize = 16;
/// Longest JSON pointer, and longest expected text, in characters.
pub const MAX_POINTER_CHARS: usize = 255;

/// JSON pointers by the name of the parameter, or expected texts by JSON pointer.
pub type Fields = BTreeMap<String, String>;

/// A declared field is missing, or is no text, number or boolean.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body has no text, number or boolean at {pointer}, for the parameter {parameter}")]
pub struct FieldMissing {
    pub parameter: String,
    pub pointer: String,
}

/// Why a pointer is invalid; `None` if it is valid.
pub fn pointer_problem(pointer: &str) -> Option<&'static str> {
    if !pointer.starts_with('/') {
        return Some("must be a JSON pointer, such as /ref or /repository/name");
    }
    if pointer.chars().count() > MAX_POINTER_CHARS || pointer.chars().any(char::is_control) {
        return Some("must be a JSON pointer of at most 255 characters");
    }
    None
}

/// The parameters of the job: those of the template, and the declared fields of the body.
///
/// # Errors
/// [`FieldMissing`].
pub fn parameters(
    known: Option<&Value>,
    fields: &Fields,
    body: &Value,
) -> Result<Option<Value>, FieldMissing> {
    let mut parameters = known.and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    for (parameter, pointer) in fields {
        let text = body.pointer(pointer).and_then(text).ok_or_else(|| FieldMissing {
            parameter: parameter.clone(),
            pointer: pointer.clone(),
        })?;
        parameters.insert(parameter.clone(), text.into());
    }
    Ok((!parameters.is_empty()).then(|| parameters.into()))
}

/// The first condition that a body does not fulfil.
pub fn unfulfilled<'a>(conditions: &'a Fields, body: &Value) -> Option<&'a str> {
    let is_fulfilled = |pointer: &str, expected: &str| {
        body.pointer(pointer).and_then(text).as_deref() == Some(expected)
    };
    conditions
        .iter()
        .find(|(pointer, expected)| !is_fulfilled(pointer, expected))
        .map(|(pointer, _)| pointer.as_str())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_declared_fields_become_parameters() {
        let body = json!({"ref": "v1", "number": 7, "is_draft": false, "repository": {"name": "a/b"}, "x": "secret"});
        let declared = fields(&[
            ("REF", "/ref"),
            ("N", "/number"),
            ("DRAFT", "/is_draft"),
            ("REPO", "/repository/name"),
        ]);
        let known = json!({"MODE": "full", "REF": "default"});
        let made = parameters(Some(&known), &declared, &body).expect("all are there");
        assert_eq!(
            made,
            Some(json!({"MODE": "full", "REF": "v1", "N": "7", "DRAFT": "false", "REPO": "a/b"}))
        );
        assert_eq!(parameters(None, &Fields::new(), &body), Ok(None));
    }

    #[test]
    fn missing_field_is_named() {
        for body in [json!({}), json!({"ref": null}), json!({"ref": ["a"]}), json!([1]), json!("x")]
        {
            let missing =
                parameters(None, &fields(&[("REF", "/ref")]), &body).expect_err("missing");
            assert_eq!((missing.parameter.as_str(), missing.pointer.as_str()), ("REF", "/ref"));
        }
    }

    #[test]
    fn conditions_compare_texts() {
        let conditions = fields(&[("/ref", "refs/heads/main"), ("/id", "7")]);
        assert_eq!(unfulfilled(&conditions, &json!({"ref": "refs/heads/main", "id": 7})), None);
        assert_eq!(unfulfilled(&conditions, &json!({"ref": "other", "id": 7})), Some("/ref"));
        assert_eq!(unfulfilled(&conditions, &json!({})), Some("/id"));
    }

    #[test]
    fn pointers_are_checked() {
        assert_eq!(pointer_problem("/a/b~1c/0"), None);
        assert!(pointer_problem("ref").is_some() && pointer_problem("").is_some());
        assert!(pointer_problem(&format!("/{}", "a".repeat(255))).is_some());
    }
}
