//! `muster ping`: checks that agents answer, and how fast.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::target_options::TargetOptions;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::printer::{print, print_note};
use crate::output::text::{pluralize, sanitize};
use crate::output::time_format::shown_milliseconds;
use crate::session::{ResourceKind, Session};

/// Agents that are asked at once.
const MAX_CONCURRENT: usize = 32;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames =
    &[option("target.expression", "--on"), option("expression", "--on")];

/// Check that agents answer, and how long that takes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Agents: ids, names or hostnames, with commas or spaces between
    #[arg(required_unless_present_any = ["on", "tags"])]
    agents: Vec<String>,
    #[command(flatten)]
    target: TargetOptions,
}

/// The answer of one agent, and how long it took.
struct Pinged {
    id: String,
    name: String,
    answer: Result<Value, CliError>,
    duration: Duration,
}

/// Sends one ping to each agent.
///
/// # Errors
/// [`CliError::Unsuccessful`] if an agent did not answer, or answered with an error.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let mut agents = Vec::new();
    let words = args.agents.iter().flat_map(|word| word.split(','));
    for typed in words.filter(|word| !word.is_empty()) {
        agents.push((session.id_of(ResourceKind::Agent, typed).await?, typed.to_owned()));
    }
    let Some(expression) = args.target.expression() else {
        return match agents.len() {
            1 => ping_one(session, agents.remove(0)).await,
            _ => ping_many(session, agents).await,
        };
    };
    agents.extend(matching(session, &expression).await?);
    ping_many(session, agents).await
}

async fn ping_one(session: &Session, (id, name): (String, String)) -> Result<u8, CliError> {
    let pinged = ping(session, id, name).await;
    let line = pinged.line();
    let answer = pinged.answer?;
    if !session.output.json {
        check_success(&answer)?;
    }
    session.output.answer(&answer, |_| line.unwrap_or_default())?;
    check_success(&answer).map(|()| 0)
}

async fn ping_many(session: &Session, agents: Vec<(String, String)>) -> Result<u8, CliError> {
    let count = agents.len();
    let pings = stream::iter(agents.into_iter().map(|(id, name)| ping(session, id, name)));
    let mut pings = pings.buffered(MAX_CONCURRENT);
    let (mut documents, mut failed) = (Vec::new(), 0);
    while let Some(pinged) = pings.next().await {
        let line = pinged.line();
        failed += usize::from(line.is_err());
        match line {
            _ if session.output.json => documents.push(pinged.document()),
            Ok(line) => print(&line)?,
            Err(line) => print_note(&line),
        }
    }
    if session.output.json {
        let page = json!({ "items": documents, "next_cursor": null });
        session.output.answer(&page, |_| String::new())?;
    }
    let agents = pluralize(count as u64, "agent");
    match (failed, count) {
        (_, 0) => Err(CliError::Unsuccessful("no agent matches the target".into())),
        (0, _) => Ok(0),
        _ => Err(CliError::Unsuccessful(format!("{failed} of {agents} did not answer"))),
    }
}

/// Ids and names of the agents that an expression matches.
async fn matching(session: &Session, expression: &str) -> Result<Vec<(String, String)>, CliError> {
    let page = session.api.list(&["agents"], &[("expression", expression)], None).await?;
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |agent: &Value, name: &str| {
        agent.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(items.iter().map(|agent| (text(agent, "id"), text(agent, "name"))).collect())
}

async fn ping(session: &Session, id: String, name: String) -> Pinged {
    let request = session.api.request(Method::POST, &["agents", &id, "ping"]).json(&json!({}));
    let started = Instant::now();
    let answer = session.api.json(request).await;
    Pinged { id, name, answer, duration: started.elapsed() }
}

impl Pinged {
    fn milliseconds(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// The line of an agent that answered, or of one that did not.
    fn line(&self) -> Result<String, String> {
        let name = sanitize(&self.name);
        let failed = |error: &CliError| format!("{name}: {}", sanitize(&error.to_string()));
        let answer = self.answer.as_ref().map_err(failed)?;
        check_success(answer).map_err(|error| failed(&error))?;
        Ok(format!("{name} answered in {}", shown_milliseconds(self.milliseconds())))
    }

    fn document(&self) -> Value {
        json!({
            "agent_id": self.id,
            "agent_name": self.name,
            "success": self.line().is_ok(),
            "round_trip_ms": self.milliseconds(),
            "error": self.line().err(),
        })
    }
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
