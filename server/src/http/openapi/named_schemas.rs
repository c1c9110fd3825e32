//! Schemas that no type of the server has: names, amounts, and values that handlers read as JSON.

use muster_protocol::CommandName;
use muster_protocol::commands::step::MAX_STEPS;
use muster_protocol::limits::{MAX_ARGV_WORDS, MAX_TIMEOUT_MS};
use muster_protocol::parameter::{MAX_PARAMETERS, MAX_VALUE_BYTES};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator as _;

use super::fields::texts::{calendar_entry, command_text};
use super::shapes::{or_null, reference};
use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::domain::name::{MAX_NAME_CHARS, MAX_TAG_BYTES};
use crate::domain::waves::amount::MAX_AMOUNT;

/// Adds them. `given_name`: the pattern of a name that a person gave.
pub fn add(schemas: &mut Map<String, Value>, given_name: &str) {
    let commands = CommandName::ALL.map(CommandName::as_str);
    let scopes = Scope::ALL.map(Scope::as_str);
    let percent = "^(100|[0-9]{1,2}|0[0-9]{1,2})%$";
    let amount = |least: u64, about: &str| {
        json!({"description": about, "oneOf": [
            {"type": "integer", "minimum": least, "maximum": MAX_AMOUNT},
            {"type": "string", "pattern": percent},
        ]})
    };
    let named = [
        (
            "CommandName",
            json!({"type": "string", "enum": commands,
            "description": "A command that agents carry out."}),
        ),
        (
            "Scope",
            json!({"type": "string", "enum": scopes, "description": "One right of an API key."}),
        ),
        (
            "Tag",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_TAG_BYTES,
            "pattern": "^[A-Za-z0-9._:/-]+$", "description": "A tag."}),
        ),
        (
            "Name",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS,
            "pattern": given_name, "description": "A name that a person gives."}),
        ),
        (
            "WaveSize",
            amount(
                1,
                "Agents of a wave: a number, or a percentage of all agents such as `25%`, rounded up.",
            ),
        ),
        (
            "FailureLimit",
            amount(
                0,
                "Failures that are tolerated: a number, or a percentage of all agents such as `5%`, rounded down.",
            ),
        ),
        (
            "ScriptParameters",
            json!({"type": "object", "maxProperties": MAX_PARAMETERS,
            "additionalProperties": {"type": "string", "maxLength": MAX_VALUE_BYTES},
            "description": "Values by the name of the parameter."}),
        ),
        (
            "StateCounts",
            json!({"type": "object",
            "properties": CommandState::iter().map(|state| (state.as_str().to_owned(),
                json!({"type": "integer", "minimum": 0}))).collect::<Map<_, _>>(),
            "additionalProperties": false,
            "description": "Executions by state. States without executions are left out."}),
        ),
        (
            "CommandData",
            json!({"type": "object", "additionalProperties": true,
            "description": "Input of a command. `echo` accepts anything, `execute` the named fields.",
            "properties": {
                "script": command_text(),
                "argv": {"type": "array", "items": command_text(), "minItems": 1,
                    "maxItems": MAX_ARGV_WORDS},
                "parameters": reference("ScriptParameters"),
                "secret_parameters": reference("ScriptParameters"),
                "steps": {"type": "array", "items": reference("StepBody"), "minItems": 1,
                    "maxItems": MAX_STEPS},
                "timeout_ms": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
                "version": command_text(),
            }}),
        ),
        (
            "ReplyData",
            json!({"type": "object", "additionalProperties": true,
            "description": "What an agent replies. Its content depends on the command and the agent."}),
        ),
        (
            "AuditDetail",
            json!({"type": "object", "additionalProperties": true,
            "description": "More about the action. Its content depends on the action."}),
        ),
        (
            "HeartbeatStatus",
            json!({"type": "object", "additionalProperties": true,
            "description": "Any fields. The server stores the numbers `cpu_percent`, `memory_percent`, `disk_percent`, `uptime_seconds` and `load_1m`."}),
        ),
        (
            "CommandFrame",
            json!({"type": "object",
            "description": "A `command` frame.",
            "required": ["type", "command_id", "command", "data", "timestamp"],
            "properties": {
                "type": {"type": "string", "const": "command"},
                "command_id": {"type": "string", "format": "uuid"},
                "command": {"type": "string"},
                "data": reference("ReplyData"),
                "timestamp": {"type": "string", "format": "date-time"},
                "start_within_ms": {"type": "integer", "minimum": 0},
                "request_id": {"type": "string", "maxLength": 64},
            }}),
        ),
        (
            "HeartbeatBody",
            json!({"type": "object", "additionalProperties": true,
            "description": "A heartbeat. The fields of a registration may be in `data` or beside `status`.",
            "properties": {
                "status": reference("HeartbeatStatus"),
                "data": or_null(&reference("Registration")),
            }}),
        ),
    ];
    for (name, schema) in named.into_iter().chain(calendar_entry()) {
        schemas.insert(name.to_owned(), schema);
    }
    schemas.remove("RolloutAmount");
    schemas.remove("RolloutShare");
    // The parameters of steps have a schema of their own.
    schemas.remove("BTreeMap");
}
