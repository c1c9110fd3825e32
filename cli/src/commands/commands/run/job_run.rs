//! A run on many agents: a job, its progress and its result.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::backoff::Delays;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::api::client::delay_after;
use crate::commands::commands::approval_note::{approval_note, missing_approval};
use crate::commands::commands::job_progress::{
    counts, current_wave, resume_hint, summarize_counts,
};
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::interrupt::Interrupts;
use crate::output::printer::print_note;
use crate::output::text::{pluralize, sanitize};
use crate::session::Session;

/// Shortest and longest delay between two requests for a running job.
const POLL_DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Most executions that the result names.
const MAX_SHOWN: usize = 20;
const BAR: &str = "{bar:30} {pos}/{len} {msg}";

/// Starts a job and, unless detached, waits for its end. 0 if every execution succeeded, else 1.
///
/// # Errors
/// [`CliError`].
pub async fn run(session: &Session, body: &Value, detach: bool) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::new()?;
    // The same key for every attempt: a repeated request creates no second job.
    let request = session
        .api
        .request(Method::POST, &["jobs"])
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(body);
    let job = tokio::select! {
        answer = session.api.json_with_retries(request) => answer?,
        () = interrupts.next() => return Err(CliError::Interrupted(
            "interrupted while the request was sent; `muster jobs` shows whether it arrived".into(),
        )),
    };
    let id = text(&job, "id").to_owned();
    if id.is_empty() {
        return Err(CliError::Answer("the job has no id".into()));
    }
    if detach {
        session.output.answer(&job, |_| id.clone())?;
        return Ok(0);
    }
    let agents = job.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
    print_note(&format!("job {id} on {}", pluralize(agents, "agent")));
    if let Some(note) = approval_note(&job) {
        print_note(&format!("{note}; ^C withdraws it"));
    }
    let job = tokio::select! {
        ended = wait_for_end(session, &id) => ended?,
        error = session.cancel_on_interrupt("jobs", &id, &mut interrupts) => return Err(error),
    };
    show_result(session, &id, &job).await?;
    Ok(u8::from(text(&job, "state") != "succeeded"))
}

async fn wait_for_end(session: &Session, id: &str) -> Result<Value, CliError> {
    let bar = progress_bar();
    let mut poll_delays = Delays::new(POLL_DELAYS.0, POLL_DELAYS.1);
    let mut retry_delays = Delays::for_reconnect();
    loop {
        let request = session.api.request(Method::GET, &["jobs", id]);
        let delay = match session.api.json(request).await {
            Ok(job) => {
                retry_delays.reset();
                update(&bar, &job);
                // Somebody paused the job on purpose and will resume it; a halted job waits for a
                // decision, perhaps by this very user.
                if !matches!(text(&job, "state"), "running" | "paused" | "awaiting_approval") {
                    bar.finish_and_clear();
                    return Ok(job);
                }
                poll_delays.next_delay()
            }
            // The job keeps running without this client.
            Err(error) if error.is_transient() => delay_after(&error, &mut retry_delays),
            Err(error) => return Err(error),
        };
        tokio::time::sleep(delay).await;
    }
}

/// A progress bar, which only a terminal shows.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn update(bar: &ProgressBar, job: &Value) {
    bar.set_length(counts(job).map(|(_, count)| count).sum());
    let ended = counts(job).filter(|(state, _)| is_terminal(state));
    bar.set_position(ended.map(|(_, count)| count).sum());
    let paused = if text(job, "state") == "paused" { "paused, " } else { "" };
    let wave = current_wave(job).map(|wave| format!("{paused}{wave}: ")).unwrap_or_default();
    bar.set_message(format!("{wave}{}", summarize_counts(job)));
}

async fn show_result(session: &Session, id: &str, job: &Value) -> Result<(), CliError> {
    session.output.answer(job, summarize_counts)?;
    if text(job, "state") == "succeeded" {
        print_note(&format!("see the output with `muster logs {id}`"));
        return Ok(());
    }
    if text(job, "state") == "halted" {
        let wave = current_wave(job).map(|wave| format!(" in {wave}")).unwrap_or_default();
        print_note(&format!("the job halted{wave}"));
        print_note(text(job, "halt_reason"));
        print_note(&resume_hint(id));
    }
    if let Some(sentence) = missing_approval(job) {
        print_note(&sentence);
        return Ok(());
    }
    let page = session.api.list(&["jobs", id, "executions"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let unsuccessful = items.iter().filter(|execution| {
        let state = text(execution, "state");
        is_terminal(state) && state != "succeeded"
    });
    for execution in unsuccessful.take(MAX_SHOWN) {
        let error = match text(execution, "error") {
            "" => String::new(),
            error => format!(": {error}"),
        };
        let name = match text(execution, "agent_name") {
            "" => text(execution, "agent_id").to_owned(),
            name => sanitize(name),
        };
        print_note(&format!("{name}: {}{error}", text(execution, "state")));
    }
    print_note(&format!("see `muster jobs executions {id}` and `muster logs {id}`"));
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
