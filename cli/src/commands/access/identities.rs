//! `muster identities`: what the person signs in with at providers of single sign-on.

use clap::Subcommand;
use reqwest::Method;

use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 5] = [
    Column::of("PROVIDER", "provider"),
    Column::of("ISSUER", "issuer"),
    Column::of("SUBJECT", "subject"),
    Column::of("SINCE", "created_at"),
    Column::of("ID", "id"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List your identities at providers of single sign-on (default action)
    List,
    /// Remove one, which signs you in no longer; your other sessions end, and so does a membership that the
    /// provider granted
    Remove {
        /// Id of the identity
        id: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let request = session.api.request(Method::GET, &["me", "identities"]);
            let identities = session.api.json(request).await?;
            session.output.list(&identities, &COLUMNS, "No identities.")?;
        }
        Action::Remove { id } => {
            let request = session.api.request(Method::DELETE, &["me", "identities", &id]);
            let answer = session.api.json(request).await?;
            session.output.answer(&answer, |_| "The identity is removed.".to_owned())?;
            print_note("Your other sessions have ended.");
        }
    }
    Ok(0)
}
