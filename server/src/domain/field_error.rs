//! The fields of a request that are invalid, so that programs can word their own message.

use serde::Serialize;

/// One invalid field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The path of the field in the body, such as `rollout.wave_size`, or the name of the query
    /// parameter or header.
    #[schema(example = "rollout.wave_size")]
    pub field: String,
    pub code: FieldErrorCode,
    /// The limit that the value violates: a number in the field's unit, or a length in characters,
    /// bytes or items. With `unknown_value` the known values, with `conflict` the other field. Absent
    /// if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<FieldLimit>,
    /// With `invalid`: what is wrong, to be read after the name of the field, such as `must be an https URL`.
    /// Absent if only `detail` explains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub reason: Option<Box<str>>,
}

/// The limit that a value violates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum FieldLimit {
    Number(u64),
    Text(String),
}

impl From<u64> for FieldLimit {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for FieldLimit {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for FieldLimit {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldErrorCode {
    /// It is missing.
    Required,
    /// It has the wrong type or form.
    Invalid,
    /// It is less than `limit`.
    TooSmall,
    /// It is more than `limit`.
    TooLarge,
    /// It has more than `limit` items.
    TooMany,
    /// No field has this name.
    UnknownField,
    /// It is not one of the known values.
    UnknownValue,
    /// It contradicts another field.
    Conflict,
}

impl FieldError {
    /// An error without a limit.
    pub fn new(field: impl Into<String>, code: FieldErrorCode) -> Self {
        Self { field: field.into(), code, limit: None, reason: None }
    }

    /// An error with the limit that the field violates.
    pub fn with_limit(
        field: impl Into<String>,
        code: FieldErrorCode,
        limit: impl Into<FieldLimit>,
    ) -> Self {
        Self { field: field.into(), code, limit: Some(limit.into()), reason: None }
    }

    /// An invalid field, with the reason, which is read after the name of the field.
    pub fn invalid(field: impl Into<String>, reason: &str) -> Self {
        Self { reason: Some(reason.into()), ..Self::new(field, FieldErrorCode::Invalid) }
    }

    /// Parses the error of `serde_path_to_error`, `path: reason`. Serde reports the reason as text
    /// only.
    pub fn from_serde(report: &str) -> Self {
        let is_path =
            |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_.[]-".contains(c));
        let (path, message) = match report.split_once(": ") {
            Some((path, message)) if is_path(path) => (path, message),
            _ => ("", report),
        };
        let join = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let quoted = || message.split('`').nth(1).unwrap_or_default();
        if message.starts_with("unknown field `") {
            // Serde's path already ends with the name of an unknown field.
            let field = if path.ends_with(quoted()) { path.to_owned() } else { join(quoted()) };
            Self::new(field, FieldErrorCode::UnknownField)
        } else if message.starts_with("missing field `") {
            Self::new(join(quoted()), FieldErrorCode::Required)
        } else if message.starts_with("unknown variant `") {
            let expected = message.rsplit_once(", expected ").map_or("", |(_, known)| known);
            let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
            let error = Self::new(path, FieldErrorCode::UnknownValue);
            let limit = (!known.is_empty()).then(|| known.join(", ").into());
            Self { limit, ..error }
        } else {
            Self::new(path, FieldErrorCode::Invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_messages_become_codes_with_the_path_of_the_field() {
        for (report, field, code) in [
            ("missing field `name` at line 1 column 2", "name", FieldErrorCode::Required),
            ("rollout: missing field `wave_size`", "rollout.wave_size", FieldErrorCode::Required),
            ("nmae: unknown field `nmae`, expected `name`", "nmae", FieldErrorCode::UnknownField),
            ("unknown field `nmae`, expected `name`", "nmae", FieldErrorCode::UnknownField),
            ("role: unknown variant `king`", "role", FieldErrorCode::UnknownValue),
            ("tags[1]: invalid type: integer `4`", "tags[1]", FieldErrorCode::Invalid),
            ("invalid type: integer `4`, expected a string", "", FieldErrorCode::Invalid),
        ] {
            assert_eq!(FieldError::from_serde(report), FieldError::new(field, code), "{report}");
        }
        let error = FieldError::from_serde("role: unknown variant `king`, expected `a` or `b`");
        assert_eq!(error, FieldError::with_limit("role", FieldErrorCode::UnknownValue, "a, b"));
        let error =
            FieldError::from_serde("role: unknown variant `king`, expected one of `a`, `b`, `c`");
        assert_eq!(error, FieldError::with_limit("role", FieldErrorCode::UnknownValue, "a, b, c"));
    }
}
