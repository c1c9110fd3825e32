//! `muster approvals`: requests for somebody else's yes, and the rules that ask for it.

mod rules;
mod sign;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use self::sign::SignOptions;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, List};
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::session::Session;

const COLUMNS: [Column; 8] = [
    Column::of("STATE", "state"),
    Column::of("COMMAND", "command"),
    Column::of("SCRIPT", "script"),
    Column::of("AGENTS", "agent_count"),
    Column::of("RULES", "rules"),
    Column::of("REQUESTED BY", "requested_by"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("state", "--state"),
    option("capsules", "--sign"),
    option("reason", "--reason").expects("1 to 500 characters, without control characters"),
    option("name", "NAME")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("target", "--target")
        .expects("an expression of tag: and id: such as `tag:web & !tag:production`"),
    option("scripts", "--script")
        .expects("the name of a script: 1 to 128 of letters, digits, ., _, -"),
    option("ad_hoc", "--ad-hoc"),
    option("life_cycle", "--life-cycle"),
    option("fan_out_above", "--fan-out-above"),
    option("wait_ms", "--wait"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List requests for approval, newest first (default action)
    List {
        /// Only requests in this state: pending, approved, refused, expired or withdrawn
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Show a request with everything that an approval would release
    Show {
        /// Id of the request
        id: String,
    },
    /// Approve somebody else's request; its work is released
    Approve {
        /// Id of the request
        id: String,
        /// Reason for the decision, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        sign: SignOptions,
    },
    /// Refuse somebody else's request; its work is never sent
    Refuse {
        /// Id of the request
        id: String,
        /// Reason for the decision, for the history
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Manage the rules that make work wait for an approval
    Rules(rules::Args),
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let list = || Action::List { state: None, limit: LatestLimit::default() };
    match args.action.unwrap_or_else(list) {
        Action::List { state, limit } => {
            let filters: Vec<_> =
                state.as_deref().map(|state| ("state", state)).into_iter().collect();
            let (segments, columns, limit) = (&["approvals"], &COLUMNS, limit.into());
            let empty = "No requests for approval.";
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Show { id } => session.show(&["approvals", &id]).await,
        Action::Approve { id, reason, sign } => {
            let mut body = with_reason(reason);
            if let Some(key) = sign.key() {
                let request = session.api.request(Method::GET, &["approvals", &id]);
                body["capsules"] = sign.capsules(key, &session.api.json(request).await?)?;
            }
            decide(session, &id, "approve", &body).await
        }
        Action::Refuse { id, reason } => {
            decide(session, &id, "refuse", &with_reason(Some(reason))).await
        }
        Action::Rules(args) => rules::run(args, session).await,
    }
}

fn with_reason(reason: Option<String>) -> Value {
    reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }))
}

async fn decide(session: &Session, id: &str, verb: &str, body: &Value) -> Result<u8, CliError> {
    let request = session.api.request(Method::POST, &["approvals", id, verb]).json(body);
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, |answer| {
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        let count = answer.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
        sanitize(&format!("{}: {count} agents", text("state")))
    })?;
    Ok(0)
}
