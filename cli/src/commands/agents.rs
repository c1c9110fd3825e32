//! `muster agents`: the hosts of the fleet.

use std::time::{Duration, Instant};

use clap::Subcommand;
use muster_protocol::backoff::Delays;
use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use super::listing::{Limit, List};
use crate::api::{Api, delay_after};
use crate::error::CliError;
use crate::expression::pointed_out;
use crate::output::{clean, note};
use crate::table::Column;

const COLUMNS: [Column; 8] = [
    Column::of("NAME", "name"),
    Column::of("STATUS", "status"),
    Column::of("HOSTNAME", "hostname"),
    Column::of("VERSION", "version"),
    Column::of("OS", "os"),
    Column::of("TAGS", "tags"),
    Column::of("LAST SEEN", "last_seen_at"),
    Column::of("ID", "id"),
];

const SCRIPT_COLUMNS: [Column; 3] =
    [Column::of("NAME", "name"), Column::by("PARAMETERS", parameters), Column::of("PATH", "path")];

const MEANT_COLUMNS: [Column; 3] =
    [Column::of("NAME", "name"), Column::of("ONLINE", "is_online"), Column::of("ID", "id")];

/// Without an action: all agents.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// AGENT is an id, a name, a hostname, or the beginning of one that no other agent shares.
#[derive(Debug, Subcommand)]
enum Action {
    /// All agents, or those that an expression means.
    List {
        /// Only agents of which this is true, such as 'tag:web & os:linux & !name:db-*'.
        ///
        /// Facts are tag, name, hostname, os, arch, version, id, status (online, offline) and level
        /// (full, basic); * and ? are wildcards, "…" holds spaces; ! & | and brackets join them,
        /// `all` is every agent. Shows the first 50.
        #[arg(long, value_name = "EXPRESSION", conflicts_with = "limit")]
        on: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Everything that is known of one.
    Show { agent: String },
    /// Give one another name.
    Rename { agent: String, name: String },
    /// Forget one, named in full; if it still runs, it may enrol again.
    Delete { agent: String },
    /// Wait until an agent with this name or hostname is connected.
    Wait {
        name: String,
        /// How long, in seconds; exit 1 if it is not connected by then.
        #[arg(long, value_name = "SECONDS", default_value_t = 300,
              value_parser = clap::value_parser!(u64).range(..=604_800))]
        timeout: u64,
    },
    /// The scripts that a host allows.
    Scripts { agent: String },
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List { on: None, limit: Limit::default() }) {
        Action::List { on: Some(expression), .. } => preview(session, &expression).await,
        Action::List { on: None, limit } => {
            let nothing = "no agents yet: create a key with `muster keys create`";
            let (segments, columns) = (&["agents"], &COLUMNS);
            session.list(List { segments, filters: &[], limit, columns, nothing }).await
        }
        Action::Show { agent } => {
            let id = session.agent_id(&agent).await?;
            session.show(Method::GET, &["agents", &id]).await
        }
        Action::Rename { agent, name } => {
            let id = session.agent_id(&agent).await?;
            session.change(Method::PATCH, &["agents", &id], &json!({ "name": name })).await
        }
        Action::Delete { agent } => {
            let id = session.exact_agent_id(&agent).await?;
            session.delete(&["agents", &id]).await
        }
        Action::Wait { name, timeout } => wait(session, &name, Duration::from_secs(timeout)).await,
        Action::Scripts { agent } => {
            let id = session.agent_id(&agent).await?;
            scripts(session, &id).await
        }
    }
}

/// Shows the list of a host, and why the newest one is not in force.
async fn scripts(session: &Session, id: &str) -> Result<u8, CliError> {
    let request = session.api.request(Method::GET, &["agents", id, "scripts"]);
    let list = session.api.json(request).await?;
    session.output.list(&list, &SCRIPT_COLUMNS, "this host allows no scripts")?;
    if let Some(error) = list.get("error").and_then(Value::as_str)
        && !session.output.json
    {
        note(&format!("its newest list was refused: {error}"));
    }
    Ok(0)
}

/// The parameters that a script declares, and what each wants.
fn parameters(script: &Value) -> String {
    let declared = script.get("parameters").and_then(Value::as_array);
    let words = declared.into_iter().flatten().map(|parameter| {
        let is = |name: &str| parameter.get(name).and_then(Value::as_bool) == Some(true);
        let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
        let marks = [("required", is("required")), ("secret", is("secret"))];
        let marks: Vec<_> =
            marks.iter().filter(|(_, is_so)| *is_so).map(|(mark, _)| *mark).collect();
        if marks.is_empty() { name.to_owned() } else { format!("{name} ({})", marks.join(", ")) }
    });
    let words: Vec<_> = words.collect();
    if words.is_empty() { "any".to_owned() } else { words.join(", ") }
}

/// Shows who an expression means.
async fn preview(session: &Session, expression: &str) -> Result<u8, CliError> {
    let body = json!({ "expression": expression });
    let request = session.api.request(Method::POST, &["targets", "preview"]).json(&body);
    let preview = session.api.json_repeated(request).await;
    let mut page = preview.map_err(|error| pointed_out(error, expression))?;
    // As every list has it.
    if let Some(fields) = page.as_object_mut()
        && let Some(agents) = fields.remove("agents")
    {
        fields.insert("items".into(), agents);
    }
    session.output.list(&page, &MEANT_COLUMNS, "no agent matches")?;
    let shown = page.get("items").and_then(Value::as_array).map_or(0, Vec::len);
    if !session.output.json && shown > 0 {
        note(&summary(&page, shown));
    }
    Ok(0)
}

/// One line on how many are meant, and what of it is not shown or not there.
fn summary(preview: &Value, shown: usize) -> String {
    let count = |name: &str| preview.get(name).and_then(Value::as_u64).unwrap_or_default();
    let mut line = format!("{} matched, {} online", count("matched_count"), count("online_count"));
    if count("matched_count") > shown as u64 {
        line.push_str(&format!("; the first {shown} are shown"));
    }
    let unknown = preview.get("unknown_ids").and_then(Value::as_array);
    let unknown: Vec<_> = unknown.into_iter().flatten().filter_map(Value::as_str).collect();
    if !unknown.is_empty() {
        line.push_str(&format!("; no agent has the id {}", unknown.join(", ")));
    }
    line
}

/// How long the server may hold one request.
const WAIT_MS: u64 = 20_000;

/// Holds one request after another until the agent is there or the time is up. A server that is
/// away meanwhile is waited for too.
async fn wait(session: &Session, name: &str, patience: Duration) -> Result<u8, CliError> {
    let until = Instant::now() + patience;
    let mut delays = Delays::for_reconnect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait_ms = WAIT_MS.min(u64::try_from(left.as_millis()).unwrap_or(WAIT_MS));
        let query = [("name", name.to_owned()), ("wait_ms", wait_ms.to_string())];
        let request = session.api.request(Method::GET, &["agents", "connected"]).query(&query);
        match session.api.json(Api::waiting(request, wait_ms)).await {
            Ok(page) => {
                if let Some(agent) = page.get("items").and_then(|items| items.get(0)) {
                    session.output.answer(agent, |agent| {
                        let text = |name: &str| agent.get(name).and_then(Value::as_str);
                        let name = text("name").unwrap_or(name);
                        clean(&format!("{name} is connected ({})", text("id").unwrap_or_default()))
                    })?;
                    return Ok(0);
                }
                delays.reset();
            }
            Err(error) if error.is_passing() && !left.is_zero() => {
                tokio::time::sleep(delay_after(&error, &mut delays).min(left)).await;
            }
            Err(error) => return Err(error),
        }
        if left.is_zero() {
            note(&format!(
                "{name} is not connected: on the host, deploy.sh --status says why; see `muster agents`"
            ));
            return Ok(1);
        }
    }
}
