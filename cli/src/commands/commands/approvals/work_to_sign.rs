//! What an approver signs: the work of a request and its hosts, as the server shows them.

use std::fmt::Write as _;

use muster_protocol::commands::capsule::data_sha256;
use muster_protocol::identity::{Fingerprint, SignedMessage};
use serde_json::Value;
use uuid::Uuid;

use crate::error::CliError;
use crate::output::text::{pluralize, sanitize};

/// The work of a request.
pub struct WorkToSign {
    /// `execute`, or a life-cycle command.
    pub command: String,
    pub is_script: bool,
    /// Of work with steps: whether each runs a script.
    pub are_script_steps: Vec<bool>,
    data: Value,
    pub data_sha256: String,
    pub hosts: Vec<HostToSign>,
}

/// One host with its command.
pub struct HostToSign {
    /// As people call it; not signed.
    pub name: String,
    pub command_id: Uuid,
    pub agent_id: Uuid,
    pub fingerprint: Fingerprint,
    /// The hash that its manifest requires of the script's file.
    pub program_sha256: Option<String>,
    /// As `program_sha256`, of each step that the server shows.
    pub step_programs_sha256: Vec<Option<String>>,
}

impl WorkToSign {
    /// Reads it from a request.
    ///
    /// # Errors
    /// [`CliError::Answer`] for what the request lacks, [`CliError::Usage`] for a host without a key pair.
    pub fn read(request: &Value) -> Result<Self, CliError> {
        let missing = |what: &str| CliError::Answer(format!("the request has no {what}"));
        let command = request.get("command").and_then(Value::as_str);
        let command = command.ok_or_else(|| missing("command"))?.to_owned();
        let data = request.get("data").ok_or_else(|| missing("data"))?.clone();
        let list = |field: &str| request.get(field).and_then(Value::as_array);
        let commands = list("commands").ok_or_else(|| missing("commands"))?;
        let names = list("agent_names").map(Vec::as_slice).unwrap_or_default();
        let hosts = commands.iter().enumerate().map(|(n, work)| {
            let text = |field: &str| work.get(field).and_then(Value::as_str);
            let id = |field: &str| {
                let id = text(field).and_then(|id| Uuid::parse_str(id).ok());
                id.ok_or_else(|| missing(field))
            };
            let agent_id = id("agent_id")?;
            let name = names.get(n).and_then(Value::as_str).map(sanitize);
            let name = name.unwrap_or_else(|| agent_id.to_string());
            let fingerprint = text("host_fingerprint").and_then(|text| text.parse().ok());
            let fingerprint = fingerprint.ok_or_else(|| {
                CliError::Usage(format!("{name} has no key pair that a signature could name"))
            })?;
            let program_sha256 = text("program_sha256").map(str::to_ascii_lowercase);
            let steps = work.get("step_programs_sha256").and_then(Value::as_array);
            let hash = |step: &Value| step.as_str().map(str::to_ascii_lowercase);
            Ok(HostToSign {
                name,
                command_id: id("command_id")?,
                agent_id,
                fingerprint,
                program_sha256,
                step_programs_sha256: steps.into_iter().flatten().map(hash).collect(),
            })
        });
        let steps = data.get("steps").and_then(Value::as_array).into_iter().flatten();
        let is_script = |step: &Value| step.get("script").is_some_and(Value::is_string);
        let are_script_steps: Vec<bool> = steps.map(is_script).collect();
        Ok(Self {
            hosts: hosts.collect::<Result<_, CliError>>()?,
            command,
            is_script: are_script_steps.is_empty()
                && request.get("script").is_some_and(Value::is_string),
            are_script_steps,
            data_sha256: data_sha256(&data),
            data,
        })
    }

    /// Hex SHA-256 of everything that a signature covers but for its end and the approver's own copy of the
    /// script.
    pub fn digest(&self) -> String {
        let message = SignedMessage::new("muster approval request 1")
            .field(self.command.as_bytes())
            .field(self.data_sha256.as_bytes())
            .field(&(self.hosts.len() as u64).to_be_bytes());
        let host = |message: SignedMessage, host: &HostToSign| {
            let program = host.program_sha256.as_deref().unwrap_or_default();
            let message = message
                .field(host.command_id.as_bytes())
                .field(host.agent_id.as_bytes())
                .field(host.fingerprint.to_string().as_bytes())
                .field(program.as_bytes())
                .field(&(host.step_programs_sha256.len() as u64).to_be_bytes());
            host.step_programs_sha256.iter().fold(message, |message, hash| {
                message.field(hash.as_deref().unwrap_or_default().as_bytes())
            })
        };
        self.hosts.iter().fold(message, host).sha256_hex()
    }

    /// All of it, for a person.
    pub fn described(&self) -> String {
        let count = pluralize(self.hosts.len() as u64, "host");
        let mut text = sanitize(&format!("{} {} on {count}:", self.command, self.data));
        for host in &self.hosts {
            let HostToSign { name, agent_id, fingerprint, .. } = host;
            // Writing to a string can't fail.
            let _ = write!(text, "\n  {name}  {agent_id}  {fingerprint}");
            if let Some(hash) = &host.program_sha256 {
                let _ = write!(text, "  file {}", sanitize(hash));
            }
            for (number, hash) in (1..).zip(&host.step_programs_sha256) {
                let Some(hash) = hash else { continue };
                let _ = write!(text, "\n    file of step {number} {}", sanitize(hash));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> Value {
        let fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        json!({
            "command": "execute", "script": "deploy", "data": {"script": "deploy"},
            "agent_names": ["web-1"],
            "commands": [{"command_id": Uuid::from_u128(1), "agent_id": Uuid::from_u128(2),
                "host_fingerprint": fingerprint, "program_sha256": "AB",
                "step_programs_sha256": ["EF", null]}],
        })
    }

    #[test]
    fn every_part_that_is_signed_changes_the_digest() {
        let digest = |request: &Value| WorkToSign::read(request).expect("a request").digest();
        let before = digest(&request());
        let other_host = json!("SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA");
        for (pointer, value) in [
            ("/command", json!("restart")),
            ("/data/script", json!("other")),
            ("/commands/0/command_id", json!(Uuid::from_u128(9))),
            ("/commands/0/agent_id", json!(Uuid::from_u128(9))),
            ("/commands/0/host_fingerprint", other_host),
            ("/commands/0/program_sha256", json!("cd")),
            ("/commands/0/step_programs_sha256/0", json!("ab")),
            ("/commands/0/step_programs_sha256", json!(["ef"])),
        ] {
            let mut changed = request();
            *changed.pointer_mut(pointer).expect("a field") = value;
            assert_ne!(digest(&changed), before, "{pointer}");
        }
        let mut more = request();
        let one = more["commands"][0].clone();
        more["commands"].as_array_mut().expect("a list").push(one);
        assert_ne!(digest(&more), before);
    }

    #[test]
    fn a_host_without_a_key_pair_can_not_be_signed_for() {
        let mut without = request();
        without["commands"][0]["host_fingerprint"] = Value::Null;
        let refused = WorkToSign::read(&without).err().expect("refused").to_string();
        assert!(refused.contains("web-1 has no key pair"), "{refused}");
    }
}
