//! `muster command`: a command of the protocol, with its data as JSON.

use muster_protocol::CommandName;
use reqwest::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::api::client::ApiClient;
use crate::commands::fleet::ping::check_success;
use crate::error::CliError;
use crate::input::quantities::milliseconds;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Agent: an id, a name or a hostname
    agent: String,
    /// Command: ping, info, echo, scripts, execute, restart, update, redeploy or shutdown
    name: CommandName,
    /// Data of the command, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    data: Option<Map<String, Value>>,
    /// How long the server waits for the agent's answer [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    wait: Option<u64>,
}

fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// Sends the command and shows the answer, or the state of a durable command.
///
/// # Errors
/// [`CliError::Unsuccessful`] if the agent answered with an error.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let has_secrets = args.data.as_ref().is_some_and(|data| data.contains_key("secret_parameters"));
    let id = session.agent_id(&args.agent, has_secrets).await?;
    let mut body = json!({ "command": args.name, "data": args.data.unwrap_or_default() });
    if let Some(wait_ms) = args.wait {
        body["wait_ms"] = wait_ms.into();
    }
    let request = session.api.request(Method::POST, &["agents", &id, "command"]);
    // A repeated request must not start a durable command twice.
    let request = request.header("Idempotency-Key", Uuid::now_v7().to_string()).json(&body);
    let request = ApiClient::with_wait(request, args.wait.unwrap_or_default());
    let answer = session.api.json_with_retries(request).await?;
    session.output.details(&answer)?;
    check_success(&answer)?;
    Ok(0)
}
