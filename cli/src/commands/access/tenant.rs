//! `muster tenant`: the tenant of the caller.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::printer::print_note;
use crate::output::text::about;
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
    /// Write everything of the tenant to a file, as lines of JSON without secrets
    Export {
        /// File to write; it must not exist
        file: PathBuf,
    },
    /// Delete the tenant and everything of it, 7 days from now
    Delete {
        /// Name of the tenant, to confirm
        name: String,
    },
    /// Restore the tenant, whose deletion was requested less than 7 days ago
    Restore,
    /// Rename the tenant
    Rename {
        /// New name of the tenant
        name: String,
    },
    /// Require a second factor of every member with a password, or stop to require it. Needs your password or a
    /// code of the last 15 minutes
    RequireSecondFactor {
        /// Whether it is required
        #[arg(value_enum)]
        setting: Setting,
    },
    /// Pass the schedules of members who left to an owner of the tenant, or stop them
    PassSchedulesOn {
        /// Whether they pass on [default of a new tenant: off]
        #[arg(value_enum)]
        setting: Setting,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Setting {
    On,
    Off,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::Show) {
        Action::Show => session.show(&["tenant"]).await,
        Action::Export { file } => export(&file, session).await,
        Action::Delete { name } => {
            session.change_and_show(Method::DELETE, &["tenant"], &json!({"name": name})).await
        }
        Action::Restore => {
            session.act(&["tenant", "restore"], about("Tenant", "is restored")).await
        }
        Action::RequireSecondFactor { setting } => {
            let is_required = setting == Setting::On;
            let body = json!({ "requires_second_factor": is_required });
            let result = match is_required {
                true => "requires a second factor of its members",
                false => "requires no second factor of its members",
            };
            session.change(Method::PATCH, &["tenant"], &body, about("Tenant", result)).await
        }
        Action::PassSchedulesOn { setting } => {
            let passes_on = setting == Setting::On;
            let body = json!({ "passes_schedules_on": passes_on });
            let result = match passes_on {
                true => "passes schedules of members who left to an owner",
                false => "stops schedules of members who left",
            };
            session.change(Method::PATCH, &["tenant"], &body, about("Tenant", result)).await
        }
        Action::Rename { name } => {
            session
                .change(
                    Method::PATCH,
                    &["tenant"],
                    &json!({"name": name}),
                    about("Tenant", "is renamed"),
                )
                .await
        }
    }
}

/// Most bytes of the last line, which says whether the export is complete.
const MAX_LAST_LINE: usize = 4_096;

/// Writes the export to a new file, which is removed again if the export is not complete.
async fn export(file: &Path, session: &Session) -> Result<u8, CliError> {
    let written = write_export(file, session).await;
    if let Err(error) = written {
        if !matches!(&error, CliError::File { .. }) {
            // The error is more important than what remains of the file.
            let _ = fs::remove_file(file);
        }
        return Err(error);
    }
    print_note(&format!("wrote {}", file.display()));
    Ok(0)
}

async fn write_export(file: &Path, session: &Session) -> Result<(), CliError> {
    let api = &session.api;
    let request = api.request(Method::GET, &["tenant", "export"]);
    let mut response = api.send_stream(request).await?;
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let mut out = options.open(file).map_err(CliError::file("create", file))?;
    let mut tail: Vec<u8> = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        out.write_all(&bytes).map_err(CliError::file("write", file))?;
        tail.extend_from_slice(&bytes);
        tail.drain(..tail.len().saturating_sub(MAX_LAST_LINE));
    }
    out.sync_all().map_err(CliError::file("write", file))?;
    if is_complete(&tail) {
        return Ok(());
    }
    Err(CliError::Answer("the export was cut off before its end; try again".into()))
}

/// True if the last line says that it is the last one.
fn is_complete(tail: &[u8]) -> bool {
    let last = tail.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let last: Value = serde_json::from_slice(last).unwrap_or_default();
    last.get("type").and_then(Value::as_str) == Some("end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_export_with_its_last_line_is_complete() {
        assert!(is_complete(b"{\"type\":\"export\"}\n{\"type\":\"end\",\"lines\":2}\n"));
        for tail in [&b""[..], b"{\"type\":\"export\"}\n", b"{\"type\":\"end\"}\n{\"type\":\"j"] {
            assert!(!is_complete(tail));
        }
    }
}
