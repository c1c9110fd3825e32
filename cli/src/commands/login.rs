//! `muster login`: checks a key and keeps it.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::api::Api;
use crate::cli::key_from;
use crate::context::{self, Context, Overrides, check_server};
use crate::error::CliError;
use crate::output::Output;

/// No key is as long as this; more is a mistake.
const MAX_KEY_BYTES: u64 = 4096;

/// Where the key comes from. Without an option: MUSTER_API_KEY, else standard input, asked for
/// without echo on a terminal.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file that holds the key and nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,

    /// The key itself. Prefer --key-file or standard input: every user of this host can read the
    /// arguments of a process, and shells remember them.
    #[arg(long, value_name = "KEY")]
    key: Option<SecretString>,
}

/// Verifies with one request that changes nothing, then stores.
///
/// # Errors
/// [`CliError`]; nothing is stored then.
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage("no server: say `muster login --server https://muster.example`".into())
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let path = context::default_path().ok_or_else(|| {
        CliError::Usage("no home directory to keep the key in: set XDG_CONFIG_HOME".into())
    })?;
    let api_key = match key_from(args.key, args.key_file)?.or(overrides.api_key) {
        Some(key) => key,
        None => ask()?,
    };
    if api_key.expose_secret().is_empty() {
        return Err(CliError::Usage("the key is empty".into()));
    }
    // Later commands may be typed in another folder.
    let ca_file = overrides.ca_file.map(|path| {
        std::path::absolute(&path).map_err(|source| CliError::File { action: "find", path, source })
    });
    let ca_file = ca_file.transpose()?;
    let context = Context { server, api_key, insecure: overrides.insecure, ca_file };
    let api = Api::new(&context)?;
    api.json(api.request(Method::GET, &["agents"]).query(&[("limit", "1")])).await?;
    context::store(&path, &context)?;

    let kept = json!({ "server_url": context.server.as_str(), "path": path });
    output.answer(&kept, |_| {
        format!("logged in to {}; the key is kept in {}", context.server, path.display())
    })?;
    Ok(0)
}

fn ask() -> Result<SecretString, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(rpassword::prompt_password("API key: ")?.trim().into());
    }
    let mut text = String::new();
    stdin.lock().take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    Ok(text.trim().into())
}
