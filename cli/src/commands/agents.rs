//! `muster agents`: the hosts of the fleet.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::Session;
use crate::error::CliError;
use crate::output::Column;

const COLUMNS: [Column; 8] = [
    ("NAME", "name"),
    ("STATUS", "status"),
    ("HOSTNAME", "hostname"),
    ("VERSION", "version"),
    ("OS", "os"),
    ("TAGS", "tags"),
    ("LAST SEEN", "last_seen_at"),
    ("ID", "id"),
];

/// Without an action: all agents.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// AGENT is an id, a name, a hostname, or the beginning of one that no other agent shares.
#[derive(Debug, Subcommand)]
enum Action {
    /// All agents.
    List,
    /// Everything that is known of one.
    Show { agent: String },
    /// Give one another name.
    Rename { agent: String, name: String },
    /// Forget one; if it still runs, it may enrol again.
    Delete { agent: String },
    /// The scripts that a host allows.
    Scripts { agent: String },
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let page = session.api.list(&["agents"], &[], None).await?;
            session.output.list(
                &page,
                &COLUMNS,
                "no agents yet: create a key with `muster keys create`",
            )?;
            Ok(0)
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
            let id = session.agent_id(&agent).await?;
            session.delete(&["agents", &id]).await
        }
        Action::Scripts { agent } => {
            let id = session.agent_id(&agent).await?;
            session.show(Method::GET, &["agents", &id, "scripts"]).await
        }
    }
}
