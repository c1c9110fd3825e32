//! `muster keys`: the keys that agents enrol with.

use clap::Subcommand;
use muster_protocol::CommandName;
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use crate::context::is_loopback;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{Limit, List};
use crate::output::printer::note;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("STATUS", "status"),
    Column::of("PERMISSIONS", "permissions"),
    Column::of("TAGS", "tags"),
    Column::of("MAX AGENTS", "max_agents"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("permissions", "--permission"),
    option("tags", "--tag").expects("1 to 64 letters, digits and . _ : / -"),
    option("max_agents", "--max-agents"),
    option("trusts_holders", "--trusts-holders"),
    option("expires_at", "--expires-at")
        .expects("a future RFC 3339 time such as 2027-01-31T00:00:00Z"),
    option("grace_ms", "--grace-ms"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all keys, without their secrets (default action)
    List(Limit),
    /// Create a key and print its secret, which is shown only once
    Create(Create),
    /// Show all details of a key
    Show {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
    },
    /// Disable a key; its agents are disconnected until it is enabled
    Disable {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
    },
    /// Enable a disabled key
    Enable {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
    },
    /// Change a key; connected agents follow at once
    Edit(Edit),
    /// Replace the secret of a key and print the new one, which is shown only once
    Regenerate {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
        /// Accept the old secret for this many milliseconds more [default: 0]
        #[arg(long, value_name = "MS")]
        grace_ms: Option<u64>,
    },
    /// Delete a key; the server then refuses its agents for good
    Delete {
        /// Key: an id or a full name
        key: String,
    },
}

#[derive(Debug, clap::Args)]
struct Edit {
    /// Key: an id, a name, or a unique prefix of one
    key: String,
    /// Command that agents of this key accept from now on, such as update; repeatable
    #[arg(long = "add-permission", value_name = "COMMAND")]
    added: Vec<CommandName>,
    /// Command that agents of this key refuse from now on; repeatable
    #[arg(long = "remove-permission", value_name = "COMMAND")]
    removed: Vec<CommandName>,
    /// Number of agents that can use the key
    #[arg(long, value_name = "N")]
    max_agents: Option<u32>,
    /// Whether holders of the key may take over each other's offline agents
    #[arg(long, value_name = "BOOL")]
    trusts_holders: Option<bool>,
}

impl Edit {
    /// Changes a key that has these permissions. Only the given options.
    fn body(&self, permissions: Option<Vec<String>>) -> Value {
        let mut body = Map::new();
        if let Some(mut permissions) = permissions {
            permissions.extend(self.added.iter().map(|name| name.as_str().to_owned()));
            permissions.sort_unstable();
            permissions.dedup();
            permissions.retain(|one| self.removed.iter().all(|name| name.as_str() != one));
            body.insert("permissions".into(), json!(permissions));
        }
        if let Some(max_agents) = self.max_agents {
            body.insert("max_agents".into(), json!(max_agents));
        }
        if let Some(trusts_holders) = self.trusts_holders {
            body.insert("trusts_holders".into(), json!(trusts_holders));
        }
        body.into()
    }

    async fn run(&self, session: &Session) -> Result<u8, CliError> {
        let id = session.id_of(ResourceKind::Key, &self.key).await?;
        let segments = ["agents", "keys", &id];
        let mut permissions = None;
        if !(self.added.is_empty() && self.removed.is_empty()) {
            let key = session.api.json(session.api.request(Method::GET, &segments)).await?;
            let listed = key["permissions"].as_array().into_iter().flatten();
            permissions = Some(listed.filter_map(Value::as_str).map(str::to_owned).collect());
        }
        session.change(Method::PATCH, &segments, &self.body(permissions)).await
    }
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the key
    name: String,
    /// Command that agents of this key accept: ping, info, echo, scripts, execute, restart, update,
    /// redeploy or shutdown; repeatable [default: ping, info, echo, scripts, execute]
    #[arg(long = "permission", value_name = "COMMAND")]
    permissions: Vec<CommandName>,
    /// Tag for agents of this key; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Number of agents that can use the key [default: 1]
    #[arg(long, value_name = "N")]
    max_agents: Option<u32>,
    /// Let holders of the key take over each other's offline agents by what they claim, such as after
    /// a reinstallation; for keys whose every holder is trusted
    #[arg(long)]
    trusts_holders: bool,
    /// Time at which the key expires, such as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "RFC3339")]
    expires_at: Option<String>,
}

impl Create {
    /// Only the given options; the server has the defaults.
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
        if self.trusts_holders {
            body.insert("trusts_holders".into(), json!(true));
        }
        if let Some(expires_at) = self.expires_at {
            body.insert("expires_at".into(), json!(expires_at));
        }
        body.into()
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let empty = "No keys yet. Create one with `muster keys create`.";
            let (segments, columns) = (&["agents", "keys"], &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Create(create) => {
            let request = session.api.request(Method::POST, &["agents", "keys"]);
            let key = session.api.json(request.json(&create.body())).await?;
            let code = show_secret(session, &key)?;
            let allows_update =
                key["permissions"].as_array().is_some_and(|all| all.contains(&json!("update")));
            if let Some(id) = key["id"].as_str().filter(|_| !allows_update) {
                note("Its agents accept no updates from the server. To allow them:");
                note(&format!("  muster keys edit {} --add-permission update", sanitize(id)));
            }
            Ok(code)
        }
        Action::Show { key } => {
            let id = session.id_of(ResourceKind::Key, &key).await?;
            session.show(&["agents", "keys", &id]).await
        }
        Action::Disable { key } => set_status(session, &key, "disabled").await,
        Action::Enable { key } => set_status(session, &key, "active").await,
        Action::Edit(edit) => edit.run(session).await,
        Action::Regenerate { key, grace_ms } => {
            let id = session.id_of(ResourceKind::Key, &key).await?;
            let segments = ["agents", "keys", &id, "regenerate"];
            let body = grace_ms.map_or_else(|| json!({}), |ms| json!({ "grace_ms": ms }));
            let request = session.api.request(Method::POST, &segments).json(&body);
            show_secret(session, &session.api.json(request).await?)
        }
        Action::Delete { key } => {
            let id = session.exact_id_of(ResourceKind::Key, &key).await?;
            session.delete(&["agents", "keys", &id]).await
        }
    }
}

async fn set_status(session: &Session, key: &str, status: &str) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Key, key).await?;
    let body = json!({ "status": status });
    session.change(Method::PATCH, &["agents", "keys", &id], &body).await
}

/// Shows a new secret, and how to install an agent with it.
fn show_secret(session: &Session, answer: &Value) -> Result<u8, CliError> {
    let secret = ["key", "api_key", "secret"].iter().find_map(|name| answer.get(*name)?.as_str());
    let Some(secret) = secret else {
        session.output.details(answer)?;
        return Err(CliError::Answer("the new key has no secret".into()));
    };
    session.output.new_secret(answer, secret)?;
    let line = answer.get("install_line").and_then(Value::as_str).map(str::to_owned);
    match line.or_else(|| install_line(session.api.server(), secret)) {
        Some(line) => {
            note("To install an agent with it, run this on the host:");
            note(&format!("  {line}"));
        }
        None => note(
            "No install command is shown, because others could read the key on its way to this \
             server. Start the server with --public-url https://… or with a certificate.",
        ),
    }
    Ok(0)
}

/// The install command for the address that this program uses itself; `None` if others could read the
/// key on the way. For servers that do not know their own address.
fn install_line(server: &Url, secret: &str) -> Option<String> {
    let is_secure = server.scheme() == "https";
    let address = server.as_str().trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:/[]_".contains(&byte);
    if !(is_secure || is_loopback(server)) || !address.bytes().chain(secret.bytes()).all(is_plain) {
        return None;
    }
    let protocol = if is_secure { "--proto '=https' --proto-redir '=https' " } else { "" };
    Some(format!(
        "curl {protocol}-fsSL {address}/install/deploy.sh | sudo sh -s -- --server {address} --key {secret}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct KeysCommandLine {
        #[command(flatten)]
        create: Create,
    }

    fn body(line: &[&str]) -> Value {
        let line = std::iter::once(&"create").chain(line);
        KeysCommandLine::try_parse_from(line).expect("a valid command line").create.body()
    }

    #[test]
    fn create_sends_only_the_given_options() {
        assert_eq!(body(&["fleet"]), json!({"name": "fleet"}));
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
            body(&line),
            json!({"name": "fleet", "permissions": ["ping", "execute"], "tags": ["eu"],
                   "max_agents": 3, "expires_at": "2027-01-31T00:00:00Z"})
        );
    }

    #[test]
    fn install_line_names_the_address_of_this_program_and_never_leaves_https() {
        let line = |server: &str| install_line(&Url::parse(server).unwrap(), "mst_agent_x");
        assert_eq!(
            line("https://m.example/base/").unwrap(),
            "curl --proto '=https' --proto-redir '=https' -fsSL https://m.example/base/install/deploy.sh | sudo sh -s -- --server https://m.example/base --key mst_agent_x"
        );
        assert!(line("http://127.0.0.1:8080").unwrap().starts_with("curl -fsSL http://127.0.0.1"));
        for unsafe_server in ["http://m.example", "https://m.example/$(id)", "https://m.example/'"]
        {
            assert_eq!(line(unsafe_server), None, "{unsafe_server}");
        }
    }

    #[test]
    fn permission_that_is_no_command_is_refused_before_a_request() {
        let line = ["create", "fleet", "--permission", "everything"];
        assert!(KeysCommandLine::try_parse_from(line).is_err());
    }
}
