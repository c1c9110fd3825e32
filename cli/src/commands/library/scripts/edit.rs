//! `muster scripts edit`: a new version with another text and the same settings.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use super::{get, number_of};
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::session::{ResourceKind, Session};

#[derive(Debug, clap::Args)]
pub struct EditOptions {
    /// Script: an id, a name, or a unique prefix of one
    script: String,
    /// Take the text from this file instead of an editor
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Say why it is saved
    #[arg(short, long)]
    message: Option<String>,
    /// Keep the current version, for example until the new one is signed
    #[arg(long)]
    keep_current: bool,
}

/// Saves the new version.
///
/// # Errors
/// [`CliError`], also if another person saved a version meanwhile.
pub async fn run(options: EditOptions, session: &Session) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Script, &options.script).await?;
    let script = get(session, &["scripts", &id]).await?;
    let current = number_of(&script, "current_version")?.to_string();
    let version = get(session, &["scripts", &id, "versions", &current]).await?;
    let before = version.get("body").and_then(Value::as_str).unwrap_or_default();
    let body = match &options.file {
        Some(path) => std::fs::read_to_string(path).map_err(CliError::file("read", path))?,
        None => edited(before)?,
    };
    if body == before {
        print_note("the text is the same; nothing was saved");
        return Ok(0);
    }
    let request = json!({
        "body": body, "interpreter": version["interpreter"], "parameters": version["parameters"],
        "timeout_ms": version["timeout_ms"], "message": options.message,
        "make_current": !options.keep_current, "expected_version": script["latest_version"],
    });
    session.change_and_show(Method::POST, &["scripts", &id, "versions"], &request).await
}

/// The text as the person leaves it in the editor.
fn edited(before: &str) -> Result<String, CliError> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|editor| !editor.trim().is_empty()).unwrap_or("vi".into());
    let words = shlex::split(&editor).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| CliError::Usage("EDITOR is not a command".into()))?;
    let folder = std::env::temp_dir().join(format!("muster-{}", uuid::Uuid::new_v4()));
    create_private(&folder)?;
    let path = folder.join("script");
    let edited = edit_file(&words, &path, before);
    let _ = std::fs::remove_dir_all(&folder);
    edited
}

fn edit_file(words: &[String], path: &Path, before: &str) -> Result<String, CliError> {
    std::fs::write(path, before).map_err(CliError::file("write", path))?;
    let (program, arguments) = words.split_first().unwrap_or((&words[0], &[]));
    let status = Command::new(program).args(arguments).arg(path).status();
    match status.map_err(CliError::file("start", Path::new(program)))?.success() {
        true => std::fs::read_to_string(path).map_err(CliError::file("read", path)),
        false => Err(CliError::Unsuccessful("the editor failed; nothing was saved".into())),
    }
}

fn create_private(folder: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let created = std::fs::DirBuilder::new().mode(0o700).create(folder);
    created.map_err(CliError::file("create", folder))
}
