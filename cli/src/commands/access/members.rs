//! `muster members`: the people of the tenant, and who is invited.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::invitations;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::role::Role;
use crate::listing::{Limit, List};
use crate::output::table::Column;
use crate::output::text::about;
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
    /// Invite a person; a server without mail prints the token of the invitation, which is shown only once
    Invite {
        /// Address of the person
        email: String,
        /// Role of the person in the tenant
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
    },
    /// List the open invitations
    Invitations(Limit),
    /// Withdraw an open invitation; its token is invalid then
    Withdraw {
        /// Invitation: an id, or the address of the person
        #[arg(value_name = "INVITATION")]
        invitation: String,
    },
    /// Change the role of a member; one who loses a right by it is signed out, and its API keys end
    SetRole {
        /// Member: an id or an address
        member: String,
        /// Role of the person in the tenant
        #[arg(value_enum)]
        role: Role,
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
        Action::Invite { email, role } => invitations::invite(session, &email, role.as_str()).await,
        Action::Invitations(limit) => invitations::list(session, limit).await,
        Action::Withdraw { invitation } => invitations::withdraw(session, &invitation).await,
        Action::SetRole { member, role } => {
            let id = member_id(session, &member).await?;
            session
                .change(
                    Method::PATCH,
                    &["members", &id],
                    &json!({ "role": role.as_str() }),
                    about("Member", &format!("has the role {}", role.as_str())),
                )
                .await
        }
        Action::Remove { member } => {
            let id = member_id(session, &member).await?;
            session.delete(("Member", &member), &["members", &id]).await
        }
    }
}

/// The id of the member with this id or address.
pub async fn member_id(session: &Session, typed: &str) -> Result<String, CliError> {
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
