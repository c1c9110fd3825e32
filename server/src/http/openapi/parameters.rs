//! Bounds, patterns and defaults of parameters, from the constants that the server checks.

use muster_protocol::limits::MAX_POLL_WAIT_MS;
use serde_json::{Value, json};

use super::fields::library::FOLDER;
use super::fields::{TIMESTAMP, one_of_names};
use muster_protocol::commands::file_transfer::MAX_FILE_BYTES;

use super::fields::texts::return_path;
use super::shapes::{SCRIPT, VERSION, reference};
use crate::domain::access::audit_actions::AUDIT_ACTIONS;
use crate::domain::access::people::oidc_provider::MAX_PROVIDER_NAME;
use crate::domain::access::principal::Scope;
use crate::domain::commands::command_state::CommandState;
use crate::domain::commands::job_state::JobState;
use crate::domain::commands::trigger::Trigger;
use crate::domain::fleet::target::syntax::MAX_EXPRESSION_BYTES;
use crate::domain::library::rules::{MAX_FOLDER_BYTES, MAX_SEARCH_CHARS};
use crate::domain::page::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::domain::schedules::hook::proof::MAX_DELIVERY_ID_CHARS;
use crate::http::access::audit_query::MAX_LINK;
use crate::http::commands::output_search::MAX_TEXT_CHARS;
use crate::http::fleet::agent_history::MAX_SAMPLES;
use crate::services::commands::{MAX_IDEMPOTENCY_KEY_CHARS, MAX_WAIT_MS};
use crate::services::schedules::{DEFAULT_COUNT, MAX_COUNT};
use muster_protocol::CommandName;
use muster_protocol::library::MAX_VERSION_NUMBER;
use muster_protocol::release::{Platform, Program};

/// A cursor as lists return it. Opaque: the form may change.
const CURSOR: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Names of facts, separated by commas.
const FACT_NAMES: &str =
    "^[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}(,[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}){0,15}$";

/// A position in an audit log.
const POSITION: &str =
    r"^(0|[1-9][0-9]{0,17})\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Completes one parameter of an operation.
pub fn complete(operation: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    if let Some((description, schema)) = rule(operation, &name) {
        parameter["schema"] = schema;
        if parameter["description"].is_null() {
            parameter["description"] = json!(description);
        }
    }
}

fn rule(operation: &str, name: &str) -> Option<(&'static str, Value)> {
    Some(match name {
        "facts" => ("Names of facts.", json!({"type": "string", "pattern": FACT_NAMES})),
        "limit" if operation == "list_agent_metrics" => (
            "The latest samples of this number.",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_SAMPLES}),
        ),
        "limit" => (
            "Items of the page at most.",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT,
                "default": DEFAULT_LIMIT}),
        ),
        "sha256" => {
            ("SHA-256 of the file, in hex.", json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}))
        }
        "count" => (
            "Due times to compute.",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": DEFAULT_COUNT}),
        ),
        "cursor" if operation == "list_audit_entries" => (
            "`next_cursor` of the previous page. Opaque.",
            json!({"type": "string", "pattern": POSITION}),
        ),
        "after" if operation == "verify_audit" => (
            "The link before the part.",
            json!({"type": "integer", "minimum": 0, "maximum": MAX_LINK, "default": 0}),
        ),
        "after" => ("A position.", json!({"type": "string", "pattern": POSITION})),
        "action" => {
            let names = AUDIT_ACTIONS.join("|").replace('.', "\\.");
            ("An action.", json!({"type": "string", "pattern": format!("^({names})$")}))
        }
        "subject_kind" => {
            ("A kind of subject.", json!({"type": "string", "pattern": "^[a-z_]{1,64}$"}))
        }
        "cursor" if operation == "search_output" => (
            "`next_cursor` of the previous response. Opaque.",
            json!({"type": "string", "pattern": "^[0-9]{1,19}\\.[0-9]{1,19}$"}),
        ),
        "q" if operation == "search_output" => {
            ("The text.", json!({"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS}))
        }
        "to_bytes" => {
            ("Where to stop.", json!({"type": "integer", "minimum": 0, "maximum": i64::MAX}))
        }
        "cursor" => (
            "`next_cursor` of the previous page. Opaque.",
            json!({"type": "string", "pattern": CURSOR}),
        ),
        "wait_ms" => {
            let most = if operation == "poll_commands" { MAX_POLL_WAIT_MS } else { MAX_WAIT_MS };
            (
                "How long to wait, in milliseconds.",
                json!({"type": "integer", "minimum": 0, "maximum": most, "default": 0}),
            )
        }
        "id" => ("The id.", json!({"type": "string", "format": "uuid"})),
        "Idempotency-Key" => (
            "A repeated request with the same key within 24 hours gets the answer of the first one.",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY_CHARS,
                "pattern": "^[!-~]([ -~]*[!-~])?$"}),
        ),
        "Last-Event-ID" if operation == "follow_output" => (
            "The id of the last event that was received; empty without one.",
            json!({"type": "string", "pattern": "^[0-9]{0,18}$"}),
        ),
        "Last-Event-ID" if operation == "follow_audit" => (
            "The id of the last event that was received.",
            json!({"type": "string", "pattern": POSITION}),
        ),
        "Last-Event-ID" => {
            ("The id of the last event that was received.", json!({"type": "string"}))
        }
        "Range" => (
            "One range of bytes, such as `bytes=100-`. Any other value is ignored.",
            json!({"type": "string"}),
        ),
        "offset_bytes" => (
            "Bytes of the file before these.",
            json!({"type": "integer", "minimum": 0, "maximum": MAX_FILE_BYTES}),
        ),
        "from_bytes" => (
            "Bytes to skip.",
            json!({"type": "integer", "minimum": 0, "maximum": i64::MAX, "default": 0}),
        ),
        "since" | "created_after" | "created_before" => ("An instant.", TIMESTAMP.clone()),
        "types" => (
            "Types of events.",
            json!({"type": "string", "pattern": "^(execution|job|agent)(,(execution|job|agent))*$"}),
        ),
        "trigger" => ("What created the execution.", one_of_names::<Trigger>()),
        "state" if operation == "list_jobs" => ("A state.", one_of_names::<JobState>()),
        "state" if operation.ends_with("executions") => (
            "States.",
            json!({"type": "array", "items": one_of_names::<CommandState>(), "minItems": 1}),
        ),
        "expression" | "target" => (
            "A target expression.",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION_BYTES}),
        ),
        "search" => (
            "A part of the name or the description, in any case.",
            json!({"type": "string", "maxLength": MAX_SEARCH_CHARS}),
        ),
        "folder" => (
            "Scripts of this folder and of those in it.",
            json!({"type": "string", "pattern": FOLDER, "maxLength": MAX_FOLDER_BYTES}),
        ),
        "tag" => ("Scripts with this tag.", reference("Tag")),
        "name" if operation == "list_scripts" => (
            "The script of exactly this name.",
            json!({"type": "string", "maxLength": MAX_SEARCH_CHARS}),
        ),
        "name" => ("A name.", json!({"type": "string"})),
        "script" if operation != "follow_events" => (
            "A script's full name.",
            json!({
            "type": "string", "pattern": SCRIPT}),
        ),
        "version" if operation.contains("script") => (
            "The number of a version.",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_VERSION_NUMBER}),
        ),
        "from" if operation.contains("script") => (
            "The number of the older version.",
            json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        ),
        "to" if operation.contains("script") => (
            "The number of the newer version.",
            json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        ),
        "platform" => {
            let names: Vec<_> = Platform::all().map(|platform| platform.to_string()).collect();
            ("The platform of a program.", json!({"type": "string", "enum": names}))
        }
        "program" => {
            let names = Program::ALL.map(Program::file_name);
            ("A program.", json!({"type": "string", "enum": names}))
        }
        "provider" => {
            let pattern = format!("^[a-z0-9-]{{1,{MAX_PROVIDER_NAME}}}$");
            ("The name of a provider.", json!({"type": "string", "pattern": pattern}))
        }
        "return_to" => ("A path of this server.", return_path(false)),
        "operation" => (
            "A scope, a command, `shell`, or `run:` and the name of a script.",
            json!({"type": "string", "pattern": explained_operations()}),
        ),
        "Webhook-Id" => (
            "The id of the delivery.",
            json!({"type": "string", "minLength": 1, "maxLength": MAX_DELIVERY_ID_CHARS}),
        ),
        "version" => ("The version of a release.", json!({"type": "string", "pattern": VERSION})),
        _ => return None,
    })
}

/// What a question about access may name.
fn explained_operations() -> String {
    let scopes = Scope::ALL.map(Scope::as_str).into_iter();
    let commands = CommandName::ALL.map(CommandName::as_str).into_iter();
    let names: Vec<_> = scopes.chain(commands.filter(|name| *name != "execute")).collect();
    format!("^({}|shell|run:[\\s\\S]+)$", names.join("|"))
}
