//! Shapes that the descriptions of fields are made of.

use serde_json::{Value, json};

/// The name of a script.
pub(super) const NAME: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$";
/// A script of a manifest or of the library, for limits, rules and filters.
pub(super) const SCRIPT: &str =
    "^((library:)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}|file:(push|pull))$";
/// A script to run: of the library perhaps with a version.
pub(super) const RUNNABLE_SCRIPT: &str = "^([A-Za-z0-9_-][A-Za-z0-9._-]{0,127}|library:[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(@([1-9][0-9]{0,5}|1000000))?)$";
/// The same, or a transfer of a file.
pub(super) const JOB_SCRIPT: &str = "^([A-Za-z0-9_-][A-Za-z0-9._-]{0,127}|library:[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(@([1-9][0-9]{0,5}|1000000))?|file:(push|pull))$";

/// The version of a release.
pub(super) const VERSION: &str = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$";

/// A schema by its name.
pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// `schema`, or null.
pub(super) fn or_null(schema: &Value) -> Value {
    json!({"oneOf": [schema, {"type": "null"}]})
}
