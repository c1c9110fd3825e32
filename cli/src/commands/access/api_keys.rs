//! `muster api-keys`: the keys that people and programs use the API with.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("ROLE", "role"),
    Column::of("PREFIX", "prefix"),
    Column::of("CREATED", "created_at"),
    Column::of("CREATED BY", "created_by"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("role", "--role"),
    option("scopes", "--scope"),
    option("expires_at", "--expires-at").expects(
        "a future RFC 3339 time such as 2027-01-31T00:00:00Z, before your own key expires",
    ),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all API keys, without their secrets (default action)
    List(Limit),
    /// Create an API key and print its secret, which is shown only once
    Create(Create),
    /// Revoke an API key; work that it queued is not sent any more
    Revoke {
        /// API key: an id or a full name
        key: String,
        /// Also revoke the keys that it created, and those that they created
        #[arg(long)]
        cascade: bool,
        /// Cancel what it queued now, and pause its rollouts and groups, so that another key can resume them
        #[arg(long)]
        cancel_queued: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Name of the key
    name: String,
    /// Role, the most that the key can do: owner, admin or member [default: member]
    #[arg(long)]
    role: Option<String>,
    /// Scope of the key, such as commands:run; repeatable [default: all scopes of the role that you have]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Time at which the key expires, such as 2027-01-31T00:00:00Z [default: when your own key expires]
    #[arg(long, value_name = "RFC3339")]
    expires_at: Option<String>,
}

impl Create {
    /// Only the given options; the server has the defaults.
    fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.name));
        if let Some(role) = self.role {
            body.insert("role".into(), json!(role));
        }
        if !self.scopes.is_empty() {
            body.insert("scopes".into(), json!(self.scopes));
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
            let (segments, columns) = (&["keys"], &COLUMNS);
            let empty = "No API keys.";
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Create(create) => {
            let request = session.api.request(Method::POST, &["keys"]).json(&create.body());
            let answer = session.api.json(request).await?;
            let Some(secret) = answer.get("key").and_then(Value::as_str) else {
                return Err(CliError::Answer("the new key has no secret".into()));
            };
            session.output.new_secret(&answer, secret)?;
            Ok(0)
        }
        Action::Revoke { key, cascade, cancel_queued } => {
            let id = session.exact_id_of(ResourceKind::ApiKey, &key).await?;
            let queued = if cancel_queued { "cancel" } else { "keep" };
            let request = session.api.request(Method::DELETE, &["keys", &id]);
            let request = request.query(&[("queued", queued)]).query(&[("cascade", cascade)]);
            session.output.details(&session.api.json(request).await?)?;
            if !cancel_queued {
                print_note(
                    "Work that the key queued is not sent any more and ends as rejected. With \
                     --cancel-queued it ends at once, and rollouts and groups are paused.",
                );
            }
            Ok(0)
        }
    }
}
