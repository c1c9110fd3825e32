//! `muster accept-invitation`: becomes a member with the token of an invitation.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::login::read_new_password;
use crate::api::client::ApiClient;
use crate::context::{Context, Overrides, check_server};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::output::text::sanitize;

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
    let api = client_with_token(&args.token_file, overrides)?;
    let mut body = json!({ "password": read_new_password()? });
    if let Some(name) = args.name {
        body["name"] = name.into();
    }
    let request = api.request(Method::POST, &["invitations", "accept"]).json(&body);
    show_next_step(&api.json(request).await?, &api, output)
}

/// A client that sends the token of a file.
///
/// # Errors
/// [`CliError`].
pub fn client_with_token(file: &Path, overrides: Overrides) -> Result<ApiClient, CliError> {
    let server = overrides.server.ok_or_else(|| {
        CliError::Usage("no server is set; pass --server https://muster.example".into())
    })?;
    let server = check_server(&server, overrides.insecure)?;
    let token = std::fs::read_to_string(file).map_err(CliError::file("read", file))?;
    let (insecure, ca_file) = (overrides.insecure, overrides.ca_file);
    let api_key = token.trim().into();
    ApiClient::new(&Context { server, api_key, renewal: None, insecure, ca_file })
}

/// Shows a new membership, and how the person signs in.
///
/// # Errors
/// [`CliError`] if standard output fails.
pub fn show_next_step(member: &Value, api: &ApiClient, output: Output) -> Result<u8, CliError> {
    output.answer(member, |member| {
        let text = |field: &str| member.get(field).and_then(Value::as_str).unwrap_or_default();
        sanitize(&format!(
            "You are {} of \"{}\"; next: muster login --server {} --email {}",
            text("role"),
            text("tenant_name"),
            api.server(),
            text("email"),
        ))
    })?;
    Ok(0)
}
