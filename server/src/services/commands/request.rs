//! What callers ask for, checked before anything is stored or sent.

use muster_protocol::CommandName;
use muster_protocol::argv;
use muster_protocol::limits::{
    DEFAULT_EXPIRES_IN_MS, DEFAULT_TIMEOUT_MS, MAX_COMMAND_DATA_BYTES, MAX_EXPIRES_IN_MS,
    MAX_TIMEOUT_MS,
};
use muster_protocol::manifest::is_script_name;
use muster_protocol::manifest_mismatch::ManifestMismatch;
use muster_protocol::parameter::{self, Parameters};
use muster_protocol::secret_parameters::SecretParameters;
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::preflight::{Asked, OnMismatch, Work};
use super::secret_parameters::digest;
use crate::domain::access::principal::Scope;
use crate::domain::ids::AgentId;
use crate::domain::name::{MAX_NAME_CHARS, clean};
use crate::domain::secret_box::SecretBox;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// How long an answer to a transient command is waited for, unless asked otherwise.
pub const DEFAULT_WAIT_MS: u64 = 10_000;
/// The longest that a request may wait.
pub const MAX_WAIT_MS: u64 = 60_000;
/// Of an ad-hoc command in an audit entry.
const MAX_AUDITED_WORDS: usize = 64;
const MAX_AUDITED_CHARS: usize = 2_000;
/// Longest idempotency key, in characters.
const MAX_IDEMPOTENCY_KEY_CHARS: usize = 255;

/// A command as it was asked for. It may hold secrets, and is not to be printed.
pub struct CommandRequest {
    pub command: String,
    pub data: Option<Value>,
    pub wait_ms: Option<u64>,
    pub expires_in_ms: Option<u64>,
    pub idempotency_key: Option<String>,
    /// Of an `execute`.
    pub on_mismatch: OnMismatch,
}

/// A command that makes sense.
pub(in crate::services) struct Checked {
    /// Without secrets.
    pub data: Value,
    pub secret_parameters: SecretParameters,
    /// `data` as JSON. Maps are sorted: the order in which a caller writes fields does not matter.
    pub data_text: String,
    pub wait_ms: u64,
    pub expires_in_ms: u64,
    pub timeout_ms: u64,
    pub idempotency_key: Option<String>,
    /// Of an `execute`: what is to be run.
    pub work: Option<Work>,
    pub on_mismatch: OnMismatch,
}

/// `data` of an `execute`: a script or a command, exactly one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Execute {
    script: Option<String>,
    argv: Option<Vec<String>>,
    #[serde(default)]
    parameters: Parameters,
    timeout_ms: Option<u64>,
}

impl CommandRequest {
    /// The command that is meant.
    pub(super) fn name(&self) -> Result<CommandName> {
        self.command.parse().map_err(|error| ServiceError::Invalid {
            code: "unknown_command",
            detail: format!("`{}`: {error}", clean(&self.command, MAX_NAME_CHARS)),
        })
    }

    pub(in crate::services) fn check(self, name: CommandName) -> Result<Checked> {
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
        let (timeout_ms, work, secret_parameters) = match name {
            CommandName::Execute => {
                let (timeout_ms, work, secrets) = check_execute(&mut data)?;
                (timeout_ms, Some(work), secrets)
            }
            _ => (DEFAULT_TIMEOUT_MS, None, SecretParameters::default()),
        };
        // Written out again only where something was taken out of it.
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
        Ok(Checked {
            data,
            secret_parameters,
            data_text,
            wait_ms,
            expires_in_ms,
            timeout_ms,
            idempotency_key: self.idempotency_key,
            work,
            on_mismatch: self.on_mismatch,
        })
    }
}

impl Checked {
    /// Says something more exact than was asked.
    pub(super) fn set_data(&mut self, data: Value) {
        self.data_text = data.to_string();
        self.data = data;
    }

    /// The same for the same request, and for no other.
    pub(super) fn hash(
        &self,
        agent_id: AgentId,
        name: CommandName,
        secret_box: &SecretBox,
    ) -> [u8; 32] {
        request_hash(&[
            agent_id.0.as_bytes().as_slice(),
            name.as_str().as_bytes(),
            &self.expires_in_ms.to_be_bytes(),
            self.data_text.as_bytes(),
            digest(secret_box, &self.secret_parameters).as_ref().map_or(&[], |digest| &digest[..]),
        ])
    }

    /// The script of an `execute`.
    pub(in crate::services) fn script(&self) -> Option<&str> {
        match &self.work {
            Some(Work::Script { name, .. }) => Some(name),
            _ => None,
        }
    }

    /// What an audit entry says is run: the script, or the words of an ad-hoc command, cut where they
    /// are many. Parameters may be secret and stay out of it.
    pub(in crate::services) fn audited(&self) -> (&'static str, Value) {
        let Some(Value::Array(words)) = self.data.get("argv") else {
            return ("script", self.script().into());
        };
        let mut left = MAX_AUDITED_CHARS;
        let words = words.iter().filter_map(Value::as_str).map_while(|word| {
            let shown: String = word.chars().take(left).collect();
            left -= shown.chars().count();
            (!shown.is_empty() || word.is_empty()).then_some(shown)
        });
        ("argv", words.take(MAX_AUDITED_WORDS).collect())
    }

    /// What hosts judge of it, if it is an `execute`.
    pub(in crate::services) fn asked(&self) -> Option<Asked<'_>> {
        let work = self.work.as_ref()?;
        Some(Asked { work, secrets: &self.secret_parameters })
    }

    /// # Errors
    /// 403 for an ad-hoc command of a caller that may run scripts only.
    pub(in crate::services) fn check_scope(&self, caller: &Caller) -> Result<()> {
        match self.work {
            Some(Work::Argv) => caller.require(Scope::CommandsShell),
            _ => Ok(()),
        }
    }
}

/// A hash of everything that makes a request what it is.
pub(in crate::services) fn request_hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Checks the data of an `execute` and takes its secrets out; its run time, what it is, and them.
fn check_execute(data: &mut Value) -> Result<(u64, Work, SecretParameters)> {
    let mismatch = |error: serde_json::Error| ServiceError::Invalid {
        code: "invalid_field",
        detail: format!("`data` of `execute`: {error}"),
    };
    let secrets = data.as_object_mut().and_then(|data| data.remove("secret_parameters"));
    let secrets = secrets.map(SecretParameters::deserialize).transpose().map_err(mismatch)?;
    let secrets = secrets.unwrap_or_default();
    let execute = Execute::deserialize(&*data).map_err(mismatch)?;
    let mismatch = |mismatch: ManifestMismatch| ServiceError::Invalid {
        code: mismatch.code(),
        detail: mismatch.to_string(),
    };
    match (&execute.script, &execute.argv) {
        (Some(script), None) if !is_script_name(script) => {
            return Err(ServiceError::invalid_field(
                "data.script",
                "must be 1 to 128 of letters, digits, `.`, `_`, `-`",
            ));
        }
        (Some(_), None) => {}
        (None, Some(argv)) => argv::check(argv).map_err(|error| mismatch(error.into()))?,
        (None, None) => {
            let problem = "is missing: say which script, or give a command as `argv`";
            return Err(ServiceError::invalid_field("script", problem));
        }
        (Some(_), Some(_)) => {
            let problem = "and `argv` exclude each other: send one of them";
            return Err(ServiceError::conflicting("script", "argv", problem));
        }
    }
    parameter::check(&execute.parameters, &secrets).map_err(|error| mismatch(error.into()))?;
    let timeout_ms = execute.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        let bounds = 1..=MAX_TIMEOUT_MS;
        return Err(ServiceError::out_of_range("data.timeout_ms", timeout_ms, bounds));
    }
    let work = match execute.script {
        Some(name) => Work::Script { name, parameters: execute.parameters },
        None => Work::Argv,
    };
    Ok((timeout_ms, work, secrets))
}

fn is_idempotency_key(key: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}
