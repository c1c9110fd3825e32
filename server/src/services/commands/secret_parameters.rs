//! Secret parameters between a request and a frame: sealed where they are stored, in the clear only
//! where they are sent. Whoever stores an `execute` calls [`seal`], whoever sends one [`Outgoing`].

use muster_protocol::frame::Command;
use muster_protocol::secret_parameters::SecretParameters;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::ids::TenantId;
use crate::domain::secret_box::{SecretBox, Unsealable};
use crate::domain::time::Timestamp;
use crate::store::entities::commands::command;

/// What is sealed belongs here and nowhere else.
const FIELD: &str = "commands.sealed_parameters";

/// The value of `commands.sealed_parameters`; `None` without secrets. What was sealed once may stand
/// beside any number of commands of the tenant.
///
/// # Errors
/// [`Unsealable`] if there is no randomness.
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

/// What tells one set of secrets from another, to nobody without the master key.
pub fn digest(secret_box: &SecretBox, secrets: &SecretParameters) -> Option<[u8; 32]> {
    (!secrets.is_empty()).then(|| secret_box.digest(&plain(secrets)))
}

fn plain(secrets: &SecretParameters) -> Zeroizing<Vec<u8>> {
    // Texts by name always make JSON.
    Zeroizing::new(serde_json::to_vec(secrets).unwrap_or_default())
}

/// A command with its secrets, on its way to its agent.
pub struct Outgoing {
    pub row: command::Model,
    secrets: SecretParameters,
}

impl Outgoing {
    /// A command whose secrets are at hand.
    pub fn new(row: command::Model, secrets: SecretParameters) -> Self {
        Self { row, secrets }
    }

    /// A stored command, opened.
    ///
    /// # Errors
    /// The row as it was, if its secrets were sealed with another key, or are damaged.
    pub fn open(secret_box: &SecretBox, row: command::Model) -> Result<Self, Box<command::Model>> {
        let Some(sealed) = &row.sealed_parameters else {
            return Ok(Self::new(row, SecretParameters::default()));
        };
        let opened = secret_box.open(row.tenant_id, FIELD, sealed);
        match opened.ok().and_then(|opened| serde_json::from_slice(&opened).ok()) {
            Some(secrets) => Ok(Self::new(row, secrets)),
            None => Err(Box::new(row)),
        }
    }

    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The frame of a stored command.
    pub fn into_frame(self, now: Timestamp) -> Command {
        // What is stored was JSON when it was written.
        let mut data = serde_json::from_str(&self.row.data).unwrap_or(Value::Null);
        if self.has_secrets() {
            data["secret_parameters"] = serde_json::to_value(&self.secrets).unwrap_or_default();
        }
        Command {
            command_id: self.row.id.0,
            command: self.row.command,
            data,
            timestamp: now.to_string(),
            start_within_ms: Some(self.row.expires_at.ms_since(now)),
        }
    }
}
