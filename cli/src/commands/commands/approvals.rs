//! `muster approvals`: requests for another person's yes, and the rules that ask for it.

mod rules;
mod sign;
mod work_to_sign;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use self::sign::SignOptions;
use self::work_to_sign::WorkToSign;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::{pluralize, sanitize};
use crate::session::Session;

/// Fewest characters of an id that stand for the whole.
const MIN_PREFIX_CHARS: usize = 8;

const COLUMNS: [Column; 8] = [
    Column::of("STATE", "state"),
    Column::of("COMMAND", "command"),
    Column::of("SCRIPT", "script"),
    Column::of("AGENTS", "agent_count"),
    Column::of("RULES", "rules"),
    Column::by("REQUESTED BY", |item| named(item, "requested_by")),
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
    #[command(flatten)]
    list: ApprovalListArgs,
}

#[derive(Debug, Default, clap::Args)]
struct ApprovalListArgs {
    /// Only requests in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    limit: LatestLimit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Waits for a decision
    Pending,
    /// Another person approved it
    Approved,
    /// Another person refused it
    Refused,
    /// Not decided in time
    Expired,
    /// The work ended before a decision
    Withdrawn,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List requests for approval, newest first (default action)
    List(ApprovalListArgs),
    /// Show a request with everything that an approval would release
    Show {
        /// Id of the request, or its first 8 characters or more
        id: String,
    },
    /// Approve another person's request; its work is released
    Approve {
        /// Id of the request, or its first 8 characters or more
        id: String,
        /// Reason for the decision, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        sign: SignOptions,
    },
    /// Refuse another person's request; its work is never sent
    Refuse {
        /// Id of the request, or its first 8 characters or more
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
    if args.action.is_some() && args.list.state.is_some() {
        return Err(CliError::Usage("--state belongs to the list; put it behind `list`".into()));
    }
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(ApprovalListArgs { state, limit }) => {
            let state = state.as_ref().and_then(ValueEnum::to_possible_value);
            let filters: Vec<_> =
                state.as_ref().map(|state| ("state", state.get_name())).into_iter().collect();
            let (segments, columns, limit) = (&["approvals"], &COLUMNS, limit.into());
            let empty = "No requests for approval.";
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Show { id } => {
            let id = id_of(session, &id).await?;
            let request = session.api.request(Method::GET, &["approvals", &id]);
            let shown = session.api.json(request).await?;
            session.output.details(&shown)?;
            let is_pending = shown.get("state").is_some_and(|state| state == "pending");
            if is_pending && let Ok(work) = WorkToSign::read(&shown) {
                print_note(&format!("to sign exactly this: --expect {}", work.digest()));
            }
            Ok(0)
        }
        Action::Approve { id, reason, sign } => {
            let id = id_of(session, &id).await?;
            let mut body = with_reason(reason);
            if let Some(key) = sign.key() {
                let request = session.api.request(Method::GET, &["approvals", &id]);
                body["capsules"] = sign.capsules(key, &session.api.json(request).await?)?;
            }
            decide(session, &id, "approve", &body).await
        }
        Action::Refuse { id, reason } => {
            let id = id_of(session, &id).await?;
            decide(session, &id, "refuse", &with_reason(Some(reason))).await
        }
        Action::Rules(args) => rules::run(args, session).await,
    }
}

/// The name of a key or a person, else its id.
fn named(item: &Value, field: &str) -> String {
    let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    text(&format!("{field}_name")).or_else(|| text(field)).unwrap_or_else(|| "-".to_owned())
}

/// The id of the request that `typed` is the id of, or the beginning of it.
async fn id_of(session: &Session, typed: &str) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(typed).is_ok() {
        return Ok(typed.to_owned());
    }
    let page = session.api.list(&["approvals"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ids = items.iter().filter_map(|item| item.get("id")?.as_str());
    only_with_prefix(typed, ids)
}

/// The only id that begins with what was typed.
fn only_with_prefix<'a>(
    typed: &str,
    ids: impl Iterator<Item = &'a str>,
) -> Result<String, CliError> {
    if typed.len() < MIN_PREFIX_CHARS {
        return Err(CliError::Usage(format!(
            "\"{typed}\" is too short; type at least {MIN_PREFIX_CHARS} characters of the id"
        )));
    }
    let typed_id = typed.to_ascii_lowercase();
    let found: Vec<_> = ids.filter(|id| id.starts_with(&typed_id)).collect();
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(CliError::Usage(format!(
            "no request for approval has the id \"{typed}\"; list them with `muster approvals`"
        ))),
        several => Err(CliError::Usage(format!(
            "\"{typed}\" matches more than one request; use an id:\n  {}",
            several.join("\n  ")
        ))),
    }
}

fn with_reason(reason: Option<String>) -> Value {
    reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }))
}

/// `id`: the whole id.
async fn decide(session: &Session, id: &str, verb: &str, body: &Value) -> Result<u8, CliError> {
    let request = session.api.request(Method::POST, &["approvals", id, verb]).json(body);
    let answer = session.api.json(request).await?;
    session.output.answer(&answer, |answer| {
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        let count = answer.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
        sanitize(&format!("{}: {}", text("state"), pluralize(count, "agent")))
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_of_an_id_must_be_long_enough_and_match_one_request() {
        let ids = ["01890000-aaaa", "01890000-bbbb", "02000000-cccc"];
        let found = |typed: &str| only_with_prefix(typed, ids.into_iter());
        assert_eq!(found("02000000").ok().as_deref(), Some("02000000-cccc"));
        assert_eq!(found("01890000-A").ok().as_deref(), Some("01890000-aaaa"));
        for typed in ["0200000", "01890000", "03000000", ""] {
            assert_eq!(found(typed).unwrap_err().exit_code(), 2, "{typed}");
        }
    }
}
