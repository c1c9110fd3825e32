//! `muster executions`: runs of scripts and ad-hoc commands, each on one agent.

use chrono::Utc;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::command_history::cancelled;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::expressions::mark_column;
use crate::input::instants::instant;
use crate::listing::{self, LatestLimit};
use crate::output::printer::print;
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::output::time_format::shown_milliseconds;
use crate::output::work_summary::{state_and_step, work_summary};
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 8] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", work_summary),
    Column::by("STATE", state_and_step),
    Column::of("AGENT", "agent_name"),
    Column::of("EXIT", "exit_code"),
    Column::of("TRIGGER", "trigger"),
    Column::of("CREATED", "created_at"),
    Column::of("FINISHED", "finished_at"),
];

const STEP_COLUMNS: [Column; 8] = [
    Column::of("STEP", "number"),
    Column::of("NAME", "name"),
    Column::by("RUNS", work_summary),
    Column::of("STATE", "state"),
    Column::of("EXIT", "exit_code"),
    Column::of("STARTED", "started_at"),
    Column::by("TOOK", step_duration),
    Column::by("OUTPUT BYTES", step_output),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("agent_id", "--agent"),
    option("expression", "--on"),
    option("target.expression", "--on"),
    option("script", "--script").expects("1 to 128 letters, digits and . _ -"),
    option("state", "--state").expects("names of execution states, such as failed,lost"),
    option("created_after", "--since"),
    option("created_before", "--until"),
    option("trigger", "--trigger").expects("api, retry, schedule, hook, group, task or service"),
    option("requested_by", "--by").expects("an id"),
    option("job_id", "--job").expects("an id"),
    option("confirm_agent_count", "--confirm-agents"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: ExecutionFilter,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest executions that match all filters (default action)
    List(ExecutionFilter),
    /// Show all details of an execution
    Show {
        /// Id of the execution, or its first 8 characters or more
        id: String,
    },
    /// Cancel an execution: end it, or keep it from starting
    Cancel {
        /// Id of the execution, or its first 8 characters or more
        id: String,
    },
    /// Run an execution that has ended again, on the same agent with the same parameters
    Retry {
        /// Id of the execution, or its first 8 characters or more
        id: String,
        /// Confirm that the retry reaches this number of agents, which is 1, where your tenant asks for it
        #[arg(long, value_name = "N")]
        confirm_agents: Option<u32>,
    },
}

#[derive(Debug, clap::Args)]
struct ExecutionFilter {
    /// Only on this agent: an id, a name or a hostname
    #[arg(long)]
    agent: Option<String>,
    /// Only on agents that match this expression, such as 'tag:web & os:linux & !name:db-*'
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "agent")]
    on: Option<String>,
    /// Only of this script
    #[arg(long)]
    script: Option<String>,
    /// Only in these states, such as failed,lost
    #[arg(long, value_name = "STATES")]
    state: Vec<String>,
    /// Only created since then: RFC 3339 such as 2026-11-21T10:00:00Z, a date, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only created before then, in the same forms
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only with this trigger: api, retry, schedule, hook, group, task or service
    #[arg(long)]
    trigger: Option<String>,
    /// Only requested with this API key, by its name or id, or by the member with this id
    #[arg(long, value_name = "KEY")]
    by: Option<String>,
    /// Only of this job: its id, or the first 8 characters or more
    #[arg(long, value_name = "JOB_ID")]
    job: Option<String>,
    #[command(flatten)]
    limit: LatestLimit,
}

impl ExecutionFilter {
    /// True with any filter but the limit.
    fn is_given(&self) -> bool {
        let texts = [
            &self.agent,
            &self.on,
            &self.script,
            &self.since,
            &self.until,
            &self.trigger,
            &self.by,
            &self.job,
        ];
        !self.state.is_empty() || texts.into_iter().any(Option::is_some)
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    if args.action.is_some() && args.filter.is_given() {
        return Err(CliError::Usage("filters belong to the list; put them behind `list`".into()));
    }
    match args.action.unwrap_or(Action::List(args.filter)) {
        Action::List(filter) => show_list(filter, session).await,
        Action::Show { id } => {
            let id = session.work_id("executions", &id).await?;
            show(&id, session).await
        }
        Action::Cancel { id } => {
            let id = session.work_id("executions", &id).await?;
            session.act(&["executions", &id, "cancel"], |answer| cancelled(&id, answer)).await
        }
        Action::Retry { id, confirm_agents } => retry(&id, confirm_agents, session).await,
    }
}

/// Shows an execution, and its steps as a table of their own.
async fn show(id: &str, session: &Session) -> Result<u8, CliError> {
    let request = session.api.request(Method::GET, &["executions", id]);
    let execution = session.api.json(request).await?;
    let steps = execution.get("steps").and_then(Value::as_array).cloned().unwrap_or_default();
    if session.output.json {
        session.output.details(&execution)?;
        return Ok(0);
    }
    let mut alone = execution;
    if let Some(fields) = alone.as_object_mut() {
        fields.remove("steps");
        // Only a program can check it.
        if let Some(attestation) = fields.get_mut("attestation").filter(|value| value.is_object()) {
            *attestation =
                format!("signed by the agent; check it with `muster verify {id}`").into();
        }
    }
    session.output.details(&alone)?;
    if steps.is_empty() {
        return Ok(0);
    }
    print("")?;
    let number = |(number, step): (usize, Value)| {
        let mut step = step;
        step["number"] = (number + 1).into();
        step
    };
    let steps: Vec<Value> = steps.into_iter().enumerate().map(number).collect();
    session.output.list(&json!({ "items": steps }), &STEP_COLUMNS, "")?;
    Ok(0)
}

/// How long a step took, in words.
fn step_duration(step: &Value) -> String {
    step.get("duration_ms").and_then(Value::as_u64).map(shown_milliseconds).unwrap_or_default()
}

/// The part of the output that is of a step.
fn step_output(step: &Value) -> String {
    let bytes = |name: &str| step.get(name).and_then(Value::as_u64);
    match (bytes("output_from_bytes"), bytes("output_to_bytes")) {
        (Some(from), Some(to)) if from < to => format!("{from}-{to}"),
        _ => String::new(),
    }
}

/// Sends the work of an execution again.
async fn retry(typed: &str, confirmed: Option<u32>, session: &Session) -> Result<u8, CliError> {
    let id = session.work_id("executions", typed).await?;
    // A command of another kind has no execution, and is not run again by this name.
    session.api.json(session.api.request(Method::GET, &["executions", &id])).await?;
    let body = confirmed.map_or_else(|| json!({}), |count| json!({"confirm_agent_count": count}));
    let request = session
        .api
        .request(Method::POST, &["commands", &id, "retry"])
        // The same key for every attempt: a repeated request creates no second execution.
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let answer: Value = session.api.json_with_retries(request).await?;
    let new = answer.get("id").and_then(Value::as_str).unwrap_or_default();
    session.output.answer(&answer, |_| {
        sanitize(&format!("Execution {new} retries execution {id}. Follow it: muster logs {new}"))
    })?;
    Ok(0)
}

async fn show_list(filter: ExecutionFilter, session: &Session) -> Result<u8, CliError> {
    let at = |typed: Option<String>| typed.map(|typed| instant(&typed, Utc::now())).transpose();
    let agent_id = match &filter.agent {
        Some(agent) => Some(session.id_of(ResourceKind::Agent, agent).await?),
        None => None,
    };
    let job_id = match &filter.job {
        Some(job) => Some(session.work_id("jobs", job).await?),
        None => None,
    };
    let requested_by = match &filter.by {
        Some(by) if Uuid::try_parse(by).is_err() => {
            Some(session.id_of(ResourceKind::ApiKey, by).await?)
        }
        by => by.clone(),
    };
    let filters = [
        ("agent_id", agent_id),
        ("expression", filter.on.clone()),
        ("script", filter.script),
        ("state", (!filter.state.is_empty()).then(|| filter.state.join(","))),
        ("created_after", at(filter.since)?),
        ("created_before", at(filter.until)?),
        ("trigger", filter.trigger),
        ("requested_by", requested_by),
        ("job_id", job_id),
    ];
    let filters: Vec<_> = filters
        .iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)))
        .collect();
    let list = listing::List {
        segments: &["executions"],
        filters: &filters,
        limit: filter.limit.into(),
        columns: &COLUMNS,
        empty: "No executions.",
    };
    let page = list.read(session).await.map_err(|error| match &filter.on {
        Some(expression) => mark_column(error, expression),
        None => error,
    })?;
    list.show_page(session, &page)
}
