//! Fields of bodies: bounds and patterns from the constants that the server checks, and the shapes of
//! values that handlers read as JSON and check later.

mod files;
mod integrations;
pub(super) mod library;
mod schedules;
mod steps;
pub(super) mod texts;

use std::sync::LazyLock;

use muster_protocol::limits::{MAX_ARGV_WORDS, MAX_EXPIRES_IN_MS, MAX_TIMEOUT_MS};
use serde::Serialize;
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator;

use self::texts::word;
use super::named_schemas;
use super::shapes::{JOB_SCRIPT, SCRIPT, or_null, reference};
use crate::domain::access::keys::key_limits::{MAX_FAN_OUT, MAX_KEY_SCRIPTS};
use crate::domain::commands::approval::{MAX_APPROVAL_WAIT_MS, MAX_DECISION_CHARS};
use crate::domain::commands::ladder::MAX_LADDER_STEPS;
use crate::domain::commands::rollout::{MAX_GATE_MS, MAX_PAUSE_MS};
use crate::domain::fleet::target::MAX_IDS;
use crate::domain::fleet::target::syntax::MAX_EXPRESSION_BYTES;
use crate::domain::name::MAX_TAGS;
use crate::services::access::keys::agent_keys::{MAX_AGENTS_OF_KEY, MAX_GRACE_MS};
use crate::services::access::keys::api_key_changes::MAX_OVERLAP_MS;
use crate::services::commands::approvals::MAX_CAPSULES;
use crate::services::commands::{DEFAULT_WAIT_MS, MAX_WAIT_MS};

/// Characters that no name contains, for a class of a pattern. The server also refuses those beyond
/// U+FFFF, which patterns of JSON Schema can't portably name.
macro_rules! invisible {
    () => {
        r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    };
}
/// A name that a person gave: not empty, and without spaces at its ends.
const GIVEN_NAME: &str =
    concat!("^[^\\s", invisible!(), "]([^", invisible!(), "]*[^\\s", invisible!(), "])?$");
/// The reason of a decision: not blank. Line breaks are allowed, other control characters are not.
const REASON: &str = concat!("^(?=[\\s\\S]*\\S)(\\n|[^", invisible!(), "])+$");
/// An instant, as a reference.
pub static TIMESTAMP: LazyLock<Value> = LazyLock::new(|| reference("Timestamp"));

/// The names of an enum, as they are written in JSON.
pub fn one_of_names<T: IntoEnumIterator + Serialize>() -> Value {
    let names: Vec<Value> =
        T::iter().filter_map(|value| serde_json::to_value(value).ok()).collect();
    json!({"type": "string", "enum": names})
}

/// The schema of an operation's body, where two operations share a type but not what they require.
pub fn body_of(operation: &str) -> Option<Value> {
    match operation {
        "create_group" => Some(reference("CreateGroup")),
        "update_group" => Some(reference("UpdateGroup")),
        "create_integration" => Some(reference("CreateIntegration")),
        "update_integration" => Some(reference("UpdateIntegration")),
        "create_schedule" => Some(reference("CreateSchedule")),
        "update_schedule" => Some(reference("UpdateSchedule")),
        "create_alert_rule" => Some(reference("CreateAlertRule")),
        "update_alert_rule" => Some(reference("UpdateAlertRule")),
        "create_calendar" => Some(reference("CreateCalendar")),
        "update_calendar" => Some(reference("UpdateCalendar")),
        "create_hook" => Some(reference("CreateHook")),
        "update_hook" => Some(reference("UpdateHook")),
        _ => None,
    }
}

/// Adds schemas that no type has, and completes fields.
pub fn complete(schemas: &mut Map<String, Value>) {
    named_schemas::add(schemas, GIVEN_NAME);
    split(schemas, "Group", &["name", "target"]);
    split(schemas, "AlertRule", &["name", "metric", "threshold"]);
    split(schemas, "Calendar", &["name", "entries"]);
    split(schemas, "Hook", &["name", "authentication", "job"]);
    split(schemas, "Schedule", &["name", "rule", "job"]);
    split(schemas, "Integration", &["kind", "name", "settings", "event_types"]);
    for (schema, field, completed) in all() {
        if let Some(property) = property(schemas, schema, field) {
            let description = property.get("description").cloned();
            *property = completed;
            if let Some(description) = description {
                property["description"] = description;
            }
        }
    }
    schemas["TargetSpec"]["minProperties"] = json!(1);
    schemas["TargetSpec"]["maxProperties"] = json!(1);
    // In a frame `command_id` is required; in a request it is beside the result.
    schemas["Response"]["required"] = json!(["success"]);
    schemas["RolloutSpec"]["required"] = json!(["wave_size"]);
    // Without them the server refuses the body.
    schemas["DecisionBody"]["required"] = json!(["reason"]);
    schemas["ConfirmBody"]["minProperties"] = json!(1);
}

/// The property of a schema, or of a part that the schema is composed of.
fn property<'a>(
    schemas: &'a mut Map<String, Value>,
    schema: &str,
    field: &str,
) -> Option<&'a mut Value> {
    let schema = schemas.get_mut(schema)?;
    if schema["properties"][field].is_object() {
        return schema["properties"].get_mut(field);
    }
    let parts = schema.get_mut("allOf")?.as_array_mut()?;
    parts.iter_mut().find_map(|part| part.get_mut("properties")?.get_mut(field))
}

/// Creating requires what changing does not.
fn split(schemas: &mut Map<String, Value>, resource: &str, required: &[&str]) {
    let Some(mut body) = schemas.remove(&format!("{resource}Body")) else { return };
    schemas.insert(format!("Update{resource}"), body.clone());
    body["required"] = json!(required);
    body["description"] = json!(format!("A new {}.", resource.to_lowercase()));
    schemas.insert(format!("Create{resource}"), body);
}

/// Schema, field, and what the field is.
fn all() -> Vec<(&'static str, &'static str, Value)> {
    let tags = json!({"type": "array", "items": reference("Tag"), "maxItems": MAX_TAGS});
    let permissions = json!({"type": "array", "items": reference("CommandName")});
    let scopes = json!({"type": "array", "items": reference("Scope")});
    let optional = |schema: Value| or_null(&schema);
    let parameters = reference("ScriptParameters");
    let wait = json!({"type": ["integer", "null"], "minimum": 0, "maximum": MAX_WAIT_MS,
        "default": DEFAULT_WAIT_MS});
    let most = |least: u64, most: u64| json!({"type": ["integer", "null"], "minimum": least, "maximum": most});
    let day = MAX_PAUSE_MS.unsigned_abs();
    let gate = MAX_GATE_MS.unsigned_abs();
    let max_agents =
        json!({"type": ["integer", "null"], "minimum": 1, "maximum": MAX_AGENTS_OF_KEY});
    let argv = json!({"type": ["array", "null"], "items": word(), "minItems": 1,
        "maxItems": MAX_ARGV_WORDS});
    let script = json!({"type": ["string", "null"], "pattern": JOB_SCRIPT});
    let scripts = json!({"type": ["array", "null"], "maxItems": MAX_KEY_SCRIPTS,
        "items": {"type": "string", "pattern": SCRIPT}});
    let target =
        json!({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_EXPRESSION_BYTES});
    let url = json!({"type": "string", "maxLength": 2048, "pattern": "^https?://"});
    let mut fields = vec![
        ("AgentKeyView", "permissions", permissions.clone()),
        ("AgentKeyView", "tags", tags.clone()),
        ("AgentView", "tags", tags.clone()),
        ("AgentView", "update", optional(reference("UpdateResult"))),
        ("ApiKeyView", "scopes", scopes.clone()),
        ("MyselfView", "scopes", scopes.clone()),
        ("ApprovalView", "data", reference("CommandData")),
        ("CreateApprovalRule", "name", reference("Name")),
        ("CreateApprovalRule", "target", target.clone()),
        (
            "CreateApprovalRule",
            "scripts",
            json!({"type": "array", "maxItems": MAX_KEY_SCRIPTS,
            "items": {"type": "string", "pattern": SCRIPT}}),
        ),
        ("CreateApprovalRule", "fan_out_above", most(0, MAX_FAN_OUT.into())),
        ("CreateApprovalRule", "wait_ms", most(1, MAX_APPROVAL_WAIT_MS)),
        (
            "DecisionBody",
            "reason",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_DECISION_CHARS,
            "pattern": REASON}),
        ),
        (
            "ApproveBody",
            "reason",
            json!({"type": ["string", "null"], "minLength": 1, "maxLength": MAX_DECISION_CHARS,
            "pattern": REASON}),
        ),
        (
            "ApproveBody",
            "capsules",
            json!({"type": "array", "items": reference("CapsuleBody"), "maxItems": MAX_CAPSULES}),
        ),
        (
            "LadderView",
            "steps",
            json!({"type": "array", "items": reference("LadderStepView"),
            "maxItems": MAX_LADDER_STEPS}),
        ),
        ("LadderStepView", "tag", optional(reference("Tag"))),
        (
            "LadderStepView",
            "from_agents",
            json!({"type": "integer", "minimum": 1, "maximum": u32::MAX}),
        ),
        ("AuditEntryView", "detail", reference("AuditDetail")),
        ("CommandBody", "command", reference("CommandName")),
        ("CommandBody", "data", optional(reference("CommandData"))),
        ("CommandBody", "expires_in_ms", most(1, MAX_EXPIRES_IN_MS)),
        ("CommandBody", "wait_ms", wait.clone()),
        ("CommandResponseView", "data", reference("ReplyData")),
        ("CommandView", "command", reference("CommandName")),
        ("CommandView", "data", reference("CommandData")),
        ("CommandView", "result", optional(reference("ReplyData"))),
        ("CreateAgentKey", "name", reference("Name")),
        ("CreateAgentKey", "permissions", optional(permissions.clone())),
        ("CreateAgentKey", "tags", tags.clone()),
        ("CreateAgentKey", "max_agents", max_agents.clone()),
        ("CreateApiKey", "name", reference("Name")),
        ("CreateTenant", "name", reference("Name")),
        ("CreateApiKey", "scopes", optional(scopes.clone())),
        ("CreateApiKey", "target", target.clone()),
        ("CreateApiKey", "scripts", scripts.clone()),
        ("CreateApiKey", "max_fan_out", most(1, MAX_FAN_OUT.into())),
        ("UpdateApiKey", "name", optional(reference("Name"))),
        ("UpdateApiKey", "scopes", optional(scopes)),
        ("UpdateApiKey", "target", target),
        ("UpdateApiKey", "scripts", scripts),
        ("UpdateApiKey", "max_fan_out", most(1, MAX_FAN_OUT.into())),
        (
            "RotateApiKey",
            "grace_ms",
            json!({"type": "integer", "minimum": 0, "maximum": MAX_OVERLAP_MS, "default": 0}),
        ),
        ("ExecutionView", "parameters", parameters.clone()),
        ("GateSpec", "for_ms", json!({"type": "integer", "minimum": 0, "maximum": gate})),
        ("GateSpec", "online", json!({"type": ["boolean", "null"]})),
        ("GateSpec", "within_ms", most(1, gate)),
        ("GroupView", "max_failures", reference("FailureLimit")),
        ("GroupView", "wave_size", reference("WaveSize")),
        ("HeartbeatView", "type", json!({"type": "string", "const": "heartbeat_ack"})),
        ("JobBody", "argv", argv.clone()),
        ("JobBody", "expires_in_ms", most(1, MAX_EXPIRES_IN_MS)),
        ("JobBody", "parameters", optional(parameters.clone())),
        ("JobBody", "script", script),
        ("JobBody", "secret_parameters", optional(parameters.clone())),
        ("JobBody", "timeout_ms", most(1, MAX_TIMEOUT_MS)),
        ("JobView", "counts", reference("StateCounts")),
        ("JobView", "parameters", optional(parameters)),
        ("JobView", "target", reference("TargetSpec")),
        ("LateResult", "result", reference("ReplyData")),
        ("PingBody", "wait_ms", wait),
        ("PollView", "commands", json!({"type": "array", "items": reference("CommandFrame")})),
        (
            "RegenerateAgentKey",
            "grace_ms",
            json!({"type": "integer", "minimum": 0, "maximum": MAX_GRACE_MS, "default": 0}),
        ),
        ("UpdateOwnTenant", "name", optional(reference("Name"))),
        ("ResultBody", "result", reference("Response")),
        ("RolloutSpec", "max_failures", optional(reference("FailureLimit"))),
        ("RolloutSpec", "pause_ms", most(0, day)),
        ("RolloutSpec", "wave_size", reference("WaveSize")),
        ("ScriptsView", "items", json!({"type": "array", "items": reference("Script")})),
        (
            "TargetSpec",
            "expression",
            json!({"type": "string", "minLength": 1,
            "maxLength": MAX_EXPRESSION_BYTES}),
        ),
        (
            "TargetSpec",
            "ids",
            json!({"type": "array", "items": reference("AgentId"),
            "minItems": 1, "maxItems": MAX_IDS}),
        ),
        (
            "TargetSpec",
            "tags",
            json!({"type": "array", "items": reference("Tag"),
            "minItems": 1, "maxItems": MAX_TAGS}),
        ),
        ("UpdateAgent", "name", optional(reference("Name"))),
        ("UpdateAgent", "tags", optional(tags.clone())),
        ("UpdateAgentKey", "max_agents", max_agents),
        ("UpdateAgentKey", "name", optional(reference("Name"))),
        ("UpdateAgentKey", "permissions", optional(permissions)),
        ("UpdateAgentKey", "tags", optional(tags)),
        ("UpdateTenant", "name", optional(reference("Name"))),
        ("SecretBody", "url", url.clone()),
        ("WebhookBody", "url", url),
    ];
    for group in ["CreateGroup", "UpdateGroup"] {
        let is_new = group == "CreateGroup";
        let given = |schema: &str| {
            if is_new { reference(schema) } else { or_null(&reference(schema)) }
        };
        fields.extend([
            (group, "name", given("Name")),
            (group, "target", given("TargetSpec")),
            (group, "wave_size", or_null(&reference("WaveSize"))),
            (group, "max_failures", or_null(&reference("FailureLimit"))),
            (group, "healthy_for_ms", most(0, day)),
        ]);
    }
    fields.extend(files::all());
    fields.extend(library::all());
    fields.extend(texts::all());
    fields.extend(schedules::all());
    fields.extend(steps::all());
    fields.extend(integrations::all());
    fields
}

#[cfg(test)]
mod tests;
