//! `muster pull`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use muster_protocol::commands::file_transfer::PULL;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{place, upload};
use crate::api::output_poll::{RetryNotice, copy_from};
use crate::commands::commands::approval_note::approval_note;
use crate::error::CliError;
use crate::exit_status::{exit_status, result_text};
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::interrupt::Interrupts;
use crate::output::printer::print_note;
use crate::session::Session;

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("file", "AGENT:PATH"),
    option("file.path", "AGENT:PATH").expects("a full path without `..`"),
    option("expires_in_ms", "--expires"),
    option("confirm_agent_count", "--confirm-agents"),
    option("calendar_override", "--override-calendar").expects("a reason of 1 to 200 characters"),
];

/// Read a file of one agent
///
/// The policy of the host must list the folder (`files.read` in policy.json). The file is stored on the server as
/// the output of an execution, and removed with it. The download is checked by the SHA-256 that the agent signed.
///
///   muster pull web-1:/var/log/app.log
///   muster pull web-1:/var/log/app.log copy.log
///   muster pull --resume 01a1fdb4-5130-7149-8191-20f9622b2a14 app.log
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Agent and full path on it
    #[arg(value_name = "AGENT:PATH", required_unless_present = "resume")]
    place: Option<String>,
    /// New file [default: the name of the file, in this folder]
    file: Option<PathBuf>,
    /// Continue the download of this execution, instead of reading the file again; then the only argument is FILE
    #[arg(long, value_name = "EXECUTION")]
    resume: Option<String>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
    /// Wait this long for an offline or busy agent, such as 30s, 5m or 1h [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    expires: Option<u64>,
    /// Confirm that the pull reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N")]
    confirm_agents: Option<u32>,
    /// Start although a calendar holds it back, for this reason, which is audited
    #[arg(long, value_name = "REASON")]
    override_calendar: Option<String>,
}

/// Reads the file and waits for its end.
///
/// # Errors
/// [`CliError`]; the execution continues, and its download can be resumed.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::new()?;
    let (id, to) = match &args.resume {
        Some(id) => {
            let to = args.place.as_ref().map(PathBuf::from).or(args.file.clone());
            let to = to.ok_or_else(|| {
                CliError::Usage("name the file: muster pull --resume ID FILE".into())
            })?;
            (session.work_id("executions", id).await?, to)
        }
        None => {
            let place = place::read(args.place.as_deref().unwrap_or_default())?;
            let [agent] = place.agents.as_slice() else {
                return Err(CliError::Usage("name one agent".into()));
            };
            let name = || PathBuf::from(place.path.rsplit('/').next().unwrap_or_default());
            let to = args.file.clone().unwrap_or_else(name);
            refuse_existing(&to, args.force)?;
            let agent_id = session.agent_id(agent, false).await?;
            (request(&args, session, &agent_id, place.path).await?, to)
        }
    };
    refuse_existing(&to, args.force)?;
    tokio::select! {
        done = download(session, &id, &to) => done,
        () = interrupts.next() => Err(CliError::Interrupted(format!(
            "interrupted; continue with `muster pull --resume {id} {}`, or cancel it with `muster executions cancel {id}`",
            to.display()
        ))),
    }
}

/// Asks the agent for the file. Returns the id of the execution.
async fn request(
    args: &Args,
    session: &Session,
    agent_id: &str,
    path: &str,
) -> Result<String, CliError> {
    let data = json!({"script": PULL, "file": {"path": path}});
    let mut body = json!({ "command": "execute", "data": data });
    if let Some(expires_in_ms) = args.expires {
        body["expires_in_ms"] = expires_in_ms.into();
    }
    if let Some(count) = args.confirm_agents {
        body["confirm_agent_count"] = count.into();
    }
    if let Some(reason) = &args.override_calendar {
        body["calendar_override"] = reason.as_str().into();
    }
    let request = session
        .api
        .request(Method::POST, &["agents", agent_id, "command"])
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let command = session.api.json_with_retries(request).await?;
    if let Some(note) = approval_note(&command, session.output.time) {
        print_note(&note);
    }
    let id = command.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| CliError::Answer("the command has no id".into()))
}

fn refuse_existing(to: &Path, force: bool) -> Result<(), CliError> {
    match to.exists() && !force {
        true => Err(CliError::Usage(format!("{} exists; use --force to replace it", to.display()))),
        false => Ok(()),
    }
}

/// The file that a download of this execution fills.
fn partial(to: &Path, id: &str) -> PathBuf {
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned());
    to.with_file_name(format!(".{}.{id}.part", name.unwrap_or_default()))
}

async fn download(session: &Session, id: &str, to: &Path) -> Result<u8, CliError> {
    let path = partial(to, id);
    let mut options = OpenOptions::new();
    options.append(true).read(true).create(true);
    let mut file = options.open(&path).map_err(CliError::file("create", &path))?;
    let offset = file.metadata().map_err(CliError::file("read", &path))?.len();
    let notice = RetryNotice::default();
    copy_from(&session.api, id, ("stdout", offset), &notice, FileSink(&file)).await?;
    let request = session.api.request(Method::GET, &["commands", id]);
    let command = session.api.json_with_retries(request).await?;
    let status = exit_status(&command);
    if status.code != 0 {
        let _ = fs::remove_file(&path);
        copy_from(&session.api, id, ("stderr", 0), &notice, tokio::io::stderr()).await?;
        if let Some(message) = status.message {
            print_note(&message);
        }
        return Ok(status.code);
    }
    let (sha256, bytes) = upload::hash(&mut file).map_err(CliError::file("read", &path))?;
    if result_text(&command, "stdout_sha256") != Some(sha256.as_str()) {
        let _ = fs::remove_file(&path);
        return Err(CliError::Unsuccessful(
            "the download has another SHA-256 than the agent reported; it was removed".into(),
        ));
    }
    file.sync_all().map_err(CliError::file("write", &path))?;
    fs::rename(&path, to).map_err(CliError::file("create", to))?;
    let answer =
        json!({"id": id, "file": to.display().to_string(), "bytes": bytes, "sha256": sha256});
    session
        .output
        .answer(&answer, |_| format!("{} has {bytes} bytes, SHA-256 {sha256}", to.display()))?;
    Ok(0)
}

/// Appends to a file.
struct FileSink<'a>(&'a File);

impl tokio::io::AsyncWrite for FileSink<'_> {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let mut file = self.0;
        std::task::Poll::Ready(std::io::Write::write(&mut file, bytes))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
