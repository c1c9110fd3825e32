//! `muster files`: what was uploaded to be pushed.

use clap::Subcommand;

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, List};
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("BYTES", "bytes"),
    Column::of("RECEIVED", "received_bytes"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("ID", "id"),
    Column::of("SHA256", "sha256"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[option("limit", "--limit")];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all uploaded files, the newest first (default action)
    List {
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Show an uploaded file
    Show {
        /// Id of the file, or its first 8 characters or more
        file: String,
    },
    /// Delete an uploaded file; hosts keep what they have written
    Delete {
        /// Id of the file, or its first 8 characters or more
        file: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List { limit: LatestLimit::default() }) {
        Action::List { limit } => {
            let empty = "no uploaded files; `muster push FILE AGENT:PATH` uploads one";
            let (limit, columns, segments) = (limit.into(), &COLUMNS, &["files"]);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { file } => {
            let id = session.work_id("files", &file).await?;
            session.show(&["files", &id]).await
        }
        Action::Delete { file } => {
            let id = session.work_id("files", &file).await?;
            session.delete(("File", &id), &["files", &id]).await
        }
    }
}
