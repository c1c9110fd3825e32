//! `muster whoami`, `muster account`, `muster confirm` and `muster logout`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::login::{read_secret, read_two_secrets};
use crate::api::client::ApiClient;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::printer::{Output, print_note};
use crate::session::Session;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames =
    &[option("email", "EMAIL").expects("an address such as ada@example.com")];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Request another address for your account; a code is sent to it, for `muster account verify-email`
    ChangeEmail {
        /// The new address
        email: String,
    },
    /// Change the address of your account with the code that was sent to the new one, which comes from a
    /// prompt or standard input
    VerifyEmail,
    /// Change your password; the present one and the new one come from prompts, or from two lines of
    /// standard input. Your other sessions end
    ChangePassword,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action {
        Action::ChangeEmail { email } => {
            session.change(Method::POST, &["me", "email"], &json!({ "email": email })).await?;
            print_note("a code is sent to the address; run `muster account verify-email`");
            Ok(0)
        }
        Action::VerifyEmail => {
            let body = json!({ "code": read_secret("Code: ")?.trim() });
            session.change(Method::POST, &["me", "email", "verify"], &body).await
        }
        Action::ChangePassword => {
            let (current, new) = read_two_secrets("Present password: ", "New password: ")?;
            let body = json!({ "current_password": current, "new_password": new });
            session.change(Method::POST, &["me", "password"], &body).await
        }
    }
}

/// Shows the API key or the person that later commands use.
///
/// # Errors
/// [`CliError`].
pub async fn whoami(session: &Session) -> Result<u8, CliError> {
    session.show(&["me"]).await
}

/// Proves the password again.
///
/// # Errors
/// [`CliError`].
pub async fn confirm(session: &Session) -> Result<u8, CliError> {
    let body = json!({ "password": read_secret("Password: ")? });
    session.change(Method::POST, &["auth", "confirm"], &body).await
}

/// Ends the stored session on the server, and removes the session or the key from this host.
///
/// # Errors
/// [`CliError`]; a session that the server has ended already is no error.
pub async fn logout(context: Context, output: Output) -> Result<u8, CliError> {
    let has_session = context.renewal.is_some();
    if has_session {
        let ended = async {
            let api = ApiClient::new(&context)?;
            api.json(api.request(Method::POST, &["auth", "logout"]).json(&json!({}))).await
        };
        match ended.await {
            Err(CliError::Refused(problem)) if problem.status == 401 => {}
            ended => drop(ended?),
        }
    }
    if let Some(path) = context::default_path() {
        context::forget(&path)?;
    }
    output.answer(&Value::Null, |_| match has_session {
        true => "signed out".to_owned(),
        false => "the API key is no longer stored; it stays valid until it is revoked".to_owned(),
    })?;
    Ok(0)
}
