//! A run on many agents: a job, its progress, its result and its output.

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::commands::commands::approval_note::{approval_note, missing_approval};
use crate::commands::commands::job_follow::follow;
use crate::commands::commands::job_progress::{current_wave, resume_hint, summarize_counts};
use crate::commands::commands::output_groups;
use crate::error::CliError;
use crate::interrupt::Interrupts;
use crate::output::printer::print_note;
use crate::output::text::pluralize;
use crate::session::Session;

/// The output of jobs with at most so many agents is printed unless a person asks otherwise.
const SHOWN_AGENTS: u64 = 20;

/// What a person wants of the wait for a job.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobWait {
    /// Print the output, or don't; by default for small jobs.
    pub show: Option<bool>,
    /// Write every byte to a terminal.
    pub raw: bool,
    /// An interrupt cancels the job instead of leaving it.
    pub cancels_on_interrupt: bool,
    /// Print nothing but the result.
    pub is_silent: bool,
}

/// Starts a job and, unless detached, waits for its end. 0 if every execution succeeded, else 1.
///
/// # Errors
/// [`CliError`].
pub async fn run(
    session: &Session,
    body: &Value,
    detach: bool,
    wait: JobWait,
) -> Result<u8, CliError> {
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
    if let Some(note) = approval_note(&job, session.output.time) {
        print_note(&format!("{note}; ^C detaches"));
    }
    wait_for_end(session, &id, wait, &mut interrupts).await
}

/// Waits for the end of a job that exists.
///
/// # Errors
/// [`CliError`].
pub async fn wait(session: &Session, id: &str, wait: JobWait) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::new()?;
    wait_for_end(session, id, wait, &mut interrupts).await
}

async fn wait_for_end(
    session: &Session,
    id: &str,
    wait: JobWait,
    interrupts: &mut Interrupts,
) -> Result<u8, CliError> {
    let ended = follow(session, id, !wait.is_silent);
    tokio::pin!(ended);
    let (job, was_interrupted) = tokio::select! {
        job = &mut ended => (job?, false),
        () = interrupts.next() => {
            if !wait.cancels_on_interrupt {
                return Err(CliError::Interrupted(detached(id)));
            }
            let job = tokio::select! {
                job = ended => job?,
                error = session.cancel("jobs", id, interrupts) => return Err(error),
            };
            (job, true)
        }
    };
    let agents = job.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
    let shows = wait.show.unwrap_or(!wait.is_silent && agents <= SHOWN_AGENTS);
    if shows && !session.output.json {
        output_groups::print(session, id, wait.raw).await?;
    }
    show_result(session, id, &job, shows)?;
    match text(&job, "state") {
        "succeeded" => Ok(0),
        "cancelled" if was_interrupted => {
            Err(CliError::Interrupted("the job was cancelled".into()))
        }
        _ => Ok(1),
    }
}

/// What to do after an interrupt that left the job running.
fn detached(id: &str) -> String {
    format!(
        "detached; the job continues\n  follow it:  muster jobs watch {id}\n  cancel it:  muster jobs cancel {id}"
    )
}

fn show_result(session: &Session, id: &str, job: &Value, is_shown: bool) -> Result<(), CliError> {
    session.output.answer(job, summarize_counts)?;
    let state = text(job, "state");
    if state == "halted" {
        let wave = current_wave(job).map(|wave| format!(" in {wave}")).unwrap_or_default();
        print_note(&format!("the job halted{wave}"));
        print_note(text(job, "halt_reason"));
        print_note(&resume_hint(id));
    }
    if let Some(sentence) = missing_approval(job) {
        print_note(&sentence);
        return Ok(());
    }
    let output = if is_shown { "" } else { &format!("see the output with `muster logs {id}`") };
    match (state, output) {
        ("succeeded" | "halted", "") => {}
        ("succeeded" | "halted", output) => print_note(output),
        (_, _) => print_note(&format!(
            "see `muster jobs executions {id}` and `muster logs {id}`; run it again where it did not \
             succeed with `muster jobs retry {id}`"
        )),
    }
    Ok(())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
