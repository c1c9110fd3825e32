//! Fields of steps: bounds and patterns from the constants that the server checks.

use muster_protocol::commands::step::{MAX_STEP_NAME_CHARS, MAX_STEPS};
use muster_protocol::limits::{MAX_ARGV_WORDS, MAX_TIMEOUT_MS};
use muster_protocol::parameter::MAX_PARAMETERS;
use serde_json::{Value, json};

use super::super::shapes::{RUNNABLE_SCRIPT, or_null, reference};
use super::texts::word;

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let steps = json!({"type": ["array", "null"], "items": reference("StepBody"), "minItems": 1,
        "maxItems": MAX_STEPS});
    let on_failure = json!({"type": "string", "enum": ["stop", "continue"]});
    let states = ["running", "succeeded", "failed", "timed_out", "cancelled", "skipped", "unknown"];
    let state = json!({"oneOf": [{"type": "null"}, {"type": "string", "enum": states}]});
    vec![
        ("JobBody", "steps", steps.clone()),
        ("ScheduledJob", "steps", steps),
        (
            "StepBody",
            "argv",
            json!({"type": ["array", "null"], "items": word(), "minItems": 1,
                "maxItems": MAX_ARGV_WORDS}),
        ),
        (
            "StepBody",
            "name",
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_STEP_NAME_CHARS,
                "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}),
        ),
        ("StepBody", "on_failure", or_null(&on_failure)),
        ("StepBody", "parameters", or_null(&reference("ScriptParameters"))),
        ("StepBody", "script", json!({"type": ["string", "null"], "pattern": RUNNABLE_SCRIPT})),
        (
            "StepBody",
            "secrets",
            json!({"type": ["array", "null"], "items": word(), "maxItems": MAX_PARAMETERS}),
        ),
        (
            "StepBody",
            "timeout_ms",
            json!({"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TIMEOUT_MS}),
        ),
        ("RequestedStep", "on_failure", on_failure.clone()),
        ("RequestedStep", "parameters", reference("ScriptParameters")),
        ("StepView", "on_failure", on_failure),
        ("StepView", "parameters", reference("ScriptParameters")),
        ("StepView", "state", state),
    ]
}
