//! `muster jobs`: jobs, their executions and their rollouts.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::job_progress::summarize_counts;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::output::work_summary::work_summary;
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
    Column::of("STATE", "state"),
    Column::of("EXIT", "exit_code"),
    Column::of("FINISHED", "finished_at"),
    Column::of("ERROR", "error"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("state", "--state").expects("the name of an execution state, such as failed"),
    option("executions", "--executions").expects("failed or all"),
    option("confirm_agent_count", "--confirm-agents"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest jobs (default action)
    List(LatestLimit),
    /// Show all details of a job
    Show {
        /// Id of the job
        job: String,
    },
    /// List the executions of a job, one for each agent
    Executions {
        /// Id of the job
        job: String,
        /// Only executions in this state, such as failed or running
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Cancel a job: end its running executions and start no more
    Cancel {
        /// Id of the job
        job: String,
    },
    /// Pause a rollout: start no more executions; running ones continue
    Pause {
        /// Id of the job
        job: String,
    },
    /// Resume a rollout that is paused or halted
    Resume {
        /// Id of the job
        job: String,
    },
    /// Abort a rollout: cancel the executions that have not started; running ones continue
    Abort {
        /// Id of the job
        job: String,
    },
    /// Run the unsuccessful executions of a job again, as a new job
    Retry {
        /// Id of the job
        job: String,
        /// Which executions to run again
        #[arg(long, value_enum, default_value_t = RetryScope::Failed)]
        executions: RetryScope,
        /// Confirm that the retry reaches this number of agents, where your tenant asks for it
        #[arg(long, value_name = "N")]
        confirm_agents: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RetryScope {
    /// Those that did not succeed
    Failed,
    /// All of them
    All,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(LatestLimit::default())) {
        Action::List(limit) => {
            let (segments, columns, limit) = (&["jobs"], &COLUMNS, limit.into());
            List { segments, filters: &[], limit, columns, empty: "No jobs yet." }
                .show(session)
                .await
        }
        Action::Show { job } => session.show(&["jobs", &job]).await,
        Action::Executions { job, state, limit } => {
            let filters: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            let (segments, columns) = (&["jobs", &job, "executions"], &EXECUTION_COLUMNS);
            let empty = "No executions.";
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Cancel { job } => session.act(&["jobs", &job, "cancel"]).await,
        Action::Pause { job } => session.act(&["jobs", &job, "pause"]).await,
        Action::Resume { job } => session.act(&["jobs", &job, "resume"]).await,
        Action::Abort { job } => session.act(&["jobs", &job, "abort"]).await,
        Action::Retry { job, executions, confirm_agents } => {
            retry(session, &job, executions, confirm_agents).await
        }
    }
}

async fn retry(
    session: &Session,
    job: &str,
    scope: RetryScope,
    confirm_agents: Option<u32>,
) -> Result<u8, CliError> {
    let scope = match scope {
        RetryScope::Failed => "failed",
        RetryScope::All => "all",
    };
    let mut body = json!({ "executions": scope });
    if let Some(count) = confirm_agents {
        body["confirm_agent_count"] = count.into();
    }
    let request = session
        .api
        .request(Method::POST, &["jobs", job, "retry"])
        // The same key for every attempt: a repeated request creates no second job.
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let answer: Value = session.api.json_with_retries(request).await?;
    session.output.details(&answer)?;
    Ok(0)
}
