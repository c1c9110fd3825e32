//! Requests for commands, and their validation before they are stored or sent.

mod execute;

use std::sync::Arc;

use muster_protocol::CommandName;
use muster_protocol::library::ScriptContent;
use muster_protocol::limits::{
    DEFAULT_EXPIRES_IN_MS, DEFAULT_TIMEOUT_MS, MAX_COMMAND_DATA_BYTES, MAX_EXPIRES_IN_MS,
};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::execute::validate_execute;
use super::idempotency::{is_idempotency_key, request_hash};
use super::preflight::{Executable, OnMismatch, PreflightRequest};
use super::secret_parameters::digest;
use crate::domain::access::principal::Scope;
use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::Target;
use crate::domain::ids::{AgentId, CommandId};
use crate::domain::name::{MAX_NAME_CHARS, clean};
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::domain::secret_box::SecretBox;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Default wait for the reply to a transient command.
pub const DEFAULT_WAIT_MS: u64 = 10_000;
/// Longest wait of a request.
pub const MAX_WAIT_MS: u64 = 60_000;
/// Most words of an ad-hoc command in an audit entry, and most characters.
const MAX_AUDITED_WORDS: usize = 64;
const MAX_AUDITED_CHARS: usize = 2_000;
/// Longest reason for overriding a calendar, in characters.
pub const MAX_OVERRIDE_CHARS: usize = 200;
/// Most bytes of standard input that a job stores, for all its executions together.
pub const MAX_STDIN_BYTES_OF_JOB: usize = 64 * 1024 * 1024;

/// A request for a command. It may hold secrets, so it has no `Debug`.
pub struct CommandRequest {
    pub command: String,
    pub data: Option<Value>,
    pub wait_ms: Option<u64>,
    pub expires_in_ms: Option<u64>,
    pub idempotency_key: Option<String>,
    /// For an `execute`.
    pub on_mismatch: OnMismatch,
    /// The number of agents that the caller expects.
    pub confirmation: Option<Confirmation>,
    /// Why it starts although a calendar holds it back.
    pub calendar_override: Option<String>,
    /// The command that it runs again.
    pub retry_of: Option<RetriedCommand>,
}

/// The command that a new one runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetriedCommand {
    pub id: CommandId,
    /// The lock of its job. It applies to each execution of the work.
    pub lock: Option<String>,
}

/// A validated command.
pub(in crate::services) struct ValidatedCommand {
    /// Without secret parameters.
    pub data: Value,
    pub secret_parameters: SecretParameters,
    /// `data` as JSON with sorted fields, so that the order in a request does not matter.
    pub data_text: String,
    pub wait_ms: u64,
    pub expires_in_ms: u64,
    pub timeout_ms: u64,
    pub idempotency_key: Option<String>,
    /// For an `execute`.
    pub executable: Option<Executable>,
    /// What a script of the library runs, once its version is pinned; of steps, each once.
    pub contents: Vec<Arc<ScriptContent>>,
    /// The call of a schedule that it is.
    pub call: Option<PinnedCall>,
    pub on_mismatch: OnMismatch,
    pub confirmation: Option<Confirmation>,
    pub calendar_override: Option<String>,
    /// Bytes of standard input; `None` if the program gets none.
    pub stdin_bytes: Option<usize>,
    /// The command that it runs again.
    pub retry_of: Option<RetriedCommand>,
}

impl CommandRequest {
    /// # Errors
    /// 422 `unknown_command`.
    pub(super) fn name(&self) -> Result<CommandName> {
        self.command.parse().map_err(|error| ServiceError::Invalid {
            code: "unknown_command",
            detail: format!("`{}`: {error}", clean(&self.command, MAX_NAME_CHARS)),
        })
    }

    /// The command, if the caller has the scope for it: `agents:manage` for the life cycle of
    /// agents, `commands:run` for everything else.
    ///
    /// # Errors
    /// 403 without the scope, 422 `unknown_command`.
    pub(super) fn authorized_name(&self, caller: &Caller) -> Result<CommandName> {
        let name = self.name();
        caller.require(name.as_ref().map_or(Scope::CommandsRun, |name| scope_of(*name)))?;
        name
    }

    pub(in crate::services) fn validate(self, name: CommandName) -> Result<ValidatedCommand> {
        let mut data = match self.data {
            None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
            Some(data @ Value::Object(_)) => data,
            Some(_) => return Err(ServiceError::invalid_field("data", "must be an object")),
        };
        let mut text = Zeroizing::new(data.to_string());
        if text.len() > MAX_COMMAND_DATA_BYTES {
            return Err(ServiceError::invalid_field("data", "must be at most 512 KiB"));
        }
        let may_hold_secrets = data.get("secret_parameters").is_some();
        let (timeout_ms, executable, secret_parameters, stdin_bytes) = match name {
            CommandName::Execute => {
                let (timeout_ms, executable, secrets, stdin) = validate_execute(&mut data)?;
                (timeout_ms, Some(executable), secrets, stdin)
            }
            _ => (DEFAULT_TIMEOUT_MS, None, SecretParameters::default(), None),
        };
        // Serialized again only if the secrets were taken out.
        let data_text =
            if may_hold_secrets { data.to_string() } else { std::mem::take(&mut *text) };
        let wait_ms = self.wait_ms.unwrap_or(DEFAULT_WAIT_MS);
        if wait_ms > MAX_WAIT_MS {
            return Err(ServiceError::out_of_range("wait_ms", wait_ms, 0..=MAX_WAIT_MS));
        }
        let expires_in_ms = self.expires_in_ms.unwrap_or(DEFAULT_EXPIRES_IN_MS);
        if !(1..=MAX_EXPIRES_IN_MS).contains(&expires_in_ms) {
            let bounds = 1..=MAX_EXPIRES_IN_MS;
            return Err(ServiceError::out_of_range("expires_in_ms", expires_in_ms, bounds));
        }
        if self.idempotency_key.as_ref().is_some_and(|key| !is_idempotency_key(key)) {
            return Err(ServiceError::invalid_field(
                "Idempotency-Key",
                "must be 1 to 255 printable ASCII characters",
            ));
        }
        let is_reason = |reason: &str| {
            (1..=MAX_OVERRIDE_CHARS).contains(&reason.trim().chars().count())
                && !reason.chars().any(char::is_control)
        };
        if self.calendar_override.as_deref().is_some_and(|reason| !is_reason(reason)) {
            return Err(ServiceError::invalid_field(
                "calendar_override",
                "must be a reason of 1 to 200 characters, without control characters",
            ));
        }
        Ok(ValidatedCommand {
            data,
            secret_parameters,
            data_text,
            wait_ms,
            expires_in_ms,
            timeout_ms,
            idempotency_key: self.idempotency_key,
            executable,
            contents: Vec::new(),
            call: None,
            on_mismatch: self.on_mismatch,
            confirmation: self.confirmation,
            calendar_override: self.calendar_override,
            stdin_bytes,
            retry_of: self.retry_of,
        })
    }
}

impl ValidatedCommand {
    /// Replaces the data.
    pub(super) fn set_data(&mut self, data: Value) {
        self.data_text = data.to_string();
        self.data = data;
    }

    /// A hash that identifies the request.
    pub(super) fn hash(
        &self,
        agent_id: AgentId,
        name: CommandName,
        secret_box: &SecretBox,
    ) -> [u8; 32] {
        let (expires_in_ms, secrets) =
            (self.expires_in_ms.to_be_bytes(), digest(secret_box, &self.secret_parameters));
        let mut parts: Vec<&[u8]> = vec![
            agent_id.0.as_bytes().as_slice(),
            name.as_str().as_bytes(),
            &expires_in_ms,
            self.data_text.as_bytes(),
            secrets.as_ref().map_or(&[], |digest| &digest[..]),
        ];
        parts.extend(self.retry_of.iter().map(|retried| retried.id.0.as_bytes().as_slice()));
        request_hash(&parts)
    }

    /// The script of an `execute`, or the title of its steps.
    pub(in crate::services) fn script(&self) -> Option<&str> {
        self.executable.as_ref().and_then(Executable::ruled_name)
    }

    /// What it runs, each with its secrets: one, or the steps.
    pub(in crate::services) fn runs(
        &self,
    ) -> impl Iterator<Item = (&Executable, &SecretParameters)> {
        let steps = match &self.executable {
            Some(Executable::Steps { steps, .. }) => steps.as_slice(),
            _ => &[],
        };
        let alone = self.executable.as_ref().filter(|_| steps.is_empty());
        let alone = alone.map(|executable| (executable, &self.secret_parameters));
        alone.into_iter().chain(steps.iter().map(|step| (&step.executable, &step.secrets)))
    }

    /// The kind of a durable command, for limits.
    pub(in crate::services) fn kind(&self) -> WorkKind<'_> {
        match &self.executable {
            Some(
                Executable::Script { name, .. }
                | Executable::NamedScript(name)
                | Executable::Library { name, .. }
                | Executable::Package { name, .. }
                | Executable::File { name, .. },
            ) => WorkKind::Script(name),
            Some(Executable::Steps { title, .. }) => WorkKind::Steps(title),
            Some(Executable::Argv) => WorkKind::AdHoc,
            None => WorkKind::LifeCycle,
        }
    }

    /// What an audit entry records: the script, or the words of an ad-hoc command, truncated; of steps,
    /// each. It never has parameters, which may be secret.
    pub(in crate::services) fn audit_detail(&self) -> (&'static str, Value) {
        let mut left = MAX_AUDITED_CHARS;
        if let Some(Value::Array(words)) = self.data.get("argv") {
            return ("argv", audited_words(words, &mut left));
        }
        if let Some(Executable::File { name, .. }) = &self.executable {
            return ("file", json!({"operation": name, "file": self.data.get("file")}));
        }
        let Some(Value::Array(steps)) = self.data.get("steps") else {
            return ("script", self.script().into());
        };
        let steps = steps.iter().map(|step| match step.get("argv") {
            Some(Value::Array(words)) => json!({"argv": audited_words(words, &mut left)}),
            _ => json!({"script": step.get("script")}),
        });
        ("steps", steps.collect())
    }

    /// The part that hosts decide on, for an `execute`.
    pub(in crate::services) fn preflight_request(&self) -> Option<PreflightRequest<'_>> {
        let executable = self.executable.as_ref()?;
        let has_stdin = self.stdin_bytes.is_some();
        Some(PreflightRequest { executable, secrets: &self.secret_parameters, has_stdin })
    }

    /// # Errors
    /// 403 for an ad-hoc command or a transfer of a file if the caller lacks the scope for it.
    pub(in crate::services) fn check_scope(&self, caller: &Caller) -> Result<()> {
        match self.executable {
            Some(_) => self.kind().scopes().iter().try_for_each(|scope| caller.require(*scope)),
            None => Ok(()),
        }
    }

    /// Secrets go only where people said: by ids or tags, and not by what hosts report.
    ///
    /// # Errors
    /// 422 `secrets_need_ids_or_tags`.
    pub(in crate::services) fn check_secret_target(&self, target: &Target) -> Result<()> {
        if self.secret_parameters.is_empty() || !target.needs_facts() {
            return Ok(());
        }
        Err(ServiceError::Invalid {
            code: "secrets_need_ids_or_tags",
            detail:
                "secrets can't go to a target resolved by facts that hosts report; use tags or \
                     agent ids"
                    .into(),
        })
    }
}

impl ValidatedCommand {
    /// Standard input is stored with each execution, so many agents get less of it.
    ///
    /// # Errors
    /// 422 for `stdin`.
    pub(super) fn check_stdin_of_all(&self, agent_count: usize) -> Result<()> {
        match self.stdin_bytes.unwrap_or(0).saturating_mul(agent_count) > MAX_STDIN_BYTES_OF_JOB {
            true => Err(ServiceError::invalid_field(
                "stdin",
                "must be at most 64 MiB for all agents together",
            )),
            false => Ok(()),
        }
    }
}

/// The words of an ad-hoc command as far as there is room for them.
fn audited_words(words: &[Value], left: &mut usize) -> Value {
    let words = words.iter().filter_map(Value::as_str).map_while(|word| {
        let shown: String = word.chars().take(*left).collect();
        *left -= shown.chars().count();
        (!shown.is_empty() || word.is_empty()).then_some(shown)
    });
    words.take(MAX_AUDITED_WORDS).collect()
}

/// The scope that a command needs.
pub(super) const fn scope_of(name: CommandName) -> Scope {
    match name {
        CommandName::Restart
        | CommandName::Update
        | CommandName::Redeploy
        | CommandName::Shutdown => Scope::AgentsManage,
        CommandName::Ping
        | CommandName::Info
        | CommandName::Echo
        | CommandName::Scripts
        | CommandName::Execute => Scope::CommandsRun,
    }
}
