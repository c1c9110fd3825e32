//! `muster scripts push|pull`, and the comparison of a folder with the server.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};

use super::local_script::LocalScript;
use super::signing::{SignatureOptions, sign_version};
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
            (Some(server), Some(publisher)) => is_signed_by(&server.version, &publisher),
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
            }
            if !local.shows_the_same(&server.script) {
                send(Method::PATCH, &["scripts", &id], &local.metadata()).await?;
            }
            (id, version)
        }
    };
    if signs {
        sign_version(session, &id, version, &options.signature, Some(&local.sha256())).await?;
        if server.is_some() {
            let change = json!({ "current_version": version });
            send(Method::PATCH, &["scripts", &id], &change).await?;
        }
    }
    Ok(())
}

/// Writes the current versions to a folder each.
///
/// # Errors
/// [`CliError`] names the file.
pub async fn pull(options: PullOptions, session: &Session) -> Result<u8, CliError> {
    let page = session.api.list(&["scripts"], &[], None).await?;
    let scripts = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut items = Vec::with_capacity(scripts.len());
    for script in &scripts {
        let server = read(session, script).await?;
        let folder = options.folder.join(&server.script.description.folder);
        let folder = folder.join(&server.script.name);
        let before = LocalScript::read_all(&folder).ok();
        let is_same = before.is_some_and(|before| {
            before.first().is_some_and(|before| {
                before.runs_the_same(&server.script) && before.shows_the_same(&server.script)
            })
        });
        let action = if is_same { "unchanged" } else { "write" };
        if !is_same && !options.dry_run {
            server.script.write(&folder)?;
        }
        items.push(json!({
            "name": server.script.name, "action": action, "sha256": server.script.sha256(),
        }));
    }
    let answer = json!({"items": items, "dry_run": options.dry_run});
    session.output.answer(&answer, lines)?;
    Ok(0)
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
    // It becomes a path.
    if !muster_protocol::manifest::is_script_name(&local.name)
        || local.description.folder.split('/').any(|part| part == "..")
        || local.description.folder.starts_with('/')
    {
        return Err(CliError::Answer("a script has an invalid name or folder".into()));
    }
    let latest_version = number_of(script, "latest_version")?;
    Ok(ServerScript { id, latest_version, current_version, script: local, version })
}

fn is_signed_by(version: &Value, publisher: &str) -> bool {
    let signatures = version.get("signatures").and_then(Value::as_array);
    signatures.into_iter().flatten().any(|signature| {
        let statement: Option<Value> = signature
            .get("statement")
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str(text).ok());
        statement.is_some_and(|statement| statement["publisher"] == publisher)
    })
}

fn merge(into: &mut Value, other: Value) {
    if let (Some(into), Value::Object(other)) = (into.as_object_mut(), other) {
        into.extend(other);
    }
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn lines(answer: &Value) -> String {
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
