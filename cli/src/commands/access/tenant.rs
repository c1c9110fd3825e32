//! `muster tenant`: the tenant of the caller.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::session::Session;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[option("name", "NAME")
    .expects("1 to 128 characters, without control characters or spaces at the ends")];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the tenant, its plan and how much it has (default action)
    Show,
    /// Rename the tenant
    Rename {
        /// New name of the tenant
        name: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::Show) {
        Action::Show => session.show(&["tenant"]).await,
        Action::Rename { name } => {
            session.change(Method::PATCH, &["tenant"], &json!({"name": name})).await
        }
    }
}
