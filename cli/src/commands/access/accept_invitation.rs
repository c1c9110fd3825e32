//! `muster accept-invitation`: becomes a member with the token of an invitation.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};

use super::login::read_secret;
use crate::api::client::ApiClient;
use crate::context::{Context, Overrides, check_server};
use crate::error::CliError;
use crate::output::printer::Output;

/// Become a member with the token of an invitation
///
/// The password comes from a prompt or standard input: the one of your account, or for a new account.
/// Then sign in with `muster login --email`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that holds only the token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,

    /// Name of a new account [default: the part of the address before the @]
    #[arg(long)]
    name: Option<String>,
}

/// Sends the token and the password.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage("no server is set; pass --server https://muster.example".into())
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let file = &args.token_file;
    let token = std::fs::read_to_string(file).map_err(CliError::file("read", file))?;
    let (insecure, ca_file) = (overrides.insecure, overrides.ca_file);
    let context =
        Context { server, api_key: token.trim().into(), renewal: None, insecure, ca_file };
    let api = ApiClient::new(&context)?;
    let mut body = json!({ "password": read_secret("Password: ")? });
    if let Some(name) = args.name {
        body["name"] = name.into();
    }
    let request = api.request(Method::POST, &["invitations", "accept"]).json(&body);
    let member: Value = api.json(request).await?;
    output.details(&member)?;
    Ok(0)
}
