//! `muster jobs`: what was asked of many agents at once.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Session;
use super::fan_out::counts_in_words;
use super::listing::{Limit, List};
use crate::command_line::work;
use crate::error::CliError;
use crate::table::Column;
use crate::wording::in_options;

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", work),
    Column::of("STATE", "state"),
    Column::of("AGENTS", "agent_count"),
    Column::by("EXECUTIONS", counts_in_words),
    Column::of("CREATED", "created_at"),
];

const EXECUTIONS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("AGENT", "agent_name"),
    Column::of("STATE", "state"),
    Column::of("EXIT", "exit_code"),
    Column::of("FINISHED", "finished_at"),
    Column::by("ERROR", error),
];

/// Without an action: the latest jobs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// JOB is an id.
#[derive(Debug, Subcommand)]
enum Action {
    /// Jobs, newest first.
    List(Limit),
    /// Everything that is known of one.
    Show { job: String },
    /// What came of it, agent by agent.
    Executions {
        job: String,
        /// Only in this state.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Ask for the end of all that is open.
    Cancel { job: String },
    /// Of a roll-out: start nothing more; what runs goes on.
    Pause { job: String },
    /// Of a roll-out: go on, also after it halted by itself.
    Resume { job: String },
    /// Of a roll-out: end what has not begun, and let the rest run.
    Abort { job: String },
    /// Do it once more, as a new job, where it did not succeed.
    Retry {
        job: String,
        /// On which of them.
        #[arg(long, value_enum, default_value_t = Which::Failed)]
        executions: Which,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Those that did not succeed.
    Failed,
    All,
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let (segments, columns, limit) = (&["jobs"], &COLUMNS, limit.or_latest());
            session
                .list(List { segments, filters: &[], limit, columns, nothing: "no jobs yet" })
                .await
        }
        Action::Show { job } => session.show(Method::GET, &["jobs", &job]).await,
        Action::Executions { job, state, limit } => {
            let filters: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            let (segments, columns) = (&["jobs", &job, "executions"], &EXECUTIONS);
            let nothing = "no executions";
            session.list(List { segments, filters: &filters, limit, columns, nothing }).await
        }
        Action::Cancel { job } => {
            session.change(Method::POST, &["jobs", &job, "cancel"], &json!({})).await
        }
        Action::Pause { job } => steer(session, &job, "pause").await,
        Action::Resume { job } => steer(session, &job, "resume").await,
        Action::Abort { job } => steer(session, &job, "abort").await,
        Action::Retry { job, executions } => {
            let word = match executions {
                Which::Failed => "failed",
                Which::All => "all",
            };
            let request = session
                .api
                .request(Method::POST, &["jobs", &job, "retry"])
                // One key for all attempts: a request that is sent again makes no second job.
                .header("Idempotency-Key", Uuid::now_v7().to_string())
                .json(&json!({ "executions": word }));
            let answer: Value = session.api.json_repeated(request).await?;
            session.output.details(&answer)?;
            Ok(0)
        }
    }
}

/// Why an execution ended as it did.
fn error(execution: &Value) -> String {
    let text = |name: &str| execution.get(name).and_then(Value::as_str);
    match text("error") {
        Some(error) => in_options(text("error_code").unwrap_or_default(), error),
        None => "-".to_owned(),
    }
}

async fn steer(session: &Session, job: &str, word: &str) -> Result<u8, CliError> {
    session.change(Method::POST, &["jobs", job, word], &json!({})).await
}
