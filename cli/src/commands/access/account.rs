//! `muster whoami`, `muster confirm` and `muster logout`.

use reqwest::Method;
use serde_json::{Value, json};

use super::login::read_secret;
use crate::api::client::ApiClient;
use crate::context::{self, Context};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::session::Session;

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
