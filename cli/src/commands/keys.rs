//! `muster keys`: the keys that agents enrol with.

use clap::Subcommand;
use muster_protocol::CommandName;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Session;
use super::listing::{Limit, List};
use crate::error::CliError;
use crate::output::{clean, note};
use crate::table::Column;

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("STATUS", "status"),
    Column::of("PERMISSIONS", "permissions"),
    Column::of("TAGS", "tags"),
    Column::of("MAX AGENTS", "max_agents"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
];

/// Without an action: all keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// KEY is an id, a name, or the beginning of a name that no other key shares.
#[derive(Debug, Subcommand)]
enum Action {
    /// All keys; never the secrets.
    List(Limit),
    /// Make one. It is shown this once.
    Create(Create),
    /// Everything that is known of one.
    Show { key: String },
    /// Refuse its agents from now on.
    Disable { key: String },
    /// Let its agents in again.
    Enable { key: String },
    /// Replace the secret. The new one is shown this once.
    Regenerate {
        key: String,
        /// For how long the old secret still works, in milliseconds.
        #[arg(long, value_name = "MS")]
        grace_ms: Option<u64>,
    },
    /// Delete one, named in full; its agents are refused for good.
    Delete { key: String },
}

#[derive(Debug, clap::Args)]
struct Create {
    name: String,
    /// A command that its agents may be sent; repeatable. Default: the server's choice.
    #[arg(long = "permission", value_name = "COMMAND")]
    permissions: Vec<CommandName>,
    /// A tag of its agents; repeatable.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// How many agents may use it.
    #[arg(long, value_name = "N")]
    max_agents: Option<u32>,
    /// When it ends, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "RFC3339")]
    expires_at: Option<String>,
}

impl Create {
    /// Only what was asked for: the defaults are the server's.
    fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.name));
        if !self.permissions.is_empty() {
            body.insert("permissions".into(), json!(self.permissions));
        }
        if !self.tags.is_empty() {
            body.insert("tags".into(), json!(self.tags));
        }
        if let Some(max_agents) = self.max_agents {
            body.insert("max_agents".into(), json!(max_agents));
        }
        if let Some(expires_at) = self.expires_at {
            body.insert("expires_at".into(), json!(expires_at));
        }
        body.into()
    }
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let nothing = "no keys yet: make one with `muster keys create`";
            let (segments, columns) = (&["agents", "keys"], &COLUMNS);
            session.list(List { segments, filters: &[], limit, columns, nothing }).await
        }
        Action::Create(create) => {
            let request = session.api.request(Method::POST, &["agents", "keys"]);
            show_secret(session, &session.api.json(request.json(&create.body())).await?)
        }
        Action::Show { key } => {
            let id = session.key_id(&key).await?;
            session.show(Method::GET, &["agents", "keys", &id]).await
        }
        Action::Disable { key } => set_status(session, &key, "disabled").await,
        Action::Enable { key } => set_status(session, &key, "active").await,
        Action::Regenerate { key, grace_ms } => {
            let id = session.key_id(&key).await?;
            let segments = ["agents", "keys", &id, "regenerate"];
            let body = grace_ms.map_or_else(|| json!({}), |ms| json!({ "grace_ms": ms }));
            let request = session.api.request(Method::POST, &segments).json(&body);
            show_secret(session, &session.api.json(request).await?)
        }
        Action::Delete { key } => {
            let id = session.exact_key_id(&key).await?;
            session.delete(&["agents", "keys", &id]).await
        }
    }
}

async fn set_status(session: &Session, key: &str, status: &str) -> Result<u8, CliError> {
    let id = session.key_id(key).await?;
    let body = json!({ "status": status });
    session.change(Method::PATCH, &["agents", "keys", &id], &body).await
}

/// The secret alone goes to standard output, so that it can be captured; the warning does not.
fn show_secret(session: &Session, answer: &Value) -> Result<u8, CliError> {
    let secret = ["key", "api_key", "secret"].iter().find_map(|name| answer.get(*name)?.as_str());
    let Some(secret) = secret else {
        session.output.details(answer)?;
        return Err(CliError::Answer("a new key without its secret".into()));
    };
    session.output.answer(answer, |_| clean(secret))?;
    note("keep this key now: it is not shown again");
    if let Some(line) = answer.get("install_line").and_then(Value::as_str) {
        note("to install an agent with it, paste this on a host:");
        note(&format!("  {line}"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Action as Top;
    use crate::commands::parse;

    fn created(line: &[&str]) -> Value {
        let line: Vec<_> = ["keys", "create"].iter().chain(line).copied().collect();
        let Top::Keys(Args { action: Some(Action::Create(create)) }) = parse(&line).unwrap().action
        else {
            panic!("not a create: {line:?}")
        };
        create.body()
    }

    #[test]
    fn create_sends_only_what_was_asked_for() {
        assert_eq!(created(&["fleet"]), json!({"name": "fleet"}));
        let line = [
            "fleet",
            "--permission",
            "ping",
            "--permission",
            "execute",
            "--tag",
            "eu",
            "--max-agents",
            "3",
            "--expires-at",
            "2027-01-31T00:00:00Z",
        ];
        assert_eq!(
            created(&line),
            json!({"name": "fleet", "permissions": ["ping", "execute"], "tags": ["eu"],
                   "max_agents": 3, "expires_at": "2027-01-31T00:00:00Z"})
        );
    }

    #[test]
    fn permission_that_is_no_command_is_refused_before_anything_is_sent() {
        assert!(parse(&["keys", "create", "fleet", "--permission", "everything"]).is_err());
    }
}
