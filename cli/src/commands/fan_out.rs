//! `muster run --on`: a script on many agents, and what came of it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use muster_protocol::backoff::Delays;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::Session;
use crate::api::delay_after;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::output::{clean, counted, note};
use crate::wording::in_options;

/// Between two looks at a job that is running.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Executions that a summary names.
const SHOWN: usize = 20;
const BAR: &str = "{bar:30} {pos}/{len} {msg}";

/// Starts a job and, unless detached, waits for its end. 0 if every execution succeeded.
///
/// # Errors
/// [`CliError`]; after the start its sentence names the job, which goes on.
pub async fn run(session: &Session, body: Value, detach: bool) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::new()?;
    // One key for all attempts: a request that is sent again makes no second job.
    let request = session
        .api
        .request(Method::POST, &["jobs"])
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let started = tokio::select! {
        answer = session.api.json_repeated(request) => answer?,
        () = interrupts.next() => return Err(CliError::Interrupted(
            "left while the request was on its way; `muster jobs` shows if it arrived".into(),
        )),
    };
    let id = text(&started, "id").to_owned();
    if id.is_empty() {
        return Err(CliError::Answer("a job without an id".into()));
    }
    if detach {
        session.output.answer(&started, |_| id.clone())?;
        return Ok(0);
    }
    let agents = started.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
    note(&format!("job {id} on {}", counted(agents, "agent")));
    let ended = tokio::select! {
        ended = to_the_end(session, &id) => ended?,
        error = session.cancel_then_leave("jobs", &id, &mut interrupts) => return Err(error),
    };
    tell(session, &id, &ended).await?;
    Ok(u8::from(text(&ended, "state") != "succeeded"))
}

async fn to_the_end(session: &Session, id: &str) -> Result<Value, CliError> {
    let bar = bar();
    let mut looks = Delays::new(LOOKS.0, LOOKS.1);
    let mut retries = Delays::for_reconnect();
    loop {
        let request = session.api.request(Method::GET, &["jobs", id]);
        let wait = match session.api.json(request).await {
            Ok(job) => {
                retries.reset();
                show(&bar, &job);
                // One that is paused goes on when somebody resumes it; one that has halted waits for
                // somebody who looks at it first.
                if !matches!(text(&job, "state"), "running" | "paused") {
                    bar.finish_and_clear();
                    return Ok(job);
                }
                looks.next_delay()
            }
            // The job goes on without us.
            Err(error) if error.is_passing() => delay_after(&error, &mut retries),
            Err(error) => return Err(error),
        };
        tokio::time::sleep(wait).await;
    }
}

/// Drawn on a terminal only.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, job: &Value) {
    let counts = counts(job);
    let ended = |state: &str| crate::verdict::is_terminal(state);
    bar.set_length(counts.iter().map(|(_, count)| count).sum());
    bar.set_position(counts.iter().filter(|(state, _)| ended(state)).map(|(_, n)| n).sum());
    bar.set_message(format!("{}{}", wave(job), summary(&counts)));
}

/// Of a roll-out: which wave has its turn, and whether it is paused.
fn wave(job: &Value) -> String {
    let number = |name| job.get("rollout")?.get(name)?.as_u64();
    let paused = if text(job, "state") == "paused" { "paused, " } else { "" };
    match (number("wave"), number("wave_count")) {
        (Some(wave), Some(count)) => format!("{paused}wave {wave}/{count}: "),
        _ => String::new(),
    }
}

fn counts(job: &Value) -> Vec<(&str, u64)> {
    let counts = job.get("counts").and_then(Value::as_object);
    let counts = counts.into_iter().flatten();
    counts.map(|(state, count)| (state.as_str(), count.as_u64().unwrap_or(0))).collect()
}

fn summary(counts: &[(&str, u64)]) -> String {
    let parts: Vec<_> =
        counts.iter().map(|(state, count)| format!("{count} {}", clean(state))).collect();
    parts.join(", ")
}

/// How many executions of a job are in which state.
pub(super) fn counts_in_words(job: &Value) -> String {
    summary(&counts(job))
}

async fn tell(session: &Session, id: &str, job: &Value) -> Result<(), CliError> {
    session.output.answer(job, counts_in_words)?;
    if text(job, "state") == "succeeded" {
        note(&format!("what they printed: `muster logs {id}`"));
        return Ok(());
    }
    if text(job, "state") == "halted" {
        note(&format!("{}: {}", wave(job).trim_end_matches(": "), text(job, "halt_reason")));
        note(&format!("`muster jobs resume {id}` goes on, `muster jobs abort {id}` ends it"));
    }
    let page = session.api.list(&["jobs", id, "executions"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let failed = items.iter().filter(|run| {
        let state = text(run, "state");
        crate::verdict::is_terminal(state) && state != "succeeded"
    });
    for run in failed.take(SHOWN) {
        let error = match text(run, "error") {
            "" => String::new(),
            error => format!(": {}", in_options(text(run, "error_code"), error)),
        };
        let name = match text(run, "agent_name") {
            "" => text(run, "agent_id").to_owned(),
            name => clean(name),
        };
        note(&format!("{name}: {}{error}", text(run, "state")));
    }
    note(&format!("see `muster jobs executions {id}` and `muster logs {id}`"));
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
