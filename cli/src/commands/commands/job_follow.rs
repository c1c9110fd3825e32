//! Follows a job to its end, and prints one line for each execution that ends.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;

use crate::api::event_stream::ServerEvent;
use crate::api::sse_client::SseClient;
use crate::commands::commands::job_progress::{counts, current_wave, summarize_counts};
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::output::printer::print_note;
use crate::output::state_colours::mark;
use crate::output::text::{pluralize, sanitize};
use crate::output::time_format::shown_milliseconds;
use crate::session::Session;

/// The state of a job is read again after this time without an event, in case a proxy holds events back.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(15);
/// Jobs of at most so many agents have a duration in the line of each execution; in larger ones only
/// executions that did not succeed are read one by one.
const DETAILED_AGENTS: u64 = 50;
/// Executions that are still queued after this time get a note. An idle agent takes them much sooner.
const QUEUE_NOTE_AFTER: Duration = Duration::from_secs(2);
/// Most queued executions whose note is printed.
const MAX_EXPLAINED: usize = 3;
/// Most agents that a note names.
const MAX_NAMED: usize = 20;
const BAR: &str = "{bar:30} {pos}/{len} {msg}";

/// Follows one job.
struct JobFollower<'a> {
    session: &'a Session,
    id: &'a str,
    /// False to wait in silence.
    prints: bool,
    /// Names of the agents, by execution.
    names: HashMap<String, String>,
    /// Executions whose line was printed.
    printed: HashSet<String>,
    is_detailed: bool,
    is_offline_shown: bool,
    bar: ProgressBar,
}

/// Follows a job until it ends or halts, and returns it. With `prints`, each execution gets a line when it
/// ends, and agents that are waited for are named.
///
/// # Errors
/// [`CliError`]; the job continues without this client.
pub async fn follow(session: &Session, id: &str, prints: bool) -> Result<Value, CliError> {
    let bar = if prints { progress_bar() } else { ProgressBar::hidden() };
    let mut follower = JobFollower {
        session,
        id,
        prints,
        names: HashMap::new(),
        printed: HashSet::new(),
        is_detailed: false,
        is_offline_shown: false,
        bar,
    };
    let query = vec![("job", id.to_owned()), ("types", "execution,job".to_owned())];
    let mut events = SseClient::new(&session.api, &["events"], query);
    let mut queue_note = prints.then(|| Instant::now() + QUEUE_NOTE_AFTER);
    loop {
        let patience = queue_note.map_or(READ_AGAIN_AFTER, |at| at - Instant::now());
        let stopped = match tokio::time::timeout(patience, events.next()).await {
            Err(_) if queue_note.take().is_some() => follower.explain_queued().await?,
            Ok(event) => match event? {
                Some(event) => follower.take(&event).await?,
                None => follower.read_all().await?,
            },
            Err(_) => follower.read_all().await?,
        };
        if let Some(job) = stopped {
            follower.bar.finish_and_clear();
            return Ok(job);
        }
    }
}

impl JobFollower<'_> {
    /// Shows an event; the job, if it ended or halted.
    async fn take(&mut self, event: &ServerEvent) -> Result<Option<Value>, CliError> {
        match event.name.as_str() {
            "execution" => {
                let execution: Value = parsed(event)?;
                if is_terminal(text(&execution, "state")) {
                    self.print_ended(&execution).await?;
                }
                Ok(None)
            }
            "job" => {
                let job = parsed(event)?;
                self.update_bar(&job);
                if is_stopped(&job) { self.read_all().await } else { Ok(None) }
            }
            // The stream starts here, or has a gap.
            "ready" | "reset" => self.read_all().await,
            _ => Ok(None),
        }
    }

    /// Reads the job and its executions, and prints those that ended meanwhile.
    async fn read_all(&mut self) -> Result<Option<Value>, CliError> {
        let api = &self.session.api;
        // First the job: an execution that is read after it is at least as new.
        let job = api.json_with_retries(api.request(Method::GET, &["jobs", self.id])).await?;
        let agents = job.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
        self.is_detailed = agents <= DETAILED_AGENTS;
        self.update_bar(&job);
        if self.prints {
            let page = api.list(&["jobs", self.id, "executions"], &[], None).await?;
            let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            for item in &items {
                self.names.insert(text(item, "id").to_owned(), agent_name(item));
            }
            // The oldest first, which is the order of the agents.
            for item in items.iter().rev().filter(|item| is_terminal(text(item, "state"))) {
                self.print_line(item);
            }
            self.print_offline(&items);
        }
        Ok(is_stopped(&job).then_some(job))
    }

    async fn print_ended(&mut self, event: &Value) -> Result<(), CliError> {
        let id = text(event, "id");
        if !self.prints || self.printed.contains(id) {
            return Ok(());
        }
        if self.is_detailed || text(event, "state") != "succeeded" {
            let api = &self.session.api;
            let request = api.request(Method::GET, &["executions", id]);
            let execution = api.json_with_retries(request).await?;
            self.print_line(&execution);
        } else {
            self.print_line(event);
        }
        Ok(())
    }

    /// Prints the line of an ended execution, once.
    fn print_line(&mut self, execution: &Value) {
        let id = text(execution, "id").to_owned();
        if self.printed.contains(&id) {
            return;
        }
        let name = match self.names.get(&id) {
            Some(name) => name.clone(),
            None => agent_name(execution),
        };
        let line = self.session.output.time.sentence(&ended_line(&name, execution));
        self.note(&line);
        self.printed.insert(id);
    }

    /// Names, once, the offline agents that the job waits for.
    fn print_offline(&mut self, executions: &[Value]) {
        let waiting: Vec<&Value> =
            executions.iter().rev().filter(|item| is_awaited(item)).collect();
        if waiting.is_empty() || std::mem::replace(&mut self.is_offline_shown, true) {
            return;
        }
        let time = self.session.output.time;
        let until = waiting.iter().map(|item| text(item, "expires_at")).max().unwrap_or_default();
        self.note(&format!(
            "waiting until {} for {}:",
            time.instant(until),
            pluralize(waiting.len() as u64, "offline agent")
        ));
        for item in waiting.iter().take(MAX_NAMED) {
            let since = time.instant(text(item, "agent_offline_since"));
            self.note(&format!("  {}, offline since {since}", agent_name(item)));
        }
        if waiting.len() > MAX_NAMED {
            self.note(&format!("  and {} more", waiting.len() - MAX_NAMED));
        }
    }

    /// Prints why executions wait that their connected agents could take; the job, if it ended or halted.
    async fn explain_queued(&mut self) -> Result<Option<Value>, CliError> {
        let stopped = self.read_all().await?;
        let api = &self.session.api;
        let page = api.list(&["jobs", self.id, "executions"], &[], None).await?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
        // Held ones wait for their wave, which the bar shows, or for an approval, which has a note of its own.
        let is_held = |item: &Value| item.get("is_held") == Some(&Value::Bool(true));
        let is_queued =
            |item: &&Value| text(item, "state") == "queued" && !is_held(item) && !is_awaited(item);
        let queued: Vec<_> = items.unwrap_or_default().iter().rev().filter(is_queued).collect();
        for item in queued.iter().take(MAX_EXPLAINED) {
            let sentence = self.session.output.time.sentence(text(item, "explanation"));
            self.note(&format!("{}: queued: {sentence}", agent_name(item)));
        }
        if queued.len() > MAX_EXPLAINED {
            self.note(&match queued.len() - MAX_EXPLAINED {
                1 => "and 1 more is queued".to_owned(),
                more => format!("and {more} more are queued"),
            });
        }
        Ok(stopped)
    }

    /// Prints a note above the bar, which only a terminal shows.
    fn note(&self, line: &str) {
        self.bar.suspend(|| print_note(line));
    }

    fn update_bar(&self, job: &Value) {
        self.bar.set_length(counts(job).map(|(_, count)| count).sum());
        let ended = counts(job).filter(|(state, _)| is_terminal(state));
        self.bar.set_position(ended.map(|(_, count)| count).sum());
        let paused = if text(job, "state") == "paused" { "paused, " } else { "" };
        let wave = current_wave(job).map(|wave| format!("{paused}{wave}: ")).unwrap_or_default();
        self.bar.set_message(format!("{wave}{}", summarize_counts(job)));
    }
}

/// The line of an ended execution: `web-1: failed in 0.2 s: the script exited with code 3`.
pub fn ended_line(name: &str, execution: &Value) -> String {
    let duration = execution.get("duration_ms").and_then(Value::as_u64);
    let duration = duration.map(|ms| format!(" in {}", shown_milliseconds(ms))).unwrap_or_default();
    let error = match text(execution, "error") {
        "" => String::new(),
        error => format!(": {error}"),
    };
    format!("{name}: {}{duration}{error}", mark(text(execution, "state")))
}

/// The name of an execution's agent, or its id.
pub fn agent_name(execution: &Value) -> String {
    match text(execution, "agent_name") {
        "" => text(execution, "agent_id").to_owned(),
        name => sanitize(name),
    }
}

/// Queued for an offline agent, and for nothing else.
fn is_awaited(execution: &Value) -> bool {
    text(execution, "state") == "queued"
        && execution.get("is_held") != Some(&Value::Bool(true))
        && execution.get("agent_offline_since").is_some_and(Value::is_string)
}

/// True if a job ended, or halted and waits for a decision, perhaps by this very user. One that is paused
/// or waits for an approval continues without this user.
fn is_stopped(job: &Value) -> bool {
    !matches!(text(job, "state"), "running" | "paused" | "awaiting_approval")
}

fn parsed(event: &ServerEvent) -> Result<Value, CliError> {
    serde_json::from_str(&event.data).map_err(|error| CliError::Answer(error.to_string()))
}

/// A progress bar, which only a terminal shows.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::state_colours::paint;
    use serde_json::json;

    #[test]
    fn line_names_agent_state_duration_and_reason() {
        let failed = json!({"state": "failed", "duration_ms": 210, "error": "the script exited with code 3"});
        let ended_line = |name, execution: &Value| paint(&ended_line(name, execution), false);
        assert_eq!(
            ended_line("web-1", &failed),
            "web-1: failed in 210 ms: the script exited with code 3"
        );
        assert_eq!(ended_line("web-1", &json!({"state": "succeeded"})), "web-1: succeeded");
        assert_eq!(agent_name(&json!({"agent_name": null, "agent_id": "7"})), "7");
    }

    #[test]
    fn only_executions_that_wait_for_their_agent_alone_are_awaited() {
        let queued = json!({"state": "queued", "is_held": false, "agent_offline_since": "T"});
        assert!(is_awaited(&queued));
        for (field, value) in [
            ("state", json!("delivered")),
            ("is_held", json!(true)),
            ("agent_offline_since", Value::Null),
        ] {
            let mut other = queued.clone();
            other[field] = value;
            assert!(!is_awaited(&other), "{other}");
        }
    }
}
