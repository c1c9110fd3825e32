//! Runs one command again, as a new command that names the one before.

use muster_protocol::commands::step::parts_of;
use serde_json::{Map, Value};

use super::preflight::OnMismatch;
use super::request::{RetriedCommand, scope_of};
use super::{CommandRequest, Commands, SendResult};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::records::CommandRecord;
use crate::domain::ids::CommandId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Fields of the data that a request has. The rest was pinned when the command was stored, and is pinned again.
const REQUESTED: [&str; 7] =
    ["argv", "file", "parameters", "script", "stdin", "timeout_ms", "version"];
/// As [`REQUESTED`], of a step.
const REQUESTED_OF_STEP: [&str; 6] =
    ["argv", "name", "on_failure", "parameters", "script", "timeout_ms"];

impl Commands {
    /// Sends the work of a command that has ended to its agent again, as a new command. Everything that
    /// applies to a request for that work applies to this one.
    ///
    /// # Errors
    /// 404; 409 `command_running` while it is open, `secrets_gone` if it had secret parameters; and as
    /// [`Self::send`].
    pub async fn retry(
        &self,
        caller: &Caller,
        id: CommandId,
        confirmation: Option<Confirmation>,
        idempotency_key: Option<String>,
    ) -> Result<SendResult> {
        let command = self.get(caller, id, 0).await?.command;
        let request = CommandRequest {
            command: command.command.clone(),
            data: Some(requested_data(&command)),
            wait_ms: None,
            expires_in_ms: None,
            idempotency_key,
            on_mismatch: OnMismatch::Refuse,
            confirmation,
            calendar_override: None,
            retry_of: Some(RetriedCommand { id, lock: command.lock.clone() }),
        };
        let name = request.name()?;
        caller.require(scope_of(name))?;
        if !command.state.is_terminal() {
            return Err(ServiceError::Conflict {
                code: "command_running",
                detail: "the command has not ended; wait for its end or cancel it, then retry"
                    .into(),
            });
        }
        if command.has_secrets {
            return Err(ServiceError::Conflict {
                code: "secrets_gone",
                detail:
                    "the command had secret parameters, which are not stored; send a new command"
                        .into(),
            });
        }
        self.send(caller, command.agent_id, request).await
    }
}

/// The data as a request has it, with the versions that the command ran.
fn requested_data(command: &CommandRecord) -> Value {
    let stored: Value = serde_json::from_str(&command.data).unwrap_or(Value::Null);
    let mut data = Map::new();
    for name in REQUESTED {
        data.extend(stored.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    match (requested_steps(&stored), requested_script(command.script.clone(), &stored)) {
        (Some(steps), _) => data.insert("steps".into(), steps),
        (None, Some(script)) => data.insert("script".into(), script.into()),
        (None, None) => None,
    };
    data.into()
}

/// The script of stored work, with the version that ran; `None` for other work.
pub(super) fn requested_script(script: Option<String>, data: &Value) -> Option<String> {
    let is_one = |script: &String| !script.is_empty() && parts_of(script).is_none();
    script.filter(is_one).map(|script| script_of(script, data))
}

/// The steps of stored data as a request has them, with the versions that ran. Work with secrets is not
/// requested again, so no step has any.
pub(super) fn requested_steps(data: &Value) -> Option<Value> {
    let steps = data.get("steps")?.as_array()?;
    let steps = steps.iter().map(|stored| {
        let mut step = Map::new();
        for name in REQUESTED_OF_STEP {
            step.extend(stored.get(name).map(|value| (name.to_owned(), value.clone())));
        }
        if let Some(script) = stored.get("script").and_then(Value::as_str) {
            step.insert("script".into(), script_of(script.to_owned(), stored).into());
        }
        Value::Object(step)
    });
    Some(steps.collect())
}

/// The script of stored data; of the library and of packages the version that ran.
fn script_of(script: String, data: &Value) -> String {
    let package = data.pointer("/package/version").and_then(Value::as_str);
    match (data.pointer("/library/version").and_then(Value::as_u64), package) {
        (Some(version), _) => format!("{script}@{version}"),
        (None, Some(version)) => format!("{script}@{version}"),
        (None, None) => script,
    }
}
