//! The output of a job: of all its executions, several at a time.

use std::collections::{HashSet, VecDeque};

use reqwest::Method;
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};

use super::prefixed_lines::PrefixedLines;
use super::stream_printer::{MISSING_OUTPUT, goes_to_terminal, is_incomplete, write};
use crate::api::client::ApiClient;
use crate::api::output_stream::{OutputRequest, Stream, read_output};
use crate::api::sse_client::SseClient;
use crate::commands::commands::job_progress::resume_hint;
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::output::printer::print_note;
use crate::output::text::sanitize;

/// Most executions that are read at once. An API key may have 64 event streams.
const MAX_CONCURRENT: usize = 24;

/// An execution to print.
struct Execution {
    id: String,
    agent_id: String,
}

/// Prints the executions of one job.
struct JobPrinter<'a> {
    api: &'a ApiClient,
    job: &'a str,
    request: OutputRequest,
    raw: bool,
    known: HashSet<String>,
    waiting: VecDeque<Execution>,
    running: JoinSet<Result<(), CliError>>,
    /// True after the user was notified that the rollout needs a decision.
    is_stop_shown: bool,
}

/// Prints the output of a job's executions; with `follow`, also of those that start later.
pub(super) async fn print(
    api: &ApiClient,
    job: &str,
    request: OutputRequest,
    raw: bool,
) -> Result<(), CliError> {
    let mut printer = JobPrinter {
        api,
        job,
        request,
        raw,
        known: HashSet::new(),
        waiting: VecDeque::new(),
        running: JoinSet::new(),
        is_stop_shown: false,
    };
    if request.follow {
        printer.follow().await?;
    } else {
        printer.add_listed(true).await?;
    }
    while let Some(printed) = printer.join_next().await {
        printed?;
    }
    Ok(())
}

impl JobPrinter<'_> {
    /// Adds executions as they start, until the job has ended.
    async fn follow(&mut self) -> Result<(), CliError> {
        let query = vec![("job", self.job.to_owned()), ("types", "execution,job".to_owned())];
        let mut events = SseClient::new(self.api, &["events"], query);
        loop {
            self.start_waiting();
            let event = tokio::select! {
                event = events.next() => event?,
                Some(printed) = self.running.join_next() => {
                    flatten(printed)?;
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
            let data: Value = serde_json::from_str(&event.data)
                .map_err(|error| CliError::Answer(error.to_string()))?;
            let has_ended = match event.name.as_str() {
                "execution" => {
                    self.add(&data, false);
                    false
                }
                "job" => {
                    self.notify_if_stopped(&data);
                    has_ended(&data)
                }
                // The stream starts here, or has a gap: the state must be requested.
                "ready" | "reset" => {
                    let request = self.api.request(Method::GET, &["jobs", self.job]);
                    let job = self.api.json_with_retries(request).await?;
                    self.add_listed(false).await?;
                    self.notify_if_stopped(&job);
                    has_ended(&job)
                }
                _ => false,
            };
            if has_ended {
                // Includes executions that ended before an event showed them as running.
                return self.add_listed(true).await;
            }
        }
    }

    /// Notifies the user, once each time, of a rollout that needs a decision.
    fn notify_if_stopped(&mut self, job: &Value) {
        let state = text(job, "state").unwrap_or_default();
        let is_stopped = matches!(state, "halted" | "paused");
        if is_stopped && !self.is_stop_shown {
            print_note(&format!("the job is {state}; {}", resume_hint(self.job)));
        }
        self.is_stop_shown = is_stopped;
    }

    /// Adds the executions that exist, the oldest first.
    async fn add_listed(&mut self, all: bool) -> Result<(), CliError> {
        let page = self.api.list(&["jobs", self.job, "executions"], &[], None).await?;
        let items = page.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten().rev() {
            self.add(item, all);
        }
        Ok(())
    }

    /// Adds an execution if it has started, or if `all` are requested.
    fn add(&mut self, execution: &Value, all: bool) {
        let has_started = |state: &str| state == "running" || is_terminal(state);
        let is_requested = all || text(execution, "state").is_some_and(has_started);
        let ids = (text(execution, "id"), text(execution, "agent_id"));
        if let (Some(id), Some(agent_id), true) = (ids.0, ids.1, is_requested)
            && self.known.insert(id.to_owned())
        {
            self.waiting.push_back(Execution { id: id.to_owned(), agent_id: agent_id.to_owned() });
        }
    }

    fn start_waiting(&mut self) {
        while self.running.len() < MAX_CONCURRENT
            && let Some(execution) = self.waiting.pop_front()
        {
            let printing = print_execution(self.api.clone(), execution, self.request, self.raw);
            self.running.spawn(printing);
        }
    }

    /// Waits until one execution is printed; `None` after the last.
    async fn join_next(&mut self) -> Option<Result<(), CliError>> {
        self.start_waiting();
        self.running.join_next().await.map(flatten)
    }
}

fn flatten(printed: Result<Result<(), CliError>, JoinError>) -> Result<(), CliError> {
    printed.unwrap_or_else(|error| Err(CliError::Answer(error.to_string())))
}

async fn print_execution(
    api: ApiClient,
    execution: Execution,
    request: OutputRequest,
    raw: bool,
) -> Result<(), CliError> {
    let is_filtered = |stream| !raw && goes_to_terminal(request.stream, stream);
    let filtered = [Stream::Stdout, Stream::Stderr].map(is_filtered);
    let name = agent_name(&api, &execution.agent_id).await?;
    let mut lines = PrefixedLines::new(name.clone(), filtered);
    let end = read_output(&api, &execution.id, request, |stream, bytes| {
        write(request.stream, stream, &lines.take(stream, bytes))
    })
    .await?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        write(request.stream, stream, &lines.finish(stream))?;
    }
    if is_incomplete(end) {
        print_note(&format!("{name}: {MISSING_OUTPUT}"));
    }
    Ok(())
}

/// The name of an agent, or its id if it was deleted.
async fn agent_name(api: &ApiClient, agent_id: &str) -> Result<String, CliError> {
    match api.json_with_retries(api.request(Method::GET, &["agents", agent_id])).await {
        Ok(agent) => Ok(sanitize(text(&agent, "name").unwrap_or(agent_id))),
        Err(CliError::Refused(problem)) if matches!(problem.status, 403 | 404) => {
            Ok(agent_id.to_owned())
        }
        Err(error) => Err(error),
    }
}

fn has_ended(job: &Value) -> bool {
    job.get("finished_at").is_some_and(Value::is_string)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
