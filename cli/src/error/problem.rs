//! A problem document of the API, as far as this client uses it.
//!
//! Pure.

use serde::Deserialize;
use serde_json::Value;

/// Why the server refused a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable code, empty if the answer had none.
    pub code: String,
    /// What users read. At first the server's `detail`.
    pub message: String,
    /// The character of an expression, counted from 1, at which it is invalid.
    pub column: Option<usize>,
    /// The fields that are wrong, if the server named any.
    pub errors: Vec<FieldError>,
    /// The agents that an ambiguous name matches.
    pub candidates: Vec<Value>,
    /// Seconds to wait before the same request can succeed.
    pub retry_after_s: Option<u64>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FieldError {
    /// The JSON path, such as `rollout.wave_size`, or the name of a query parameter.
    pub field: String,
    /// `required`, `invalid`, `too_small`, …
    pub code: String,
    /// The bound: a number or a string.
    #[serde(default)]
    pub limit: Value,
    /// With `invalid`: what is wrong, to be read after the name of the field or option.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Problem {
    /// Reads the body of a refusal; anything that is no problem document gives a message of its own.
    pub fn read(status: u16, body: &[u8], retry_after_s: Option<u64>) -> Self {
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| {
            let text = document.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let message = text("detail").or_else(|| text("title")).unwrap_or_else(|| {
            format!("the server answered with status {status} and no explanation")
        });
        let column = document.get("column").and_then(Value::as_u64);
        let errors = document.get("errors").cloned().unwrap_or_default();
        Self {
            status,
            code: text("code").unwrap_or_default(),
            message,
            column: column.and_then(|column| usize::try_from(column).ok()),
            errors: serde_json::from_value(errors).unwrap_or_default(),
            candidates: document
                .get("candidates")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default(),
            retry_after_s,
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn message_is_the_detail_or_the_title_or_the_status() {
        let message = |body: &str| Problem::read(409, body.as_bytes(), None).message;
        assert_eq!(
            message(r#"{"title":"Offline","detail":"web-1 is offline"}"#),
            "web-1 is offline"
        );
        assert_eq!(message(r#"{"title":"Offline","detail":""}"#), "Offline");
        assert!(message("<html>").contains("status 409"));
        assert!(message("[]").contains("status 409"));
    }

    #[test]
    fn field_errors_are_read_and_malformed_ones_are_ignored() {
        let read = |errors: Value| {
            Problem::read(422, json!({ "errors": errors }).to_string().as_bytes(), None).errors
        };
        let errors = read(json!([{"field": "rollout.wave_size", "code": "too_small", "limit": 1},
            {"field": "name", "code": "required"}]));
        assert_eq!((errors[0].field.as_str(), &errors[0].limit), ("rollout.wave_size", &json!(1)));
        assert_eq!((errors[1].code.as_str(), &errors[1].limit), ("required", &Value::Null));
        for malformed in [json!(null), json!("name"), json!([{"field": 1}])] {
            assert_eq!(read(malformed), []);
        }
    }
}
