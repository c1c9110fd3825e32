//! `muster scripts push|pull`, and the comparison of a folder with the server.

use std::path::PathBuf;

use muster_protocol::error_chain;
use reqwest::Method;
use serde_json::{Value, json};

use super::local_script::{Description, LocalScript, ScriptPlaces};
use super::open_folder::OpenFolder;
use super::signing::{SignatureOptions, check_leap, is_signed_by, sign_version};
use super::{get, number_of};
use crate::error::CliError;
use crate::explanation::explain;
use crate::output::line_diff::line_diff;
use crate::output::printer::print_note;
use crate::output::text::{sanitize, sanitize_lines};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct PushOptions {
    /// Folder with scripts, such as a Git working tree
    folder: PathBuf,
    /// Only show what would be saved
    #[arg(long)]
    dry_run: bool,
    /// Say why the versions are saved
    #[arg(short, long)]
    message: Option<String>,
    #[command(flatten)]
    signature: SignatureOptions,
    /// Shows the lines that differ, and has the exit status of `diff`.
    #[arg(skip)]
    compares: bool,
}

#[derive(Debug, clap::Args)]
pub struct PullOptions {
    /// Folder to write to
    folder: PathBuf,
    /// Only show what would be written
    #[arg(long)]
    dry_run: bool,
}

impl PushOptions {
    /// Only compares.
    pub fn comparing(folder: PathBuf) -> Self {
        let signature = SignatureOptions::default();
        Self { folder, dry_run: true, message: None, signature, compares: true }
    }
}

/// What the server has of a local script.
struct ServerScript {
    id: String,
    latest_version: u64,
    current_version: u64,
    script: LocalScript,
    /// The current version.
    version: Value,
}

/// Saves what differs. Repeated, it changes nothing.
///
/// # Errors
/// [`CliError`]; what was saved before stays.
pub async fn push(options: PushOptions, session: &Session) -> Result<u8, CliError> {
    let mut items = Vec::new();
    let (mut differ, mut exit_code) = (false, 0);
    for local in LocalScript::read_all(&options.folder)? {
        let server = find(session, &local.name).await?;
        let is_signed = match (&server, options.signature.publisher()?) {
            (Some(server), Some(publisher)) => {
                is_signed_by(&server.version, &publisher, &local.name, server.current_version)
            }
            (_, publisher) => publisher.is_none(),
        };
        let action = match &server {
            None => "create",
            Some(server) if !local.runs_the_same(&server.script) => "save",
            Some(server) if !local.shows_the_same(&server.script) => "update",
            Some(_) if !is_signed => "sign",
            Some(_) => "unchanged",
        };
        differ |= action != "unchanged";
        let mut item = json!({"name": local.name, "action": action, "sha256": local.sha256()});
        if let Some(server) = server.as_ref().filter(|_| options.compares) {
            item["diff"] = difference(&server.script, &local).into();
        }
        let saved = match (action, options.dry_run) {
            ("unchanged", _) => Ok(()),
            // The rules that the server has too.
            (_, true) => local.document(1).map(drop),
            (_, false) => save(&options, session, &local, server.as_ref(), action).await,
        };
        match saved {
            Ok(()) => {}
            // The other scripts have nothing to do with it.
            Err(error @ (CliError::Usage(_) | CliError::Refused(_) | CliError::Answer(_))) => {
                exit_code = exit_code.max(error.exit_code());
                let reason = sanitize(&error_chain(&explain(error, super::OPTIONS)));
                print_note(&format!("`{}` is not saved: {reason}", sanitize(&local.name)));
                item["action"] = "refused".into();
                item["reason"] = reason.into();
            }
            Err(error) => {
                print_note(&format!("`{}` was not saved", local.name));
                return Err(error);
            }
        }
        items.push(item);
    }
    let answer = json!({"items": items, "dry_run": options.dry_run});
    session.output.answer(&answer, lines)?;
    Ok(exit_code.max(u8::from(options.compares && differ)))
}

/// The lines that differ, of the description and of the text.
fn difference(server: &LocalScript, local: &LocalScript) -> Option<String> {
    let described = |script: &LocalScript| {
        // The names of files are the person's own.
        let file = local.description.file.clone();
        let description = Description {
            file,
            name: local.description.name.clone(),
            ..script.description.clone()
        };
        toml::to_string_pretty(&description).unwrap_or_default()
    };
    let parts = [
        (described(server), described(local)),
        (server.body.clone(), local.body.clone()),
        (
            server.requirements.clone().unwrap_or_default(),
            local.requirements.clone().unwrap_or_default(),
        ),
    ];
    let differ = parts.iter().filter(|(before, after)| before != after);
    let lines: Vec<String> = differ
        .flat_map(|(before, after)| {
            line_diff(before, after).unwrap_or_else(|| vec!["  too long to compare".to_owned()])
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

async fn save(
    options: &PushOptions,
    session: &Session,
    local: &LocalScript,
    server: Option<&ServerScript>,
    action: &str,
) -> Result<(), CliError> {
    let message = options.message.as_deref();
    let send = |method: Method, segments: &[&str], body: &Value| {
        session.api.json(session.api.request(method, segments).json(body))
    };
    let signs = options.signature.publisher()?.is_some();
    if let Some(server) = server.filter(|_| signs) {
        let version = match action {
            "save" => server.latest_version.saturating_add(1),
            _ => server.current_version,
        };
        // Before a version is saved that the publisher would refuse to sign.
        check_leap(session, &server.id, &local.name, version, &options.signature).await?;
    }
    let (id, version) = match server {
        None => {
            let mut body = local.content(message);
            merge(&mut body, local.metadata());
            body["name"] = local.name.as_str().into();
            let script = send(Method::POST, &["scripts"], &body).await?;
            (text(&script, "id"), 1)
        }
        Some(server) => {
            let id = server.id.clone();
            let mut version = server.current_version;
            if action == "save" {
                let mut body = local.content(message);
                body["expected_version"] = server.latest_version.into();
                // Hosts that pin publishers would refuse it until it is signed.
                body["make_current"] = (!signs).into();
                let saved = send(Method::POST, &["scripts", &id, "versions"], &body).await?;
                version = number_of(&saved, "version")?;
                if version != server.latest_version.saturating_add(1) {
                    let text = "the server saved another version than the next one".into();
                    return Err(CliError::Answer(text));
                }
            }
            if !local.shows_the_same(&server.script) {
                send(Method::PATCH, &["scripts", &id], &local.metadata()).await?;
            }
            (id, version)
        }
    };
    if signs {
        sign_version(session, &id, local, version, &options.signature).await?;
        if server.is_some() {
            let change = json!({ "current_version": version });
            send(Method::PATCH, &["scripts", &id], &change).await?;
        }
    }
    Ok(())
}

/// Writes the current versions to a folder each. What can't be written is skipped with a note.
///
/// # Errors
/// [`CliError`] if the server or the folder can't be used at all.
pub async fn pull(options: PullOptions, session: &Session) -> Result<u8, CliError> {
    let page = session.api.list(&["scripts"], &[], None).await?;
    let scripts = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let root = match options.dry_run {
        false => Some(OpenFolder::create(&options.folder)?),
        true if options.folder.exists() => Some(OpenFolder::open(&options.folder)?),
        true => None,
    };
    // A script that is in the folder is written where it is.
    let known = root.as_ref().map(LocalScript::places).transpose()?.unwrap_or_default();
    let mut items = Vec::with_capacity(scripts.len());
    let mut skipped = 0;
    for script in &scripts {
        let item = match pull_one(session, script, (root.as_ref(), &known), options.dry_run).await {
            Ok(item) => item,
            // The other scripts have nothing to do with it.
            Err(error @ (CliError::Answer(_) | CliError::Usage(_) | CliError::File { .. })) => {
                skipped += 1;
                let name = text(script, "name");
                let reason = sanitize(&error_chain(&error));
                print_note(&format!("`{}` is skipped: {reason}", sanitize(&name)));
                json!({"name": name, "action": "skipped", "reason": reason})
            }
            Err(error) => return Err(error),
        };
        items.push(item);
    }
    let answer = json!({"items": items, "dry_run": options.dry_run});
    session.output.answer(&answer, lines)?;
    Ok(u8::from(skipped > 0))
}

async fn pull_one(
    session: &Session,
    script: &Value,
    (root, known): (Option<&OpenFolder>, &ScriptPlaces),
    is_dry_run: bool,
) -> Result<Value, CliError> {
    let mut script = read(session, script).await?.script;
    let place = known.get(&script.name);
    if let Some(place) = place {
        script.description.file.clone_from(&place.file);
        script.description.name.clone_from(&place.name);
    }
    let before = match (root, place) {
        (Some(root), Some(place)) => LocalScript::read_at(root, &place.folders).ok().flatten(),
        (Some(root), None) => script.written(root).ok().flatten(),
        (None, _) => None,
    };
    let is_same =
        before.is_some_and(|was| was.runs_the_same(&script) && was.shows_the_same(&script));
    if let (false, false, Some(root)) = (is_same, is_dry_run, root) {
        match place {
            Some(place) => script.write_at(root, &place.folders)?,
            None => script.write(root)?,
        }
    }
    let action = if is_same { "unchanged" } else { "write" };
    Ok(json!({"name": script.name, "action": action, "sha256": script.sha256()}))
}

async fn find(session: &Session, name: &str) -> Result<Option<ServerScript>, CliError> {
    let page = session.api.list(&["scripts"], &[("name", name)], None).await?;
    let found = page.get("items").and_then(Value::as_array).and_then(|items| items.first());
    match found {
        Some(script) => Ok(Some(read(session, script).await?)),
        None => Ok(None),
    }
}

async fn read(session: &Session, script: &Value) -> Result<ServerScript, CliError> {
    let id = text(script, "id");
    let current_version = number_of(script, "current_version")?;
    let number = current_version.to_string();
    let version = get(session, &["scripts", &id, "versions", &number]).await?;
    let local = LocalScript::of_server(script, &version)?;
    let latest_version = number_of(script, "latest_version")?;
    Ok(ServerScript { id, latest_version, current_version, script: local, version })
}

fn merge(into: &mut Value, other: Value) {
    if let (Some(into), Value::Object(other)) = (into.as_object_mut(), other) {
        into.extend(other);
    }
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub fn lines(answer: &Value) -> String {
    let items = answer.get("items").and_then(Value::as_array);
    let mut lines: Vec<String> = items
        .into_iter()
        .flatten()
        .map(|item| {
            let line = format!("{:<9}  {}", text(item, "action"), sanitize(&text(item, "name")));
            match item["diff"].as_str() {
                Some(diff) => format!("{line}\n{}", sanitize_lines(diff)),
                None => line,
            }
        })
        .collect();
    if answer["dry_run"] == true && answer["items"][0].get("diff").is_none() {
        lines.push("nothing was changed".to_owned());
    }
    lines.join("\n")
}
