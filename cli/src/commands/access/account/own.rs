//! `muster account`: the address, the password and the sessions of the person.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::login::{read_secret, read_with_new_password};
use super::totp;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames =
    &[option("email", "EMAIL").expects("an address such as ada@example.com")];

const COLUMNS: [Column; 6] = [
    Column::by("THIS ONE", |session| {
        let is_current = session["is_current"].as_bool().unwrap_or_default();
        if is_current { "yes".to_owned() } else { "-".to_owned() }
    }),
    Column::of("SINCE", "created_at"),
    Column::of("USED", "refreshed_at"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("SOURCE", "source"),
    Column::of("ID", "id"),
];

const PROVIDER_COLUMNS: [Column; 3] =
    [Column::of("NAME", "name"), Column::of("TITLE", "title"), Column::of("START", "start_path")];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Request another address for your account; a code is sent to it, for `muster account verify-email`
    ChangeEmail {
        /// The new address
        email: String,
    },
    /// Change the address of your account with the code that was sent to the new one, which comes from a
    /// prompt or standard input
    VerifyEmail,
    /// Change your password; the current one and the new one come from prompts, or from two lines of
    /// standard input. Your other sessions end
    #[command(visible_alias = "password")]
    ChangePassword {
        /// Remove your identities at providers of single sign-on too [default: they stay]
        #[arg(long)]
        remove_identities: bool,
    },
    /// Codes of a device as a second factor: show, enable, confirm, disable, or replace recovery codes
    Totp(totp::Args),
    /// List the providers of single sign-on that you can sign in with in a browser
    Providers,
    /// List where you are signed in, or end one of these sessions
    Sessions(SessionsArgs),
}

#[derive(Debug, clap::Args)]
struct SessionsArgs {
    #[command(subcommand)]
    action: Option<SessionAction>,
}

#[derive(Debug, Subcommand)]
enum SessionAction {
    /// List where you are signed in, the newest first (default action)
    List,
    /// End a session; its tokens are invalid then
    End {
        /// Id of the session
        id: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action {
        Action::ChangeEmail { email } => {
            session
                .change(Method::POST, &["me", "email"], &json!({ "email": email }), |_| {
                    format!("A code was sent to {email}.")
                })
                .await?;
            print_note("a code is sent to the address; run `muster account verify-email`");
            Ok(0)
        }
        Action::VerifyEmail => {
            let body = json!({ "code": read_secret("Code: ")?.trim() });
            session
                .change(Method::POST, &["me", "email", "verify"], &body, |_| {
                    "The address is changed.".to_owned()
                })
                .await
        }
        Action::ChangePassword { remove_identities } => {
            change_password(remove_identities, session).await
        }
        Action::Totp(args) => totp::run(args, session).await,
        Action::Providers => {
            let request = session.api.request(Method::GET, &["auth", "oidc", "providers"]);
            let providers = session.api.json(request).await?;
            let none = "No providers. The operator sets them.";
            session.output.list(&providers, &PROVIDER_COLUMNS, none)?;
            Ok(0)
        }
        Action::Sessions(args) => match args.action.unwrap_or(SessionAction::List) {
            SessionAction::List => {
                let request = session.api.request(Method::GET, &["me", "sessions"]);
                let sessions = session.api.json(request).await?;
                session.output.list(&sessions, &COLUMNS, "No sessions.")?;
                Ok(0)
            }
            SessionAction::End { id } => {
                let request = session.api.request(Method::DELETE, &["me", "sessions", &id]);
                let answer = session.api.json(request).await?;
                session.output.answer(&answer, |_| "ended".to_owned())?;
                Ok(0)
            }
        },
    }
}

async fn change_password(remove_identities: bool, session: &Session) -> Result<u8, CliError> {
    let (current, new) = read_with_new_password("Current password: ")?;
    let body = json!({
        "current_password": current,
        "new_password": new,
        "remove_identities": remove_identities,
    });
    let request = session.api.request(Method::POST, &["me", "password"]).json(&body);
    let answer: Value = session.api.json(request).await?;
    session.output.answer(&answer, |_| "the password was changed".to_owned())?;
    print_note("Your other sessions have ended.");
    Ok(0)
}
