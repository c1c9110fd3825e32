//! `muster ping`: checks that an agent answers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Agent: an id, a name or a hostname
    agent: String,
}

/// Sends one ping.
///
/// # Errors
/// [`CliError::Unsuccessful`] if the agent answered with an error.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Agent, &args.agent).await?;
    let request = session.api.request(Method::POST, &["agents", &id, "ping"]).json(&json!({}));
    let answer = session.api.json(request).await?;
    if !session.output.json {
        check_success(&answer)?;
    }
    session.output.answer(&answer, |answer| {
        let round_trip = answer.get("round_trip_ms").filter(|value| value.is_number());
        match round_trip {
            Some(ms) => format!("{} answered in {ms} ms", sanitize(&args.agent)),
            None => format!("{} answered", sanitize(&args.agent)),
        }
    })?;
    check_success(&answer)?;
    Ok(0)
}

/// Whether a transient command succeeded.
///
/// # Errors
/// [`CliError::Unsuccessful`] with the agent's message.
pub fn check_success(answer: &Value) -> Result<(), CliError> {
    if answer.get("success") != Some(&Value::Bool(false)) {
        return Ok(());
    }
    let error = answer.get("error");
    let message = error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    Err(CliError::Unsuccessful(message.unwrap_or("the agent answered with an error").to_owned()))
}
