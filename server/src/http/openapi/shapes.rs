//! Shapes that the descriptions of fields are made of.

use serde_json::{Value, json};

/// The name of a script.
pub(super) const NAME: &str = "^[A-Za-z0-9._-]{1,128}$";

/// A schema by its name.
pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// `schema`, or null.
pub(super) fn or_null(schema: &Value) -> Value {
    json!({"oneOf": [schema, {"type": "null"}]})
}
