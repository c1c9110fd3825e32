//! The output of a job: all its executions, a few at a time.

use std::collections::{HashSet, VecDeque};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use super::lines::Lines;
use crate::api::Api;
use crate::error::CliError;
use crate::live::Live;
use crate::live_output::{Stream, Wanted, watch};
use crate::output::{clean, note};
use crate::verdict::is_terminal;

/// Executions that are read at once; a key may have 64 live streams.
const AT_ONCE: usize = 24;

/// An execution whose output is to be printed.
struct Run {
    id: String,
    agent_id: String,
}

/// What is to be printed of a job, and what is being printed.
struct Printing<'a> {
    api: &'a Api,
    job: &'a str,
    wanted: Wanted,
    is_raw: bool,
    known: HashSet<String>,
    waiting: VecDeque<Run>,
    running: JoinSet<Result<(), CliError>>,
    /// It was said that the roll-out waits for somebody.
    waits: bool,
}

/// Prints the output of a job's executions, and of those to come if it is to follow.
pub(super) async fn print(
    api: &Api,
    job: &str,
    wanted: Wanted,
    is_raw: bool,
) -> Result<(), CliError> {
    let (known, waiting, running) = (HashSet::new(), VecDeque::new(), JoinSet::new());
    let mut printing = Printing { api, job, wanted, is_raw, known, waiting, running, waits: false };
    if wanted.follow {
        printing.follow().await?;
    } else {
        printing.list(true).await?;
    }
    while let Some(printed) = printing.next().await {
        printed?;
    }
    Ok(())
}

impl Printing<'_> {
    /// Takes in executions as they start, until the job is over.
    async fn follow(&mut self) -> Result<(), CliError> {
        let query = vec![("job", self.job.to_owned()), ("types", "execution,job".to_owned())];
        let mut events = Live::new(self.api, &["events"], query);
        loop {
            self.start();
            let event = tokio::select! {
                event = events.next() => event?,
                Some(printed) = self.running.join_next() => {
                    ended(printed)?;
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
            let data: Value = serde_json::from_str(&event.data)
                .map_err(|error| CliError::Answer(error.to_string()))?;
            let is_over = match event.name.as_str() {
                "execution" => {
                    self.take(&data, false);
                    false
                }
                "job" => {
                    self.say_if_it_waits(&data);
                    is_over(&data)
                }
                // What stands now, and what was missed.
                "ready" | "reset" => {
                    let request = self.api.request(Method::GET, &["jobs", self.job]);
                    let job = self.api.json_repeated(request).await?;
                    self.list(false).await?;
                    self.say_if_it_waits(&job);
                    is_over(&job)
                }
                _ => false,
            };
            if is_over {
                // Also those that ended before they were ever seen to run.
                return self.list(true).await;
            }
        }
    }

    /// Of a roll-out that waits for somebody, once each time.
    fn say_if_it_waits(&mut self, job: &Value) {
        let state = text(job, "state").unwrap_or_default();
        let waits = matches!(state, "halted" | "paused");
        if waits && !self.waits {
            let id = self.job;
            note(&format!(
                "the job is {state}: `muster jobs resume {id}` goes on, `muster jobs abort {id}` ends it"
            ));
        }
        self.waits = waits;
    }

    /// Takes in the executions there are, oldest first.
    async fn list(&mut self, all: bool) -> Result<(), CliError> {
        let page = self.api.list(&["jobs", self.job, "executions"], &[], None).await?;
        let items = page.get("items").and_then(Value::as_array);
        for item in items.into_iter().flatten().rev() {
            self.take(item, all);
        }
        Ok(())
    }

    /// Takes in one execution, if it has begun or all are wanted.
    fn take(&mut self, execution: &Value, all: bool) {
        let has_begun = |state: &str| state == "running" || is_terminal(state);
        let is_wanted = all || text(execution, "state").is_some_and(has_begun);
        let ids = (text(execution, "id"), text(execution, "agent_id"));
        if let (Some(id), Some(agent_id), true) = (ids.0, ids.1, is_wanted)
            && self.known.insert(id.to_owned())
        {
            self.waiting.push_back(Run { id: id.to_owned(), agent_id: agent_id.to_owned() });
        }
    }

    fn start(&mut self) {
        while self.running.len() < AT_ONCE
            && let Some(run) = self.waiting.pop_front()
        {
            self.running.spawn(print_one(self.api.clone(), run, self.wanted, self.is_raw));
        }
    }

    /// Waits until one has been printed; `None` when all have.
    async fn next(&mut self) -> Option<Result<(), CliError>> {
        self.start();
        self.running.join_next().await.map(ended)
    }
}

fn ended(printed: Result<Result<(), CliError>, tokio::task::JoinError>) -> Result<(), CliError> {
    printed.unwrap_or_else(|error| Err(CliError::Answer(error.to_string())))
}

async fn print_one(api: Api, run: Run, wanted: Wanted, is_raw: bool) -> Result<(), CliError> {
    let is_shown = |stream| !is_raw && super::is_terminal(wanted.stream, stream);
    let shown = [Stream::Stdout, Stream::Stderr].map(is_shown);
    let name = name_of(&api, &run.agent_id).await?;
    let mut lines = Lines::new(name.clone(), shown);
    let ended = watch(&api, &run.id, wanted, |stream, bytes| {
        super::print(wanted.stream, stream, &lines.take(stream, bytes))
    })
    .await?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        super::print(wanted.stream, stream, &lines.rest(stream))?;
    }
    if super::is_cut(ended) {
        note(&format!("{name}: {}", super::CUT));
    }
    Ok(())
}

/// An agent's name; of one that was deleted its id.
async fn name_of(api: &Api, agent_id: &str) -> Result<String, CliError> {
    match api.json_repeated(api.request(Method::GET, &["agents", agent_id])).await {
        Ok(agent) => Ok(clean(text(&agent, "name").unwrap_or(agent_id))),
        Err(CliError::Refused { status: 403 | 404, .. }) => Ok(agent_id.to_owned()),
        Err(error) => Err(error),
    }
}

fn is_over(job: &Value) -> bool {
    job.get("finished_at").is_some_and(Value::is_string)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
