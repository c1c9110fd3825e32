//! `muster keys`: the keys that agents enrol with.

use clap::Subcommand;
use muster_protocol::{CommandName, Permissions};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use crate::context::is_loopback;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::expiry::{Expiry, expiry};
use crate::input::quantities::milliseconds;
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::about;
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
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("permissions", "--permission"),
    option("tags", "--tag").expects("1 to 64 letters, digits and . _ : / -"),
    option("max_agents", "--max-agents"),
    option("trusts_holders", "--trusts-holders"),
    option("expires_at", "--expires")
        .expects("a future time such as 2027-01-31T00:00:00Z, or a duration such as 90d"),
    option("grace_ms", "--overlap"),
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
    /// Change a key; its secret and its agents stay the same
    Set {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
        #[command(flatten)]
        changes: AgentKeyChanges,
    },
    /// Replace the secret of a key and print the new one, which is shown only once
    Regenerate {
        /// Key: an id, a name, or a unique prefix of one
        key: String,
        /// Accept the old secret for this long, at most 7d [default: 0s]
        #[arg(long, value_name = "TIME", value_parser = milliseconds)]
        overlap: Option<u64>,
    },
    /// Delete a key; the server then refuses its agents for good
    Delete {
        /// Key: an id or a full name
        key: String,
    },
}

/// What `muster keys set` changes.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct AgentKeyChanges {
    /// New name of the key
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Command that agents of this key accept; repeatable, replaces all permissions
    #[arg(long = "permission", value_name = "COMMAND", conflicts_with_all = ["added", "removed"])]
    permissions: Vec<CommandName>,
    /// Permission to add; repeatable
    #[arg(long = "add-permission", value_name = "COMMAND")]
    added: Vec<CommandName>,
    /// Permission to remove; repeatable
    #[arg(long = "remove-permission", value_name = "COMMAND")]
    removed: Vec<CommandName>,
    /// Number of agents that can use the key
    #[arg(long, value_name = "N")]
    max_agents: Option<u32>,
    /// Whether holders of the key may take over each other's offline agents
    #[arg(long, value_name = "BOOL")]
    trusts_holders: Option<bool>,
    /// Tag for agents that enrol with the key from now on; repeatable, replaces all tags
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
    tags: Vec<String>,
    /// Remove all tags
    #[arg(long)]
    no_tags: bool,
    /// When the key expires: a time such as 2027-01-31T00:00:00Z, a duration such as 90d, or never
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    expires: Option<Expiry>,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the key
    name: String,
    /// Command that agents of this key accept; repeatable [default: ping, info, echo, scripts, execute]
    #[arg(long = "permission", value_name = "COMMAND", conflicts_with = "added")]
    permissions: Vec<CommandName>,
    /// Command that agents of this key accept beside the default ones, such as update; repeatable
    #[arg(long = "add-permission", value_name = "COMMAND")]
    added: Vec<CommandName>,
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
    /// When the key expires: a time such as 2027-01-31T00:00:00Z, or a duration such as 90d [default: never]
    #[arg(long, value_name = "TIME", alias = "expires-at", value_parser = expiry)]
    expires: Option<Expiry>,
}

impl Create {
    /// Only the given options; the server has the defaults.
    fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.name));
        if !self.permissions.is_empty() {
            body.insert("permissions".into(), json!(self.permissions));
        }
        if !self.added.is_empty() {
            let default = Permissions::default();
            let permissions = Permissions::new(default.iter().chain(self.added));
            body.insert("permissions".into(), json!(permissions));
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
        if let Some(expiry) = self.expires {
            body.insert("expires_at".into(), json!(expiry.0));
        }
        body.into()
    }
}

impl AgentKeyChanges {
    /// True if the new permissions depend on the present ones.
    fn needs_known_permissions(&self) -> bool {
        !self.added.is_empty() || !self.removed.is_empty()
    }

    /// Only the given options. `known`: the present permissions.
    fn body(self, known: &Permissions) -> Value {
        let mut body = Map::new();
        if self.needs_known_permissions() {
            let kept = known.iter().filter(|name| !self.removed.contains(name));
            let permissions = Permissions::new(kept.chain(self.added));
            body.insert("permissions".into(), json!(permissions));
        } else if !self.permissions.is_empty() {
            body.insert("permissions".into(), json!(self.permissions));
        }
        if let Some(name) = self.name {
            body.insert("name".into(), json!(name));
        }
        if let Some(max_agents) = self.max_agents {
            body.insert("max_agents".into(), json!(max_agents));
        }
        if let Some(trusts_holders) = self.trusts_holders {
            body.insert("trusts_holders".into(), json!(trusts_holders));
        }
        if !self.tags.is_empty() || self.no_tags {
            body.insert("tags".into(), json!(self.tags));
        }
        if let Some(expiry) = self.expires {
            body.insert("expires_at".into(), json!(expiry.0));
        }
        body.into()
    }
}

/// The permissions of a key that this program knows. A newer server may have more.
fn permissions(key: &Value) -> Permissions {
    let names = key.get("permissions").and_then(Value::as_array).into_iter().flatten();
    Permissions::new(names.filter_map(|name| name.as_str()?.parse().ok()))
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
            show_secret(session, &session.api.json(request.json(&create.body())).await?, true)
        }
        Action::Show { key } => {
            let id = session.id_of(ResourceKind::Key, &key).await?;
            session.show(&["agents", "keys", &id]).await
        }
        Action::Disable { key } => set_status(session, &key, "disabled").await,
        Action::Enable { key } => set_status(session, &key, "active").await,
        Action::Set { key, changes } => {
            let id = session.id_of(ResourceKind::Key, &key).await?;
            let segments = ["agents", "keys", &id];
            let known = match changes.needs_known_permissions() {
                true => {
                    let request = session.api.request(Method::GET, &segments);
                    permissions(&session.api.json(request).await?)
                }
                false => Permissions::new([]),
            };
            session
                .change(Method::PATCH, &segments, &changes.body(&known), about("Key", "is changed"))
                .await
        }
        Action::Regenerate { key, overlap } => {
            let id = session.id_of(ResourceKind::Key, &key).await?;
            let segments = ["agents", "keys", &id, "regenerate"];
            let body = overlap.map_or_else(|| json!({}), |ms| json!({ "grace_ms": ms }));
            let request = session.api.request(Method::POST, &segments).json(&body);
            show_secret(session, &session.api.json(request).await?, false)
        }
        Action::Delete { key } => {
            let id = session.exact_id_of(ResourceKind::Key, &key).await?;
            session.delete(("Key", &key), &["agents", "keys", &id]).await
        }
    }
}

async fn set_status(session: &Session, key: &str, status: &str) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Key, key).await?;
    let body = json!({ "status": status });
    let done = match status {
        "disabled" => "is disabled; its agents are disconnected until it is enabled",
        _ => "is active",
    };
    session.change(Method::PATCH, &["agents", "keys", &id], &body, about("Key", done)).await
}

/// Prints only the secret to standard output, so that a script can capture it.
fn show_secret(session: &Session, answer: &Value, is_new: bool) -> Result<u8, CliError> {
    let secret = ["key", "api_key", "secret"].iter().find_map(|name| answer.get(*name)?.as_str());
    let Some(secret) = secret else {
        session.output.details(answer)?;
        return Err(CliError::Answer("the new key has no secret".into()));
    };
    session.output.new_secret(answer, secret)?;
    let line = answer.get("install_line").and_then(Value::as_str).map(str::to_owned);
    match line.or_else(|| install_line(session.api.server(), secret)) {
        Some(line) => {
            print_note("To install an agent with it, run this on the host:");
            print_note(&format!("  {line}"));
        }
        None => print_note(
            "No install command is shown, because others could read the key on its way to this \
             server. Start the server with --public-url https://… or with a certificate.",
        ),
    }
    // A key that was regenerated has its permissions for a reason.
    let id = answer.get("id").and_then(Value::as_str);
    if let Some(id) = id.filter(|_| is_new && !permissions(answer).allows(CommandName::Update)) {
        print_note("The server can't update agents of this key. To allow it, now or later:");
        print_note(&format!("  muster keys set {id} --add-permission update"));
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
mod tests;
