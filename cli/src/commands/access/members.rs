//! `muster members`: the people of the tenant.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 5] = [
    Column::of("EMAIL", "email"),
    Column::of("NAME", "name"),
    Column::of("ROLE", "role"),
    Column::of("SINCE", "created_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("email", "EMAIL").expects("an address such as ada@example.com"),
    option("role", "--role or ROLE"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the members of the tenant (default action)
    List(Limit),
    /// Invite a person and print the token of the invitation, which is shown only once
    Invite {
        /// Address of the person
        email: String,
        /// Role: owner, admin, member or auditor
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// Change the role of a member; one who loses a right by it is signed out, and its API keys end
    SetRole {
        /// Member: an id or an address
        member: String,
        /// Role: owner, admin, member or auditor
        role: String,
    },
    /// Remove a member; its sessions, its API keys and its queued work end
    Remove {
        /// Member: an id or an address
        member: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let (segments, columns) = (&["members"], &COLUMNS);
            let empty = "No members.";
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Invite { email, role } => {
            let body = json!({ "email": email, "role": role });
            let request = session.api.request(Method::POST, &["invitations"]).json(&body);
            let answer = session.api.json(request).await?;
            let Some(token) = answer.get("token").and_then(Value::as_str) else {
                return Err(CliError::Answer("the invitation has no token".into()));
            };
            session.output.new_secret(&answer, token)?;
            print_note(
                "Give it to the person, who accepts within 7 days with `muster accept-invitation`.",
            );
            Ok(0)
        }
        Action::SetRole { member, role } => {
            let id = member_id(session, &member).await?;
            session.change(Method::PATCH, &["members", &id], &json!({ "role": role })).await
        }
        Action::Remove { member } => {
            let id = member_id(session, &member).await?;
            session.delete(&["members", &id]).await
        }
    }
}

/// The id of the member with this id or address.
async fn member_id(session: &Session, typed: &str) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(typed).is_ok() {
        return Ok(typed.to_owned());
    }
    let page = session.api.list(&["members"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
    let text = |item: &Value, field: &str| {
        item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let has_address = |item: &&Value| text(item, "email").eq_ignore_ascii_case(typed);
    let found = items.unwrap_or_default().iter().find(has_address).map(|item| text(item, "id"));
    found.filter(|id| !id.is_empty()).ok_or_else(|| {
        CliError::Usage(format!(
            "no member has the address \"{typed}\"; list them with `muster members`"
        ))
    })
}
