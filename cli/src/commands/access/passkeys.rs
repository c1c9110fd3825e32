//! `muster passkeys`: devices that sign the person in. They are added in the dashboard.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::login::read_secret;
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 4] = [
    Column::of("NAME", "name"),
    Column::of("SINCE", "created_at"),
    Column::of("LAST USED", "last_used_at"),
    Column::of("ID", "id"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List your passkeys (default action). A browser adds them, on the page of your account
    List,
    /// Remove one, which signs you in no longer; your other sessions end
    Remove {
        /// Id of the passkey
        id: String,
        /// Give a code of your device, or a recovery code, from a prompt or standard input [default: none,
        /// which is enough if you confirmed the session with a passkey]
        #[arg(long)]
        code: bool,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let request = session.api.request(Method::GET, &["me", "passkeys"]);
            let passkeys = session.api.json(request).await?;
            session.output.list(&passkeys, &COLUMNS, "No passkeys.")?;
        }
        Action::Remove { id, code } => {
            let code = code.then(|| read_secret("Code: ")).transpose()?;
            let body = json!({ "code": code.as_ref().map(|code| code.trim()) });
            let request = session.api.request(Method::DELETE, &["me", "passkeys", &id]).json(&body);
            let answer = session.api.json(request).await?;
            session.output.answer(&answer, |_| "The passkey is removed.".to_owned())?;
            print_note("Your other sessions have ended.");
        }
    }
    Ok(0)
}
