//! `muster packages`: archives that hosts unpack and run.

mod archive;
mod push;
pub mod signing;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::scripts::signing::SignatureOptions;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("VERSION", "version"),
    Column::of("KIND", "kind"),
    Column::of("EXECUTOR", "executor"),
    Column::of("BYTES", "archive_bytes"),
    Column::of("UPLOADED", "created_at"),
    Column::of("SHA256", "sha256"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[option("name", "--name"), option("limit", "--limit")];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all packages, the newest first (default action)
    List {
        /// List the versions of the package with this name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Show a package
    Show {
        /// Package: NAME for its newest version, NAME@VERSION, or an id
        package: String,
    },
    /// Upload a folder or an archive (zip, tar.zst) with a `muster.toml`, as a new version
    ///
    /// A folder is packed without links; folders named .git are left out.
    ///
    ///   muster packages push ./backup
    ///   muster packages push backup-1.2.0.zip
    ///   muster packages push ./backup --key publisher.pem
    #[command(verbatim_doc_comment)]
    Push {
        /// Folder or archive
        source: PathBuf,
        #[command(flatten)]
        signature: SignatureOptions,
    },
    /// Download the archive of a package to a new file
    Download {
        /// Package: NAME for its newest version, NAME@VERSION, or an id
        package: String,
        /// New file
        file: PathBuf,
    },
    /// Delete a version of a package
    Delete {
        /// Package: NAME@VERSION or an id
        package: String,
    },
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let list = Action::List { name: None, limit: LatestLimit::default() };
    match args.action.unwrap_or(list) {
        Action::List { name, limit } => {
            let filters: Vec<(&str, &str)> =
                name.iter().map(|name| ("name", name.as_str())).collect();
            let empty = "no packages; `muster packages push DIR` uploads one";
            let segments = &["packages"];
            let (limit, columns) = (limit.into(), &COLUMNS);
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Show { package } => {
            let id = id_of(session, &package, false).await?;
            session.show(&["packages", &id]).await
        }
        Action::Push { source, signature } => push::push(&source, &signature, session).await,
        Action::Download { package, file } => {
            let id = id_of(session, &package, false).await?;
            download(session, &id, &file).await
        }
        Action::Delete { package } => {
            let id = id_of(session, &package, true).await?;
            session.delete(("Package", &package), &["packages", &id]).await
        }
    }
}

/// The id of a package. With `needs_version`, a name alone is no answer.
async fn id_of(session: &Session, typed: &str, needs_version: bool) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(typed).is_ok() {
        return Ok(typed.to_owned());
    }
    let (name, version) = match typed.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None if needs_version => {
            return Err(CliError::Usage(format!(
                "\"{typed}\" names no version; use NAME@VERSION or an id"
            )));
        }
        None => (typed, None),
    };
    let page = session.api.list(&["packages"], &[("name", name)], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // The newest is the first.
    let found = items.iter().find(|item| {
        version.is_none_or(|version| item.get("version").is_some_and(|found| found == version))
    });
    let id = found.and_then(|item| item.get("id")?.as_str());
    id.map(str::to_owned).ok_or_else(|| CliError::Usage(format!("there is no package \"{typed}\"")))
}

async fn download(session: &Session, id: &str, path: &std::path::Path) -> Result<u8, CliError> {
    let api = &session.api;
    let request = api.request(Method::GET, &["packages", id, "archive"]);
    let mut response = api.send(request.timeout(push::TRANSFER_TIMEOUT)).await?;
    let mut file = std::fs::File::create_new(path).map_err(CliError::file("create", path))?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        bytes += chunk.len();
        file.write_all(&chunk).map_err(CliError::file("write", path))?;
    }
    file.sync_all().map_err(CliError::file("write", path))?;
    print_note(&format!("wrote {bytes} bytes to {}", path.display()));
    Ok(0)
}
