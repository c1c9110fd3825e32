//! `muster login`: verifies an API key and stores it.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::api::client::ApiClient;
use crate::context::{self, Context, Overrides, check_server};
use crate::error::CliError;
use crate::output::printer::Output;

/// Most bytes that are read from standard input. Keys are much shorter.
const MAX_KEY_BYTES: u64 = 4096;

/// Verify an API key and store it for later commands
///
/// Without an option, the key comes from MUSTER_API_KEY, else from a prompt or standard input. It is
/// stored in ~/.config/muster/config.toml, readable by its owner only.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that holds only the key
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    key_file: Option<PathBuf>,

    /// The key itself; prefer --key-file or standard input, because every user of this host can read the
    /// arguments of a process and shells store them
    #[arg(long, value_name = "KEY")]
    key: Option<SecretString>,
}

/// Verifies the key with one request that changes nothing, then stores it.
///
/// # Errors
/// [`CliError`]; then nothing is stored.
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage(
            "no server is set; run `muster login --server https://muster.example`".into(),
        )
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let path = context::default_path().ok_or_else(|| {
        CliError::Usage("no home directory to store the key in; set XDG_CONFIG_HOME".into())
    })?;
    let given = match args.key_file {
        Some(path) => {
            let text = std::fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
            Some(text.trim().into())
        }
        None => args.key.or(overrides.api_key),
    };
    let api_key = match given {
        Some(key) => key,
        None => read_key()?,
    };
    if api_key.expose_secret().is_empty() {
        return Err(CliError::Usage("the API key is empty".into()));
    }
    // Later commands may run in another directory.
    let ca_file = overrides
        .ca_file
        .map(|path| std::path::absolute(&path).map_err(CliError::file("resolve", &path)));
    let ca_file = ca_file.transpose()?;
    let context = Context { server, api_key, insecure: overrides.insecure, ca_file };
    let api = ApiClient::new(&context)?;
    api.json(api.request(Method::GET, &["agents"]).query(&[("limit", "1")])).await?;
    context::store(&path, &context)?;

    let stored = json!({ "server_url": context.server.as_str(), "path": path });
    output.answer(&stored, |_| {
        format!("logged in to {}; the key is stored in {}", context.server, path.display())
    })?;
    Ok(0)
}

fn read_key() -> Result<SecretString, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(rpassword::prompt_password("API key: ")?.trim().into());
    }
    let mut text = String::new();
    stdin.lock().take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    Ok(text.trim().into())
}
