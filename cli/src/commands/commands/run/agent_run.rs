//! A run on one agent: its output is that of the script, and so is its exit code.

use std::io::IsTerminal as _;

use reqwest::Method;
use serde_json::Value;
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::queue_note;
use crate::api::output_poll::{RetryNotice, copy_to_end};
use crate::commands::commands::approval_note::approval_note;
use crate::error::CliError;
use crate::exit_status::{exit_status, is_output_incomplete};
use crate::interrupt::Interrupts;
use crate::output::printer::print_note;
use crate::output::state_colours::mark;
use crate::output::terminal_filter::FilteredTerminal;
use crate::session::Session;

/// Sends an `execute` and, unless detached, copies its output and returns its exit code.
///
/// # Errors
/// [`CliError`].
pub async fn run(
    session: &Session,
    agent_id: &str,
    body: &Value,
    detach: bool,
    raw: bool,
) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::new()?;
    // The same key for every attempt: a repeated request never starts the script again.
    let request = session
        .api
        .request(Method::POST, &["agents", agent_id, "command"])
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(body);
    let command = tokio::select! {
        answer = session.api.json_with_retries(request) => answer?,
        () = interrupts.next() => return Err(CliError::Interrupted(
            "interrupted while the request was sent; `muster commands` shows whether it arrived".into(),
        )),
    };
    let id = command
        .get("id")
        .and_then(Value::as_str)
        .ok_or_else(|| CliError::Answer("the command has no id".into()))?;
    if detach {
        session.output.answer(&command, |_| id.to_owned())?;
        return Ok(0);
    }
    if let Some(note) = approval_note(&command, session.output.time) {
        print_note(&format!("{note}; ^C withdraws it"));
    }
    tokio::select! {
        ended = wait_for_end(session, id, raw) => ended.map_err(|error| after_start(error, id)),
        never = queue_note::print_when_queued(session, id) => match never {},
        error = session.cancel_on_interrupt("commands", id, &mut interrupts) => Err(error),
    }
}

/// The script runs even if its result can't be read.
fn after_start(error: CliError, id: &str) -> CliError {
    match error {
        CliError::Refused(problem) => {
            print_note(&format!("the script was sent, as {id}; don't send it again"));
            CliError::Refused(problem)
        }
        error => error,
    }
}

async fn wait_for_end(session: &Session, id: &str, raw: bool) -> Result<u8, CliError> {
    let stderr = || sink(tokio::io::stderr(), std::io::stderr().is_terminal() && !raw);
    // With `--json`, standard output holds one document and no output of the script.
    let stdout = match session.output.json {
        true => stderr(),
        false => sink(tokio::io::stdout(), std::io::stdout().is_terminal() && !raw),
    };
    let notice = RetryNotice::default();
    tokio::try_join!(
        copy_to_end(&session.api, id, "stdout", &notice, stdout),
        copy_to_end(&session.api, id, "stderr", &notice, stderr()),
    )?;
    let request = session.api.request(Method::GET, &["commands", id]);
    let command = session.api.json_with_retries(request).await?;
    if session.output.json {
        session.output.details(&command)?;
    }
    if is_output_incomplete(&command) {
        print_note("warning: some of the output is missing");
    }
    if !session.output.json && command["data"]["steps"].is_array() {
        let request = session.api.request(Method::GET, &["executions", id]);
        print_steps(&session.api.json_with_retries(request).await?);
    }
    let status = exit_status(&command);
    if let Some(message) = status.message {
        print_note(&message);
    }
    Ok(status.code)
}

/// How each step ended, if there are several and not all succeeded.
fn print_steps(execution: &Value) {
    let steps = execution["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let state = |step: &Value| step["state"].as_str().unwrap_or_default().to_owned();
    if steps.iter().all(|step| state(step) == "succeeded") {
        return;
    }
    for (number, step) in steps.iter().enumerate() {
        let name = step["name"].as_str().or_else(|| step["script"].as_str()).unwrap_or_default();
        let exit = step["exit_code"].as_i64().filter(|code| *code != 0);
        let exit = exit.map(|code| format!(" (exit code {code})")).unwrap_or_default();
        print_note(&format!("step {} {name}: {}{exit}", number + 1, mark(&state(step))));
    }
}

/// Where a stream goes: unchanged, or filtered for a terminal.
fn sink(
    writer: impl AsyncWrite + Unpin + 'static,
    is_filtered: bool,
) -> Box<dyn AsyncWrite + Unpin> {
    if is_filtered { Box::new(FilteredTerminal::new(writer)) } else { Box::new(writer) }
}
