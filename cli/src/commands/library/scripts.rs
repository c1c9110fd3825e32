//! `muster scripts`: the scripts that the server keeps, and their versions.

mod edit;
mod folder;
mod local_script;
mod open_folder;
mod rehearse;
pub mod signing;
mod starter;

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use self::folder::{PullOptions, PushOptions};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, Limit, List};
use crate::output::printer::print;
use crate::output::table::Column;
use crate::output::text::{about, sanitize, sanitize_lines};
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("FOLDER", "folder"),
    Column::of("VERSION", "current_version"),
    Column::of("LATEST", "latest_version"),
    Column::of("INTERPRETER", "interpreter"),
    Column::of("DESCRIPTION", "description"),
];
const VERSION_COLUMNS: [Column; 6] = [
    Column::of("VERSION", "version"),
    Column::of("CURRENT", "is_current"),
    Column::of("SAVED", "created_at"),
    Column::of("AUTHOR", "author_name"),
    Column::of("SHA256", "sha256"),
    Column::of("MESSAGE", "message"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME").expects("1 to 128 letters, digits and . _ -, no dot at the start"),
    option("body", "FILE").expects("text of at most 256 KiB without control characters"),
    option("interpreter", "--interpreter")
        .expects("sh, bash, python, node, powershell, another program's name, or its full path"),
    option("folder", "--folder")
        .expects("parts such as ops/disk, of letters, digits and . _ -, no dot at the start"),
    option("tags", "--tag").expects("letters, digits and . _ : / -"),
    option("tag", "--tag").expects("letters, digits and . _ : / -"),
    option("description", "--description"),
    option("message", "--message").expects("at most 512 characters"),
    option("current_version", "VERSION"),
    option("search", "--search"),
    option("limit", "--limit"),
    option("statement", "--key"),
    option("parameters", "--parameter"),
    option("secret_parameters", "--dummy"),
    option("timeout_ms", "--timeout"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all scripts (default action)
    List {
        /// List scripts with this text in name or description
        #[arg(long)]
        search: Option<String>,
        /// List scripts of this folder and of those in it
        #[arg(long)]
        folder: Option<String>,
        /// List scripts with this tag
        #[arg(long)]
        tag: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a script, or one version with its signatures
    Show {
        /// Script: an id, a name, or a unique prefix of one; NAME@N is its version N
        script: String,
        /// Show this version
        #[arg(long, value_name = "N")]
        version: Option<u32>,
        /// Print only the text of the script, of the current version by default
        #[arg(long)]
        body: bool,
    },
    /// Create a script from a file; `push` creates scripts with parameters
    Create {
        /// Name, which never changes
        name: String,
        /// File with the text of the script
        file: PathBuf,
        /// Program that runs it: sh, bash, python, node, powershell, or another one
        #[arg(long, default_value = "sh")]
        interpreter: String,
        /// Folder such as ops/disk
        #[arg(long)]
        folder: Option<String>,
        /// Tag; repeatable
        #[arg(long = "tag")]
        tags: Vec<String>,
        /// Describe it
        #[arg(long)]
        description: Option<String>,
        /// Say why it is saved
        #[arg(short, long)]
        message: Option<String>,
    },
    /// Edit the text of a script in $EDITOR, or replace it by a file, as a new version
    Edit(edit::EditOptions),
    /// List the versions of a script
    History {
        /// Script: an id, a name, or a unique prefix of one
        script: String,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Compare two versions of a script, or a folder of scripts with the server
    ///
    ///   muster scripts diff disk-report        # the current version with the one before
    ///   muster scripts diff disk-report 3 5
    ///   muster scripts diff ./library
    #[command(verbatim_doc_comment)]
    Diff {
        /// Script, or folder
        what: String,
        /// Older version [default: the one before the newer]
        from: Option<u32>,
        /// Newer version [default: the current one]
        to: Option<u32>,
    },
    /// Make another version the current one
    Rollback {
        /// Script: an id, a name, or a unique prefix of one
        script: String,
        /// Number of the version
        version: u32,
    },
    /// Delete a script with its versions
    Delete {
        /// Script: an id or a full name
        script: String,
        /// Delete it although schedules or hooks run it: they fail from then on
        #[arg(long)]
        force: bool,
    },
    /// List the scripts of the starter library, or save some of them
    ///
    ///   muster scripts starter
    ///   muster scripts starter disk-report log-tail
    #[command(verbatim_doc_comment)]
    Starter(starter::StarterOptions),
    /// Run a script with dummy secrets, and show where they come out
    ///
    /// The secrets are random for each run. Exit status: 0 if none came out, 1 otherwise.
    ///
    ///   muster scripts rehearse deploy --on web-1 -p ENV=test
    #[command(verbatim_doc_comment)]
    Rehearse(rehearse::RehearseOptions),
    /// Save the scripts of a folder that differ from those of the server
    ///
    /// Each folder with a `script.toml` is a script. Scripts that only the server has stay.
    Push(PushOptions),
    /// Write the current versions of the server's scripts to a folder, for `push`
    Pull(PullOptions),
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let list = Action::List { search: None, folder: None, tag: None, limit: Limit::default() };
    match args.action.unwrap_or(list) {
        Action::List { search, folder, tag, limit } => {
            let filters = [("search", &search), ("folder", &folder), ("tag", &tag)];
            let filters: Vec<(&str, &str)> = filters
                .iter()
                .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
                .collect();
            let empty = "no scripts; `muster scripts starter` offers some, and `muster scripts push DIR` saves yours";
            let list =
                List { segments: &["scripts"], filters: &filters, limit, columns: &COLUMNS, empty };
            list.show(session).await
        }
        Action::Show { script, version, body } => {
            let (script, version) = versioned(&script, version)?;
            show(session, script, version, body).await
        }
        Action::Create { name, file, interpreter, folder, tags, description, message } => {
            let text = std::fs::read_to_string(&file).map_err(CliError::file("read", &file))?;
            let request = json!({
                "name": name, "body": text, "interpreter": interpreter, "folder": folder, "tags": tags,
                "description": description, "message": message,
            });
            let said = about("Script", "is created");
            session.change(Method::POST, &["scripts"], &request, said).await
        }
        Action::Edit(options) => edit::run(options, session).await,
        Action::History { script, limit } => {
            let id = session.id_of(ResourceKind::Script, &script).await?;
            let segments = ["scripts", &id, "versions"];
            let (limit, columns) = (limit.into(), &VERSION_COLUMNS);
            let list = List { segments: &segments, filters: &[], limit, columns, empty: "" };
            list.show(session).await
        }
        Action::Diff { what, from: None, to: None } if PathBuf::from(&what).is_dir() => {
            folder::push(PushOptions::comparing(what.into()), session).await
        }
        Action::Diff { what, from, to } => diff(session, &what, from, to).await,
        Action::Rollback { script, version } => {
            let id = session.id_of(ResourceKind::Script, &script).await?;
            let change = json!({ "current_version": version });
            let done = format!("runs version {version} now");
            let said = about("Script", &done);
            session.change(Method::PATCH, &["scripts", &id], &change, said).await
        }
        Action::Delete { script, force } => {
            let id = session.exact_id_of(ResourceKind::Script, &script).await?;
            let request = session.api.request(Method::DELETE, &["scripts", &id]);
            let request = if force { request.query(&[("force", "true")]) } else { request };
            let answer = session.api.json(request).await?;
            session
                .output
                .answer(&answer, |_| sanitize(&format!("Script {script} is deleted.")))?;
            Ok(0)
        }
        Action::Starter(options) => starter::run(options, session).await,
        Action::Rehearse(options) => Box::pin(rehearse::run(options, session)).await,
        Action::Push(options) => folder::push(options, session).await,
        Action::Pull(options) => folder::pull(options, session).await,
    }
}

/// A script, and the version that is named behind it or by an option.
fn versioned(typed: &str, version: Option<u32>) -> Result<(&str, Option<u32>), CliError> {
    let Some((script, number)) = typed.rsplit_once('@') else { return Ok((typed, version)) };
    let named = number.parse().map_err(|_| {
        CliError::Usage(format!("`{number}` is no version; use NAME@N, such as backup@3"))
    })?;
    match version.filter(|version| *version != named) {
        Some(other) => Err(CliError::Usage(format!("both version {named} and {other} are given"))),
        None => Ok((script, Some(named))),
    }
}

async fn show(
    session: &Session,
    script: &str,
    version: Option<u32>,
    is_body_only: bool,
) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Script, script).await?;
    if version.is_none() && !is_body_only {
        return session.show(&["scripts", &id]).await;
    }
    let number = match version {
        Some(number) => u64::from(number),
        None => number_of(&get(session, &["scripts", &id]).await?, "current_version")?,
    };
    let version = get(session, &["scripts", &id, "versions", &number.to_string()]).await?;
    if is_body_only && !session.output.json {
        let body = version.get("body").and_then(Value::as_str).unwrap_or_default();
        print(sanitize_lines(body).trim_end_matches('\n'))?;
        return Ok(0);
    }
    session.output.details(&version)?;
    Ok(0)
}

async fn diff(
    session: &Session,
    script: &str,
    from: Option<u32>,
    to: Option<u32>,
) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Script, script).await?;
    let to = match to {
        Some(to) => u64::from(to),
        None => number_of(&get(session, &["scripts", &id]).await?, "current_version")?,
    };
    let from = from.map_or_else(|| to.saturating_sub(1).max(1), u64::from);
    let request = session.api.request(Method::GET, &["scripts", &id, "diff"]);
    let answer = session.api.json(request.query(&[("from", from), ("to", to)])).await?;
    session.output.answer(&answer, |diff| {
        let text = |field: &str| diff.get(field).and_then(Value::as_str).unwrap_or_default();
        match (text("document"), text("body")) {
            ("", "") => "no difference".to_owned(),
            (document, body) => sanitize_lines(&format!("{document}{body}")).trim_end().to_owned(),
        }
    })?;
    Ok(0)
}

/// Requests one object.
async fn get(session: &Session, segments: &[&str]) -> Result<Value, CliError> {
    session.api.json_with_retries(session.api.request(Method::GET, segments)).await
}

fn number_of(value: &Value, field: &str) -> Result<u64, CliError> {
    let number = value.get(field).and_then(Value::as_u64);
    number.ok_or_else(|| CliError::Answer(format!("the script has no {field}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_named_behind_the_script_or_by_the_option() {
        assert_eq!(versioned("backup", Some(2)).expect("valid"), ("backup", Some(2)));
        assert_eq!(versioned("backup@3", None).expect("valid"), ("backup", Some(3)));
        assert_eq!(versioned("backup@3", Some(3)).expect("valid"), ("backup", Some(3)));
        for (typed, version) in [("backup@3", Some(2)), ("backup@x", None), ("backup@", None)] {
            assert!(versioned(typed, version).is_err(), "{typed}");
        }
    }
}
