//! `muster api-keys`: the keys that people and programs use the API with.

mod rights;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use self::rights::{ApiKeyChanges, Rights};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::{about, sanitize};
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 9] = [
    Column::of("NAME", "name"),
    Column::of("ROLE", "role"),
    Column::of("PREFIX", "prefix"),
    Column::of("TARGET", "target"),
    Column::of("CREATED", "created_at"),
    Column::by("CREATED BY", creator),
    Column::of("EXPIRES", "expires_at"),
    Column::of("LAST USED", "last_used_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("role", "--role"),
    option("scopes", "--scope"),
    option("expires_at", "--expires")
        .expects("a future time such as 2027-01-31T00:00:00Z or 90d, before your own key expires"),
    option("target", "--target or --any-target")
        .expects("an expression of tag: and id: such as `tag:web & !tag:production`"),
    option("scripts", "--script or --any-script")
        .expects("the name of a script: 1 to 128 of letters, digits, ., _, -"),
    option("max_fan_out", "--max-fan-out or --any-fan-out"),
    option("grace_ms", "--overlap"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all API keys, without their secrets (default action)
    List(Limit),
    /// Show all details of an API key
    Show {
        /// API key: an id, a name, or a unique prefix of one
        key: String,
    },
    /// Create an API key and print its secret, which is shown only once
    Create {
        /// Name of the key
        name: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Change the rights of an API key; its secret stays the same
    Edit {
        /// API key: an id or a full name
        key: String,
        #[command(flatten)]
        changes: ApiKeyChanges,
    },
    /// Replace the secret of an API key and print the new one, which is shown only once
    Rotate {
        /// API key: an id or a full name
        key: String,
        /// Accept the old secret for this long, at most 7d [default: 0s]
        #[arg(long, value_name = "TIME", value_parser = milliseconds)]
        overlap: Option<u64>,
        /// Only end the old secret of an earlier rotation now, and create no new one
        #[arg(long, conflicts_with = "overlap")]
        end_overlap: bool,
    },
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

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List(args.limit)) {
        Action::List(limit) => {
            let (segments, columns) = (&["keys"], &COLUMNS);
            let empty = "No API keys.";
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { key } => {
            let id = session.id_of(ResourceKind::ApiKey, &key).await?;
            session.show(&["keys", &id]).await
        }
        Action::Create { name, rights } => {
            let mut body = rights.body();
            body.insert("name".into(), json!(name));
            let request = session.api.request(Method::POST, &["keys"]).json(&body);
            show_secret(session, &session.api.json(request).await?)
        }
        Action::Edit { key, changes } => {
            let id = session.exact_id_of(ResourceKind::ApiKey, &key).await?;
            let body = changes.body().into();
            session
                .change(Method::PATCH, &["keys", &id], &body, about("API key", "is changed"))
                .await
        }
        Action::Rotate { key, end_overlap: true, .. } => {
            let id = session.exact_id_of(ResourceKind::ApiKey, &key).await?;
            let segments = ["keys", &id, "previous-secret"];
            let request = session.api.request(Method::DELETE, &segments);
            session.output.details(&session.api.json(request).await?)?;
            Ok(0)
        }
        Action::Rotate { key, overlap, .. } => {
            let id = session.exact_id_of(ResourceKind::ApiKey, &key).await?;
            let body = json!({"grace_ms": overlap.unwrap_or(0)});
            let request = session.api.request(Method::POST, &["keys", &id, "rotate"]).json(&body);
            let answer = session.api.json(request).await?;
            show_secret(session, &answer)?;
            print_note(&old_secret(&answer));
            Ok(0)
        }
        Action::Revoke { key, cascade, cancel_queued } => {
            let id = session.exact_id_of(ResourceKind::ApiKey, &key).await?;
            let queued = if cancel_queued { "cancel" } else { "keep" };
            let request = session.api.request(Method::DELETE, &["keys", &id]);
            let request = request.query(&[("queued", queued)]).query(&[("cascade", cascade)]);
            let answer = session.api.json(request).await?;
            session.output.answer(&answer, |answer| sanitize(&revoked(&key, answer)))?;
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

/// What a revocation did: the key itself, and those that it created.
fn revoked(key: &str, answer: &Value) -> String {
    let count = answer.get("revoked_keys").and_then(Value::as_array).map_or(1, Vec::len);
    match count.saturating_sub(1) {
        0 => format!("API key {key} is revoked."),
        1 => format!("API key {key} and 1 key that it created are revoked."),
        others => format!("API key {key} and {others} keys that it created are revoked."),
    }
}

/// The name of the key or person that created a key, else its id.
fn creator(key: &Value) -> String {
    let text = |field: &str| key.get(field).and_then(Value::as_str).map(str::to_owned);
    text("created_by_name").or_else(|| text("created_by")).unwrap_or_else(|| "-".to_owned())
}

fn show_secret(session: &Session, answer: &Value) -> Result<u8, CliError> {
    let Some(secret) = answer.get("key").and_then(Value::as_str) else {
        return Err(CliError::Answer("the new key has no secret".into()));
    };
    session.output.new_secret(answer, secret)?;
    Ok(0)
}

/// What happens to the secret before a rotation.
fn old_secret(answer: &Value) -> String {
    match answer["previous_secret"]["valid_until"].as_str() {
        Some(until) => format!(
            "The old secret is valid until {until}. End it earlier with `muster api-keys rotate KEY --end-overlap`."
        ),
        None => "The old secret is invalid now.".to_owned(),
    }
}
