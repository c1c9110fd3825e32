//! `muster command`: any command to an agent.

use muster_protocol::CommandName;
use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Session, ping};
use crate::api::Api;
use crate::error::CliError;

/// What to send to whom.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, a name, a hostname, or the beginning of one that no other agent shares.
    agent: String,
    /// ping, info, echo, scripts, execute, restart, update, redeploy or shutdown.
    name: CommandName,
    /// What the command takes, as a JSON object.
    #[arg(long, value_name = "JSON", value_parser = object)]
    data: Option<Map<String, Value>>,
    /// How long the server may wait for the answer, in milliseconds.
    #[arg(long, value_name = "MS")]
    wait_ms: Option<u64>,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Sends it and shows the answer, or where a durable command stands.
///
/// # Errors
/// [`CliError::Unsuccessful`] if the agent answered with a failure.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id = session.agent_id(&args.agent).await?;
    let mut body = json!({ "command": args.name, "data": args.data.unwrap_or_default() });
    if let Some(wait_ms) = args.wait_ms {
        body["wait_ms"] = wait_ms.into();
    }
    let request = session.api.request(Method::POST, &["agents", &id, "command"]);
    // Durable commands must not start twice if this has to be sent again.
    let request = request.header("Idempotency-Key", Uuid::now_v7().to_string()).json(&body);
    let request = Api::waiting(request, args.wait_ms.unwrap_or_default());
    let answer = session.api.json_repeated(request).await?;
    session.output.details(&answer)?;
    ping::check(&answer)?;
    Ok(0)
}
