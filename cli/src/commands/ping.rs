//! `muster ping`: a sign of life from an agent.

use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use crate::error::CliError;
use crate::output::clean;

/// Whom to ask.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, a name, a hostname, or the beginning of one that no other agent shares.
    agent: String,
}

/// Asks once.
///
/// # Errors
/// [`CliError::Unsuccessful`] if the agent answered with a failure.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id = session.agent_id(&args.agent).await?;
    let request = session.api.request(Method::POST, &["agents", &id, "ping"]).json(&json!({}));
    let answer = session.api.json(request).await?;
    if !session.output.json {
        check(&answer)?;
    }
    session.output.answer(&answer, |answer| {
        let took = answer.get("round_trip_ms").filter(|value| value.is_number());
        match took {
            Some(took) => format!("{} answered in {took} ms", clean(&args.agent)),
            None => format!("{} answered", clean(&args.agent)),
        }
    })?;
    check(&answer)?;
    Ok(0)
}

/// A transient command's own verdict.
///
/// # Errors
/// [`CliError::Unsuccessful`] with the agent's sentence.
pub fn check(answer: &Value) -> Result<(), CliError> {
    if answer.get("success") != Some(&Value::Bool(false)) {
        return Ok(());
    }
    let error = answer.get("error");
    let sentence =
        error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    Err(CliError::Unsuccessful(sentence.unwrap_or("the agent answered with a failure").to_owned()))
}
