//! Fields of schedules: bounds and patterns from the constants that the server checks.

use muster_protocol::limits::{MAX_ARGV_WORDS, MAX_EXPIRES_IN_MS, MAX_TIMEOUT_MS};
use serde_json::{Value, json};

use super::super::shapes::{RUNNABLE_SCRIPT, or_null, reference};
use super::texts::word;
use crate::domain::integrations::alert::{MAX_HOLD_MS, MAX_THRESHOLD};
use crate::domain::schedules::cron::MAX_CRON_CHARS;
use crate::domain::schedules::fire::MAX_JITTER_MS;
use crate::domain::schedules::hook::proof::{MAX_REPLAY_WINDOW_MS, MIN_REPLAY_WINDOW_MS};
use crate::domain::schedules::hook::template::{MAX_CONDITIONS, MAX_FIELDS, MAX_POINTER_CHARS};
use crate::domain::schedules::policy::MAX_CATCH_UP;
use crate::domain::schedules::rule::{MAX_INTERVAL_MS, MIN_INTERVAL_MS};
use crate::domain::schedules::simulation::MAX_SIMULATED_MS;
use crate::services::schedules::{MAX_COUNT, MAX_LATE_LIMIT_MS};

/// A JSON pointer without control characters.
const POINTER: &str = r"^/[^\x00-\x1f\x7f-\x9f]*$";

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let most = |least: u64, most: u64| json!({"type": ["integer", "null"], "minimum": least, "maximum": most});
    let argv = json!({"type": ["array", "null"], "items": word(), "minItems": 1,
        "maxItems": MAX_ARGV_WORDS});
    let mut fields = Vec::new();
    for schedule in ["CreateSchedule", "UpdateSchedule"] {
        let is_new = schedule == "CreateSchedule";
        let given = |schema: &str| {
            if is_new { reference(schema) } else { or_null(&reference(schema)) }
        };
        fields.extend([
            (schedule, "name", given("Name")),
            (schedule, "rule", given("RuleSpec")),
            (schedule, "job", given("ScheduledJob")),
            (schedule, "max_catch_up", most(0, MAX_CATCH_UP.into())),
            (schedule, "late_limit_ms", most(0, MAX_LATE_LIMIT_MS)),
            (schedule, "jitter_ms", most(0, MAX_JITTER_MS)),
            (schedule, "secret_parameters", or_null(&reference("ScriptParameters"))),
        ]);
    }
    let pointer = || json!({"type": "string", "maxLength": MAX_POINTER_CHARS, "pattern": POINTER});
    let parameters = json!({"type": ["object", "null"], "maxProperties": MAX_FIELDS,
        "additionalProperties": pointer()});
    let conditions = json!({"type": ["object", "null"], "maxProperties": MAX_CONDITIONS,
        "propertyNames": pointer(),
        "additionalProperties": {"type": "string", "maxLength": MAX_POINTER_CHARS}});
    for hook in ["CreateHook", "UpdateHook"] {
        let given = |schema: &str| match hook {
            "CreateHook" => reference(schema),
            _ => or_null(&reference(schema)),
        };
        fields.extend([
            (hook, "name", given("Name")),
            (hook, "authentication", given("HookAuthentication")),
            (hook, "job", given("ScheduledJob")),
            (hook, "parameters", parameters.clone()),
            (hook, "conditions", conditions.clone()),
            (hook, "replay_window_ms", most(MIN_REPLAY_WINDOW_MS, MAX_REPLAY_WINDOW_MS)),
        ]);
    }
    for calendar in ["CreateCalendar", "UpdateCalendar"] {
        let name = match calendar {
            "CreateCalendar" => reference("Name"),
            _ => or_null(&reference("Name")),
        };
        fields.push((calendar, "name", name));
    }
    for rule in ["CreateAlertRule", "UpdateAlertRule"] {
        let given =
            |schema: Value| if rule == "CreateAlertRule" { schema } else { or_null(&schema) };
        let value = json!({"type": "number", "minimum": 0, "maximum": MAX_THRESHOLD});
        fields.extend([
            (rule, "name", given(reference("Name"))),
            (rule, "metric", given(reference("AlertMetric"))),
            (rule, "threshold", given(value.clone())),
            (rule, "clear_threshold", or_null(&value)),
            (rule, "for_ms", most(0, MAX_HOLD_MS)),
            (rule, "clear_for_ms", most(0, MAX_HOLD_MS)),
        ]);
    }
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    fields.extend([
        ("HookView", "conditions", texts.clone()),
        ("HookView", "parameters", texts.clone()),
        ("TestedHookView", "parameters", texts),
        ("SimulateBody", "for_ms", most(1, MAX_SIMULATED_MS)),
        ("RulePreviewBody", "count", most(1, MAX_COUNT)),
        (
            "RuleSpec",
            "cron",
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_CRON_CHARS}),
        ),
        ("RuleSpec", "every_ms", most(MIN_INTERVAL_MS, MAX_INTERVAL_MS)),
        (
            "TriggerStateView",
            "data",
            json!({"description": "The data that the next call gets, any JSON."}),
        ),
        ("ScheduledJob", "argv", argv),
        ("ScheduledJob", "expires_in_ms", most(1, MAX_EXPIRES_IN_MS)),
        ("ScheduledJob", "parameters", or_null(&reference("ScriptParameters"))),
        ("ScheduledJob", "script", json!({"type": ["string", "null"], "pattern": RUNNABLE_SCRIPT})),
        ("ScheduledJob", "timeout_ms", most(1, MAX_TIMEOUT_MS)),
    ]);
    fields
}
