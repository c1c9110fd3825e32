//! `muster scripts push|pull`, and the comparison of a folder with the server.

use std::path::PathBuf;

use muster_protocol::error_chain;
use reqwest::Method;
use serde_json::{Value, json};

use super::local_script::LocalScript;
use super::open_folder::OpenFolder;
use super::signing::{SignatureOptions, check_leap, is_signed_by, sign_version};
use super::{get, number_of};
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::output::text::sanitize;
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
        Self { folder, dry_run: true, message: None, signature }
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
        if !options.dry_run && action != "unchanged" {
            save(&options, session, &local, server.as_ref(), action)
                .await
                .inspect_err(|_| print_note(&format!("`{}` was not saved", local.name)))?;
        }
        items.push(json!({"name": local.name, "action": action, "sha256": local.sha256()}));
    }
    let answer = json!({"items": items, "dry_run": options.dry_run});
    session.output.answer(&answer, lines)?;
    Ok(0)
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
    let mut items = Vec::with_capacity(scripts.len());
    let mut skipped = 0;
    for script in &scripts {
        let item = match pull_one(session, script, root.as_ref(), options.dry_run).await {
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
    root: Option<&OpenFolder>,
    is_dry_run: bool,
) -> Result<Value, CliError> {
    let script = read(session, script).await?.script;
    let before = root.and_then(|root| script.written(root).ok().flatten());
    let is_same =
        before.is_some_and(|was| was.runs_the_same(&script) && was.shows_the_same(&script));
    if let (false, false, Some(root)) = (is_same, is_dry_run, root) {
        script.write(root)?;
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
        .map(|item| format!("{:<9}  {}", text(item, "action"), sanitize(&text(item, "name"))))
        .collect();
    if answer["dry_run"] == true {
        lines.push("nothing was changed".to_owned());
    }
    lines.join("\n")
}
