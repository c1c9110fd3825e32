//! `muster executions`: what ran where, and what came of it.

use chrono::Utc;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::Session;
use super::listing::{self, Limit};
use crate::command_line::work;
use crate::error::CliError;
use crate::instant::instant;
use crate::table::Column;

const COLUMNS: [Column; 8] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", work),
    Column::of("STATE", "state"),
    Column::of("AGENT", "agent_name"),
    Column::of("EXIT", "exit_code"),
    Column::of("TRIGGER", "trigger"),
    Column::of("CREATED", "created_at"),
    Column::of("FINISHED", "finished_at"),
];

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
    #[command(flatten)]
    limit: Limit,
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
    let list = listing::List {
        segments: &["executions"],
        filters: &filters,
        limit: list.limit.or_latest(),
        columns: &COLUMNS,
        nothing: "no executions",
    };
    session.list(list).await
}
