//! Fields of the library: bounds and patterns from the constants that the server checks.

use muster_protocol::library::{
    MAX_INTERPRETER_BYTES, MAX_PATTERN_BYTES, MAX_REQUIREMENTS_BYTES, MAX_SCRIPT_BYTES,
    MAX_VERSION_NUMBER,
};
use muster_protocol::limits::{MAX_CHOICES, MAX_DESCRIPTION_CHARS, MAX_TIMEOUT_MS};
use muster_protocol::package::{
    MAX_SCHEDULE_TEXT_BYTES, MAX_TASK_INTERVAL_MS, MIN_TASK_INTERVAL_MS,
};
use muster_protocol::parameter::{MAX_PARAMETERS, MAX_VALUE_BYTES};
use serde_json::{Value, json};

use super::super::shapes::{NAME, or_null, reference};
use crate::domain::library::rules::{
    MAX_FOLDER_BYTES, MAX_SCRIPT_DESCRIPTION_CHARS, MAX_VERSION_MESSAGE_CHARS,
};
use crate::domain::name::MAX_TAGS;
use crate::domain::waves::gate::MAX_HEALTHY_MS;

/// A program, or its full path without `..`.
const INTERPRETER: &str =
    "^([A-Za-z0-9_][A-Za-z0-9._+-]*|(?!.*/\\.\\.(/|$))/([A-Za-z0-9._+/-]*[A-Za-z0-9._+-]))$";
/// Parts with `/` between them.
pub(in crate::http::openapi) const FOLDER: &str =
    "^([A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127})*)?$";

/// A package or a script, and perhaps its version.
const ASSIGNABLE: &str = "^(package:[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(@[A-Za-z0-9][A-Za-z0-9._+-]{0,63})?|library:[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(@([1-9][0-9]{0,5}|1000000))?)$";

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let text = |most: usize| json!({"type": ["string", "null"], "maxLength": most});
    let timeout = json!({"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TIMEOUT_MS});
    let version = json!({"type": ["integer", "null"], "minimum": 1, "maximum": MAX_VERSION_NUMBER});
    let parameters = json!({"type": "array", "maxItems": MAX_PARAMETERS,
        "items": reference("ScriptParameterView")});
    let assignable = json!({"type": "string", "pattern": ASSIGNABLE});
    let most_of_a_day =
        json!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_HEALTHY_MS});
    let mut fields = Vec::new();
    for schema in ["CreateScriptBody", "ScriptVersionBody"] {
        fields.extend([
            (schema, "body", json!({"type": "string", "minLength": 1, "maxLength": MAX_SCRIPT_BYTES})),
            (
                schema,
                "interpreter",
                json!({"type": "string", "maxLength": MAX_INTERPRETER_BYTES, "pattern": INTERPRETER}),
            ),
            (schema, "parameters", parameters.clone()),
            (schema, "timeout_ms", timeout.clone()),
            (schema, "requirements", text(MAX_REQUIREMENTS_BYTES)),
            (schema, "message", text(MAX_VERSION_MESSAGE_CHARS)),
        ]);
    }
    for schema in ["CreateScriptBody", "UpdateScriptBody"] {
        fields.extend([
            (
                schema,
                "folder",
                json!({"type": ["string", "null"], "maxLength": MAX_FOLDER_BYTES, "pattern": FOLDER}),
            ),
            (
                schema,
                "tags",
                json!({"type": ["array", "null"], "maxItems": MAX_TAGS, "items": reference("Tag")}),
            ),
            (schema, "description", text(MAX_SCRIPT_DESCRIPTION_CHARS)),
            (schema, "default_target", or_null(&reference("TargetSpec"))),
        ]);
    }
    fields.extend([
        ("CreateAssignment", "name", reference("Name")),
        ("UpdateAssignment", "name", or_null(&reference("Name"))),
        ("CreateAssignment", "script", assignable.clone()),
        ("UpdateAssignment", "script", or_null(&assignable)),
        ("CreateAssignment", "parameters", reference("ScriptParameters")),
        ("AssignmentView", "parameters", reference("ScriptParameters")),
        ("AssignmentSchedule", "cron", text(MAX_SCHEDULE_TEXT_BYTES)),
        ("AssignmentSchedule", "time_zone", text(MAX_SCHEDULE_TEXT_BYTES)),
        (
            "AssignmentSchedule",
            "every_ms",
            json!({"type": ["integer", "null"], "minimum": MIN_TASK_INTERVAL_MS,
                "maximum": MAX_TASK_INTERVAL_MS}),
        ),
        ("AssignmentRolloutBody", "wave_size", reference("WaveSize")),
        ("AssignmentRolloutBody", "max_failures", or_null(&reference("FailureLimit"))),
        ("AssignmentRolloutBody", "healthy_for_ms", most_of_a_day),
        ("AssignmentRolloutView", "wave_size", reference("WaveSize")),
        ("AssignmentRolloutView", "max_failures", reference("FailureLimit")),
        ("CreateScriptBody", "name", json!({"type": "string", "pattern": NAME})),
        ("UpdateScriptBody", "current_version", version.clone()),
        ("UpdateScriptBody", "expected_version", version.clone()),
        ("ScriptVersionBody", "expected_version", version),
        ("ScriptParameterView", "help", text(MAX_DESCRIPTION_CHARS)),
        ("ScriptParameterView", "pattern", text(MAX_PATTERN_BYTES)),
        (
            "ScriptParameterView",
            "choices",
            json!({"type": "array", "maxItems": MAX_CHOICES,
                "items": {"type": "string", "maxLength": MAX_VALUE_BYTES}}),
        ),
    ]);
    fields
}
