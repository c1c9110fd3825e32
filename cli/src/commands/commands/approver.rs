//! `muster approver`: the key with which an approver signs, on the approver's own machine.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::identity::AgentKeyPair;
use serde_json::json;

use crate::commands::releases::release::key_file;
use crate::error::CliError;
use crate::output::printer::Output;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key that signs approvals, and print its public half for the policies of hosts (offline)
    Keygen {
        /// New file for the private key
        file: PathBuf,
    },
    /// Print the public half of a key (offline)
    Show {
        /// File with the private key
        file: PathBuf,
    },
}

/// Runs one action. It needs no server.
///
/// # Errors
/// [`CliError`].
pub fn run(args: Args, output: Output) -> Result<u8, CliError> {
    let (file, is_new) = match args.action {
        Action::Keygen { file } => {
            generate(&file)?;
            (file, true)
        }
        Action::Show { file } => (file, false),
    };
    let public_key = read(&file)?.public_key();
    let answer = json!({
        "public_key": public_key.to_string(), "fingerprint": public_key.fingerprint().to_string(),
    });
    output.answer(&answer, |_| {
        let policy = json!({"needs_approval": {"approvers": [public_key.to_string()]}});
        let kept = match is_new {
            true => format!(
                "\nThe private key is in {}. Keep a backup, and never copy it to the server.",
                file.display()
            ),
            false => String::new(),
        };
        format!(
            "{public_key}\n{}{kept}\nHosts pin it in policy.json: {policy}",
            public_key.fingerprint()
        )
    })?;
    Ok(0)
}

fn generate(path: &Path) -> Result<(), CliError> {
    let bytes = AgentKeyPair::generate().map_err(|_| {
        CliError::Unsuccessful("the system's source of random numbers failed".into())
    })?;
    key_file::write_new(path, key_file::pem(&bytes).as_bytes(), 0o600)
}

/// Reads a key that `muster approver keygen` created.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if the file holds no such key.
pub fn read(path: &Path) -> Result<AgentKeyPair, CliError> {
    let bytes = key_file::read_pem(path)?;
    bytes.and_then(|bytes| AgentKeyPair::read(&bytes).ok()).ok_or_else(|| {
        CliError::Usage(format!(
            "{} holds no approver's key; create one with `muster approver keygen`",
            path.display()
        ))
    })
}
