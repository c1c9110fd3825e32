//! `muster publisher`: the key with which a publisher signs versions of scripts and packages, on the publisher's own
//! machine.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use muster_protocol::identity::AgentKeyPair;
use serde_json::json;

use super::packages::signing;
use super::scripts::signing::{SignatureOptions, read_key, sign_folder};
use crate::commands::releases::release::key_file;
use crate::error::CliError;
use crate::output::printer::Output;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a key that signs scripts and packages, and print its public half for the policies of hosts (offline)
    Keygen {
        /// New file for the private key
        file: PathBuf,
    },
    /// Print the public half of a key (offline)
    Show {
        /// File with the private key
        file: PathBuf,
    },
    /// Sign the version of the server that is the script or the package of your own folder
    ///
    /// Everything that is signed comes from the folder, or from the archive of a package. If the server shows anything
    /// else, nothing is signed. For a script that was written elsewhere: `muster scripts pull`, read it, then sign it.
    Sign {
        /// Folder with a `script.toml` or a `muster.toml`, or the archive of a package
        folder: PathBuf,
        /// Sign this version of a script, whichever versions this key has signed [default: the latest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
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
    let Action::Sign { folder, version, signature } = args.action else {
        return run_offline(args, session.output);
    };
    let signed = match signing::is_package(&folder) {
        true if version.is_some() => {
            return Err(CliError::Usage(
                "--version is for scripts only; muster.toml has the version".into(),
            ));
        }
        true => signing::sign(session, &folder, &signature).await?,
        false => sign_folder(session, &folder, version, &signature).await?,
    };
    session.output.details(&signed)?;
    Ok(0)
}

fn generate(path: &Path) -> Result<(), CliError> {
    let bytes = AgentKeyPair::generate().map_err(|_| {
        CliError::Unsuccessful("the system's source of random numbers failed".into())
    })?;
    key_file::write_new(path, key_file::pem(&bytes).as_bytes(), 0o600)
}
