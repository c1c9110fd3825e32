//! `muster setup`: makes the first owner of a new server.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::json;

use super::accept_invitation::{client_with_token, show_next_step};
use super::login::read_new_password;
use crate::context::Overrides;
use crate::error::CliError;
use crate::output::printer::{Output, print_note};

/// Make the first owner of a new server
///
/// The token is the content of the file `setup_token` in the server's data directory. It works once, and
/// only while there is no owner. The password comes from a prompt or standard input.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File that holds only the token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,

    /// Address by which you sign in
    #[arg(long, value_name = "ADDRESS")]
    email: String,

    /// Your name [default: the part of the address before the @]
    #[arg(long)]
    name: Option<String>,
}

/// Sends the token, the address and the password.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, overrides: Overrides, output: Output) -> Result<u8, CliError> {
    let api = client_with_token(&args.token_file, overrides)?;
    let mut body = json!({ "email": args.email, "password": read_new_password()? });
    if let Some(name) = args.name {
        body["name"] = name.into();
    }
    let member = api.json(api.request(Method::POST, &["setup"]).json(&body)).await?;
    let code = show_next_step(&member, &api, output)?;
    if !output.json {
        print_note("scripts to start with: muster scripts starter");
    }
    Ok(code)
}
