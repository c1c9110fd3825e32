//! `muster commands`: commands of every kind that were sent to agents.

use clap::Subcommand;
use serde_json::Value;

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{self, LatestLimit};
use crate::output::table::Column;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("COMMAND", "command"),
    Column::of("STATE", "state"),
    Column::of("AGENT", "agent_id"),
    Column::of("CREATED", "created_at"),
    Column::of("FINISHED", "finished_at"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("agent_id", "--agent"),
    option("state", "--state").expects("the name of a command state, such as failed"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: CommandFilter,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest commands (default action)
    List(CommandFilter),
    /// Show all details of a command
    Show {
        /// Id of the command, or its first 8 characters or more
        id: String,
    },
    /// Cancel a command: end it, or keep it from starting
    Cancel {
        /// Id of the command, or its first 8 characters or more
        id: String,
    },
}

#[derive(Debug, Default, clap::Args)]
struct CommandFilter {
    /// Only of this agent: an id, a name or a hostname
    #[arg(long)]
    agent: Option<String>,
    /// Only in this state, such as queued, running or failed
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    limit: LatestLimit,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List(args.filter)) {
        Action::List(filter) => show_list(filter, session).await,
        Action::Show { id } => {
            let id = session.work_id("commands", &id).await?;
            session.show(&["commands", &id]).await
        }
        Action::Cancel { id } => {
            let id = session.work_id("commands", &id).await?;
            session.act(&["commands", &id, "cancel"], |answer| cancelled(&id, answer)).await
        }
    }
}

/// What a request to cancel a command did.
pub fn cancelled(id: &str, command: &Value) -> String {
    match command.get("state").and_then(Value::as_str).unwrap_or_default() {
        state @ ("delivered" | "running") => {
            format!("{id} is {state}; its agent was asked to end it.")
        }
        state => format!("{id} has ended: {state}."),
    }
}

async fn show_list(filter: CommandFilter, session: &Session) -> Result<u8, CliError> {
    let agent_id = match &filter.agent {
        Some(agent) => Some(session.id_of(ResourceKind::Agent, agent).await?),
        None => None,
    };
    let mut filters = Vec::new();
    filters.extend(agent_id.iter().map(|id| ("agent_id", id.as_str())));
    filters.extend(filter.state.iter().map(|state| ("state", state.as_str())));
    let list = listing::List {
        segments: &["commands"],
        filters: &filters,
        limit: filter.limit.into(),
        columns: &COLUMNS,
        empty: "No commands.",
    };
    list.show(session).await
}
