//! Signs a request for approval with the approver's own key, so that hosts need not trust the server.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use muster_protocol::capsule::{
    ApprovedCommand, CAPSULE_VERSION, Capsule, MAX_CAPSULE_LIFETIME_MS, data_sha256,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::commands::commands::approver;
use crate::error::CliError;
use crate::input::quantities::milliseconds;
use crate::output::printer::print_note;

/// How long a signature is valid unless the command line says otherwise: 24 h.
const DEFAULT_VALID_MS: u64 = 24 * 3_600_000;

#[derive(Debug, clap::Args)]
pub struct SignOptions {
    /// Sign it with this private key, from `muster approver keygen`; needed for hosts that pin approvers
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Your own copy of the script, whose hash is signed [default: the hash that each host reports]
    #[arg(long, value_name = "FILE", requires = "sign")]
    script_file: Option<PathBuf>,
    /// Time that the signature is valid, at most 31d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "sign")]
    valid: Option<u64>,
}

impl SignOptions {
    /// The file of the key, if it is to be signed.
    pub fn key(&self) -> Option<&Path> {
        self.sign.as_deref()
    }

    /// Signs each command of a request. `request`: the request as the server shows it. The hosts compare
    /// all of it with what they get, so the server can't show one thing and send another.
    ///
    /// # Errors
    /// [`CliError`] names the file, or what the request lacks.
    pub fn capsules(&self, key: &Path, request: &Value) -> Result<Value, CliError> {
        let pair = approver::read(key)?;
        let valid_ms = self.valid.unwrap_or(DEFAULT_VALID_MS);
        if valid_ms > MAX_CAPSULE_LIFETIME_MS {
            return Err(CliError::Usage("--valid must be at most 31d".into()));
        }
        let unreadable = |what: &str| CliError::Answer(format!("the request has no {what}"));
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).map(str::to_owned)
        };
        let own_file = match &self.script_file {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(CliError::file("read", path))?;
                Some(HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()))
            }
            None => None,
        };
        let is_script = request.get("script").is_some_and(Value::is_string);
        let command = text(request, "command").ok_or_else(|| unreadable("command"))?;
        let data = request.get("data").ok_or_else(|| unreadable("data"))?;
        let commands = request.get("commands").and_then(Value::as_array);
        let commands = commands.ok_or_else(|| unreadable("commands"))?;
        print_note(&format!("signing {command} {data} for {} agents", commands.len()));
        let id = |value: &Value, field: &str| {
            let id = text(value, field).and_then(|id| Uuid::parse_str(&id).ok());
            id.ok_or_else(|| unreadable(field))
        };
        let mut capsules = Vec::with_capacity(commands.len());
        for work in commands {
            let reported = || text(work, "program_sha256").map(|hash| hash.to_ascii_lowercase());
            let program_sha256 = match is_script {
                true => Some(own_file.clone().or_else(reported).ok_or_else(|| {
                    CliError::Usage(
                        "a host requires no hash of this script; sign that of your own copy with --script-file".into(),
                    )
                })?),
                false => None,
            };
            let approved = ApprovedCommand {
                version: CAPSULE_VERSION,
                approver: pair.public_key(),
                command_id: id(work, "command_id")?,
                agent_id: id(work, "agent_id")?,
                command: command.clone(),
                data_sha256: data_sha256(data),
                program_sha256,
                expires_at_ms: unix_ms().saturating_add(valid_ms),
            };
            capsules.push(Capsule::sign(&approved, &pair));
        }
        Ok(json!(capsules))
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
