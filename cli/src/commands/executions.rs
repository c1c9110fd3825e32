//! `muster executions`: what ran where, and what came of it.

use chrono::Utc;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::Session;
use crate::error::CliError;
use crate::instant::instant;
use crate::output::{Column, note};

const COLUMNS: [Column; 8] = [
    ("ID", "id"),
    ("SCRIPT", "script"),
    ("STATE", "state"),
    ("AGENT", "agent_name"),
    ("EXIT", "exit_code"),
    ("TRIGGER", "trigger"),
    ("CREATED", "created_at"),
    ("FINISHED", "finished_at"),
];
const DEFAULT_LIMIT: usize = 50;

/// Without an action: the latest executions.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// ID is the execution's, which is its command's too.
#[derive(Debug, Subcommand)]
enum Action {
    /// Those that fulfil every condition, newest first.
    List(List),
    /// Everything that is known of one.
    Show { id: String },
    /// End one, or keep it from starting.
    Cancel { id: String },
}

#[derive(Debug, Default, clap::Args)]
struct List {
    /// Only this agent's: an id, a name, a hostname, or the beginning of one.
    #[arg(long)]
    agent: Option<String>,
    /// Only of this script.
    #[arg(long)]
    script: Option<String>,
    /// Only those in one of these states: `failed,lost`.
    #[arg(long, value_name = "STATES")]
    state: Vec<String>,
    /// Only those made since: 2026-01-31T12:00:00Z, 2026-01-31, or an age such as 15m, 2h, 7d.
    #[arg(long, value_name = "INSTANT")]
    since: Option<String>,
    /// Only those made before.
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// Only those that this set going: api or retry.
    #[arg(long)]
    trigger: Option<String>,
    /// Only those asked for with this API key: its id.
    #[arg(long, value_name = "KEY")]
    by: Option<String>,
    /// Only this job's: its id.
    #[arg(long)]
    job: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(List::default())) {
        Action::List(list) => show_list(list, session).await,
        Action::Show { id } => session.show(Method::GET, &["executions", &id]).await,
        Action::Cancel { id } => {
            session.change(Method::POST, &["executions", &id, "cancel"], &json!({})).await
        }
    }
}

async fn show_list(list: List, session: &Session) -> Result<u8, CliError> {
    let at = |typed: Option<String>| typed.map(|typed| instant(&typed, Utc::now())).transpose();
    let agent_id = match &list.agent {
        Some(agent) => Some(session.agent_id(agent).await?),
        None => None,
    };
    let filters = [
        ("agent_id", agent_id),
        ("script", list.script),
        ("state", (!list.state.is_empty()).then(|| list.state.join(","))),
        ("created_after", at(list.since)?),
        ("created_before", at(list.until)?),
        ("trigger", list.trigger),
        ("requested_by", list.by),
        ("job_id", list.job),
    ];
    let filters: Vec<_> = filters
        .iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)))
        .collect();
    let limit = list.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let page = session.api.list(&["executions"], &filters, Some(limit)).await?;
    session.output.list(&page, &COLUMNS, "no executions")?;
    if page.get("next_cursor").is_some_and(serde_json::Value::is_string) && !session.output.json {
        note(&format!("these are the latest {limit}: --limit shows more"));
    }
    Ok(0)
}
