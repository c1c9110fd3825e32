//! `muster jobs`: jobs, their executions and their rollouts.

mod retry;
mod show;

use chrono::Utc;
use clap::Subcommand;
use serde_json::Value;

use super::job_progress::summarize_counts;
use super::output_groups;
use super::run::job_run::{self, JobWait};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::instants::instant;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::output::work_summary::{state_and_step, work_summary};
use crate::session::Session;

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", work_summary),
    Column::of("STATE", "state"),
    Column::of("AGENTS", "agent_count"),
    Column::by("EXECUTIONS", summarize_counts),
    Column::of("CREATED", "created_at"),
];

const EXECUTION_COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("AGENT", "agent_name"),
    Column::by("STATE", state_and_step),
    Column::of("EXIT", "exit_code"),
    Column::of("FINISHED", "finished_at"),
    Column::of("ERROR", "error"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("state", "--state").expects("the name of a state, such as failed"),
    option("script", "--script").expects("1 to 128 letters, digits and . _ -"),
    option("created_after", "--since"),
    option("created_before", "--until"),
    option("executions", "--executions").expects("failed or all"),
    option("states", "--only"),
    option("agent_ids", "--matching"),
    option("confirm_agent_count", "--confirm-agents"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    filter: JobFilter,
}

#[derive(Debug, clap::Args)]
struct JobFilter {
    /// Only in this state, such as running, failed or halted
    #[arg(long)]
    state: Option<String>,
    /// Only of this script
    #[arg(long)]
    script: Option<String>,
    /// Only created since then: RFC 3339 such as 2026-11-21T10:00:00Z, a date, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only created before then, in the same forms
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    limit: LatestLimit,
}

impl JobFilter {
    /// True with any filter but the limit.
    fn is_given(&self) -> bool {
        [&self.state, &self.script, &self.since, &self.until].into_iter().any(Option::is_some)
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest jobs that match all filters (default action)
    List(JobFilter),
    /// Show all details of a job, and its agents by state
    Show {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// List the executions of a job, one for each agent
    Executions {
        /// Id of the job, or its first 8 characters or more
        job: String,
        /// Only executions in this state, such as failed or running
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Follow a job: print each execution when it ends, and the output
    Watch {
        /// Id of the job, or its first 8 characters or more
        job: String,
        #[command(flatten)]
        show: ShowOptions,
    },
    /// Wait for the end of a job, and print its result; exits with 0 if it succeeded, else with 1
    Wait {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// Print the output of a job: identical output once, and what differs from it
    Compare {
        /// Id of the job, or its first 8 characters or more
        job: String,
        /// Write every byte to a terminal too, including control sequences
        #[arg(long)]
        raw: bool,
    },
    /// Cancel a job: end its running executions and start no more
    Cancel {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// Pause a rollout: start no more executions; running ones continue
    Pause {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// Resume a rollout that is paused or halted
    Resume {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// Abort a rollout: cancel the executions that have not started; running ones continue
    Abort {
        /// Id of the job, or its first 8 characters or more
        job: String,
    },
    /// Run executions of a job again, as a new job: by default those that did not succeed
    Retry(retry::Args),
}

#[derive(Debug, clap::Args)]
struct ShowOptions {
    /// Print the output; identical output once [default: up to 20 agents]
    #[arg(long, conflicts_with = "no_show")]
    show: bool,
    /// Don't print the output
    #[arg(long)]
    no_show: bool,
    /// Write every byte to a terminal too, including control sequences
    #[arg(long)]
    raw: bool,
    /// Let ^C cancel the job instead of detaching
    #[arg(long)]
    cancel_on_interrupt: bool,
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
        Action::Show { job } => {
            let job = session.work_id("jobs", &job).await?;
            show::show(session, &job).await
        }
        Action::Executions { job, state, limit } => {
            let job = session.work_id("jobs", &job).await?;
            let filters: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            let (segments, columns) = (&["jobs", &job, "executions"], &EXECUTION_COLUMNS);
            let empty = "No executions.";
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Watch { job, show } => {
            let job = session.work_id("jobs", &job).await?;
            let wait = JobWait {
                show: (show.show || show.no_show).then_some(show.show),
                raw: show.raw,
                cancels_on_interrupt: show.cancel_on_interrupt,
                is_silent: false,
            };
            job_run::wait(session, &job, wait).await
        }
        Action::Wait { job } => {
            let job = session.work_id("jobs", &job).await?;
            let wait = JobWait { is_silent: true, ..JobWait::default() };
            job_run::wait(session, &job, wait).await
        }
        Action::Compare { job, raw } => {
            let job = session.work_id("jobs", &job).await?;
            output_groups::print(session, &job, raw).await?;
            Ok(0)
        }
        Action::Cancel { job } => act(session, &job, "cancel").await,
        Action::Pause { job } => act(session, &job, "pause").await,
        Action::Resume { job } => act(session, &job, "resume").await,
        Action::Abort { job } => act(session, &job, "abort").await,
        Action::Retry(args) => retry::run(args, session).await,
    }
}

async fn show_list(filter: JobFilter, session: &Session) -> Result<u8, CliError> {
    let at = |typed: Option<String>| typed.map(|typed| instant(&typed, Utc::now())).transpose();
    let filters = [
        ("state", filter.state),
        ("script", filter.script),
        ("created_after", at(filter.since)?),
        ("created_before", at(filter.until)?),
    ];
    let filters: Vec<_> = filters
        .iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| (*name, value)))
        .collect();
    let (segments, columns, limit) = (&["jobs"], &COLUMNS, filter.limit.into());
    List { segments, filters: &filters, limit, columns, empty: "No jobs." }.show(session).await
}

/// Does something with a job, and says what follows.
async fn act(session: &Session, typed: &str, action: &str) -> Result<u8, CliError> {
    let job = session.work_id("jobs", typed).await?;
    session.act(&["jobs", &job, action], |answer| sentence(action, &job, answer)).await
}

/// What an action did to a job.
fn sentence(action: &str, id: &str, job: &Value) -> String {
    let state = job.get("state").and_then(Value::as_str).unwrap_or_default();
    let counts = summarize_counts(job);
    let is_over = job.get("finished_at").is_some_and(Value::is_string);
    match (action, is_over) {
        (_, true) => format!("Job {id} has ended: {state} ({counts})."),
        ("cancel", _) => format!(
            "Job {id} is being cancelled ({counts}): hosts end what runs. Follow it with `muster jobs \
             watch {id}`."
        ),
        ("pause", _) => format!(
            "Job {id} is paused ({counts}): nothing starts until `muster jobs resume {id}`."
        ),
        ("abort", _) => format!("Job {id} is aborted ({counts}): what was sent continues."),
        _ => format!("Job {id} continues ({counts})."),
    }
}
