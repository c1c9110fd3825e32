//! Secret parameters between request and frame: sealed in storage, in the clear only in the frame.
//!
//! [`seal`] is called before an `execute` is stored, [`OutgoingCommand`] builds the frame.

use std::sync::Arc;

use muster_protocol::frame::Command;
use muster_protocol::library::{ScriptContent, TriggerCall};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::ids::TenantId;
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::domain::time::Timestamp;
use crate::store::entities::commands::command;

/// A sealed value is bound to this field and cannot be opened as another one.
pub const FIELD: &str = "commands.sealed_parameters";

/// The value of `commands.sealed_parameters`; `None` without secrets. Several commands of the tenant
/// may share one sealed value.
///
/// # Errors
/// [`Unsealable`] if the system has no random numbers.
pub fn seal(
    secret_box: &SecretBox,
    tenant_id: TenantId,
    secrets: &SecretParameters,
) -> Result<Option<Vec<u8>>, Unsealable> {
    if secrets.is_empty() {
        return Ok(None);
    }
    secret_box.seal(tenant_id, FIELD, &plain(secrets)).map(Some)
}

/// A digest that differs between sets of secrets; without the master key it reveals nothing.
pub fn digest(secret_box: &SecretBox, secrets: &SecretParameters) -> Option<[u8; 32]> {
    (!secrets.is_empty()).then(|| secret_box.digest(&plain(secrets)))
}

fn plain(secrets: &SecretParameters) -> Zeroizing<Vec<u8>> {
    // A map of strings always serializes.
    Zeroizing::new(serde_json::to_vec(secrets).unwrap_or_default())
}

/// A command with its secrets in the clear, ready to be sent.
pub struct OutgoingCommand {
    pub row: command::Model,
    secrets: Arc<SecretParameters>,
    /// What scripts of the library run; without those that were deleted meanwhile.
    contents: Vec<Arc<ScriptContent>>,
    /// What a call of a schedule starts from.
    call: Option<TriggerCall>,
}

impl OutgoingCommand {
    /// A command whose secrets are known from its request.
    pub fn new(row: command::Model, secrets: Arc<SecretParameters>) -> Self {
        Self { row, secrets, contents: Vec::new(), call: None }
    }

    /// The same command as a call of a schedule.
    pub fn with_call(self, call: Option<TriggerCall>) -> Self {
        Self { call, ..self }
    }

    /// The same command with the scripts of the library that it runs.
    pub fn with_contents(self, contents: Vec<Arc<ScriptContent>>) -> Self {
        Self { contents, ..self }
    }

    /// A stored command, with its secrets opened.
    ///
    /// # Errors
    /// The unchanged row, if its secrets were sealed with another key or are damaged.
    pub fn open(secret_box: &SecretBox, row: command::Model) -> Result<Self, Box<command::Model>> {
        let Some(sealed) = &row.sealed_parameters else {
            return Ok(Self::new(row, Arc::default()));
        };
        let opened = secret_box.open(row.tenant_id, FIELD, sealed);
        match opened.ok().and_then(|opened| serde_json::from_slice(&opened).ok()) {
            Some(secrets) => Ok(Self::new(row, Arc::new(secrets))),
            None => Err(Box::new(row)),
        }
    }

    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// True if basic agents understand all of it.
    pub fn is_plain(&self) -> bool {
        !self.has_secrets() && !has_stdin(&self.row.data)
    }

    /// The frame that is sent at `now`.
    pub fn into_frame(self, now: Timestamp) -> Command {
        // The column holds JSON that was validated before the insert.
        let mut data = serde_json::from_str(&self.row.data).unwrap_or(Value::Null);
        if self.has_secrets() {
            data["secret_parameters"] = serde_json::to_value(&*self.secrets).unwrap_or_default();
        }
        let mut contents = self.contents.iter().map(|content| ScriptContent::clone(content));
        let (content, step_contents) = match data.get("steps") {
            Some(_) => (None, contents.collect()),
            None => (contents.next().map(Box::new), Vec::new()),
        };
        Command {
            command_id: self.row.id.0,
            command: self.row.command,
            data,
            timestamp: now.to_string(),
            start_within_ms: Some(self.row.expires_at.ms_since(now)),
            // Validated before it was stored.
            capsule: self.row.capsule.and_then(|text| serde_json::from_str(&text).ok()),
            content,
            step_contents,
            call: self.call.map(Box::new),
            request_id: self.row.request_id,
        }
    }
}

/// True if the data of a command (JSON) has standard input.
pub fn has_stdin(data: &str) -> bool {
    let read = || serde_json::from_str::<Value>(data);
    data.contains("\"stdin\"") && read().is_ok_and(|data| data.get("stdin").is_some())
}
