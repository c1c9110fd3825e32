//! `muster commands`: what was asked of agents, and what came of it.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::Session;
use super::listing::{self, Limit};
use crate::error::CliError;
use crate::table::Column;

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("COMMAND", "command"),
    Column::of("STATE", "state"),
    Column::of("AGENT", "agent_id"),
    Column::of("CREATED", "created_at"),
    Column::of("FINISHED", "finished_at"),
];

/// Without an action: the latest commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// The latest commands.
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
    /// Only those in this state.
    #[arg(long)]
    state: Option<String>,
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
        Action::Show { id } => session.show(Method::GET, &["commands", &id]).await,
        Action::Cancel { id } => {
            session.change(Method::POST, &["commands", &id, "cancel"], &json!({})).await
        }
    }
}

async fn show_list(list: List, session: &Session) -> Result<u8, CliError> {
    let agent_id = match &list.agent {
        Some(agent) => Some(session.agent_id(agent).await?),
        None => None,
    };
    let mut filters = Vec::new();
    filters.extend(agent_id.iter().map(|id| ("agent_id", id.as_str())));
    filters.extend(list.state.iter().map(|state| ("state", state.as_str())));
    let list = listing::List {
        segments: &["commands"],
        filters: &filters,
        limit: list.limit.or_latest(),
        columns: &COLUMNS,
        nothing: "no commands",
    };
    session.list(list).await
}
