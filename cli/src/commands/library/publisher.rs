//! `muster publisher`: the key with which a publisher signs versions of scripts, on the publisher's own
//! machine.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::sha256_hex;
use serde_json::{Value, json};

use super::scripts::signing::{SignatureOptions, read_key, sign_version};
use crate::commands::releases::release::key_file;
use crate::error::CliError;
use crate::output::printer::Output;
use crate::session::{ResourceKind, Session};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key that signs scripts, and print its public half for the policies of hosts (offline)
    Keygen {
        /// New file for the private key
        file: PathBuf,
    },
    /// Print the public half of a key (offline)
    Show {
        /// File with the private key
        file: PathBuf,
    },
    /// Sign a version of a script, and store the signature on the server
    ///
    /// Compare it with your own copy: the server may show another text than you wrote.
    Sign {
        /// Script: an id, a name, or a unique prefix of one
        script: String,
        /// Sign this version [default: the latest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Your own copy of the text, which must be the same
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        signature: SignatureOptions,
    },
}

impl Args {
    /// True for what needs no server.
    pub fn is_offline(&self) -> bool {
        !matches!(self.action, Action::Sign { .. })
    }
}

/// Runs an action that needs no server.
///
/// # Errors
/// [`CliError`].
pub fn run_offline(args: Args, output: Output) -> Result<u8, CliError> {
    let (file, is_new) = match args.action {
        Action::Keygen { file } => {
            generate(&file)?;
            (file, true)
        }
        Action::Show { file } => (file, false),
        Action::Sign { .. } => return Ok(0),
    };
    let public_key = read_key(&file)?.public_key();
    let answer = json!({
        "public_key": public_key.to_string(), "fingerprint": public_key.fingerprint().to_string(),
    });
    output.answer(&answer, |_| {
        let policy = json!({"allow": "library", "publishers": [public_key.to_string()]});
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

/// Signs a version.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let Action::Sign { script, version, file, signature } = args.action else {
        return run_offline(args, session.output);
    };
    let id = session.id_of(ResourceKind::Script, &script).await?;
    let version = match version {
        Some(version) => u64::from(version),
        None => {
            let request = session.api.request(reqwest::Method::GET, &["scripts", &id]);
            let shown = session.api.json_with_retries(request).await?;
            let latest = shown.get("latest_version").and_then(Value::as_u64);
            latest.ok_or_else(|| CliError::Answer("the script has no latest version".into()))?
        }
    };
    let own = std::fs::read(&file).map_err(CliError::file("read", &file))?;
    let own = sha256_hex(&own);
    let signed = sign_version(session, &id, version, &signature, Some(&own)).await?;
    session.output.details(&signed)?;
    Ok(0)
}

fn generate(path: &Path) -> Result<(), CliError> {
    let bytes = AgentKeyPair::generate().map_err(|_| {
        CliError::Unsuccessful("the system's source of random numbers failed".into())
    })?;
    key_file::write_new(path, key_file::pem(&bytes).as_bytes(), 0o600)
}
