//! `muster jobs retry`: the same work again, where it ended in a certain way.

use clap::ValueEnum;
use futures_util::{StreamExt as _, TryStreamExt as _};
use regex::bytes::Regex;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::client::ApiClient;
use crate::api::output_stream::{OutputRequest, read_output};
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::output::printer::print_note;
use crate::output::text::pluralize;
use crate::session::Session;

/// Executions whose output is read at once. An API key may have 64 event streams.
const MAX_CONCURRENT: usize = 16;
/// Bytes of each output in which --matching looks.
const MAX_SEARCHED_BYTES: usize = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the job
    job: String,
    /// Which executions to run again
    #[arg(long, value_enum, default_value_t = Scope::Failed)]
    executions: Scope,
    /// Only those that ended like this, such as failed,refused,expired
    #[arg(long, value_name = "STATES", value_delimiter = ',', conflicts_with = "executions")]
    only: Vec<EndState>,
    /// Only those whose output matches this regular expression
    #[arg(long, value_name = "REGEX")]
    matching: Option<Regex>,
    /// Confirm that the retry reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N")]
    confirm_agents: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scope {
    /// Those that did not succeed
    Failed,
    /// All of them
    All,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EndState {
    Succeeded,
    Failed,
    #[value(alias = "timed_out")]
    TimedOut,
    Cancelled,
    /// The host refused it
    #[value(alias = "refused")]
    Rejected,
    Expired,
    Lost,
    Skipped,
}

impl EndState {
    fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
        }
    }
}

/// Submits the new job.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let job = session.work_id("jobs", &args.job).await?;
    let mut body = match (args.only.is_empty(), args.executions) {
        (true, Scope::Failed) => json!({ "executions": "failed" }),
        (true, Scope::All) => json!({ "executions": "all" }),
        (false, _) => {
            json!({ "states": args.only.iter().map(|state| state.name()).collect::<Vec<_>>() })
        }
    };
    if let Some(pattern) = &args.matching {
        let agents = matching_agents(session, &job, pattern).await?;
        if agents.is_empty() {
            let message = "the output of no execution matches; nothing was sent";
            return Err(CliError::Unsuccessful(message.into()));
        }
        // Without --only, the output alone decides, also where the script succeeded.
        if args.only.is_empty() {
            body = json!({ "executions": "all" });
        }
        body["agent_ids"] = json!(agents);
    }
    if let Some(count) = args.confirm_agents {
        body["confirm_agent_count"] = count.into();
    }
    let request = session
        .api
        .request(Method::POST, &["jobs", &job, "retry"])
        // The same key for every attempt: a repeated request creates no second job.
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let answer: Value = session.api.json_with_retries(request).await?;
    let id = answer.get("id").and_then(Value::as_str).unwrap_or_default();
    let agents = answer.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
    session.output.answer(&answer, |_| {
        format!("Job {id} retries job {job} on {}.", pluralize(agents, "agent"))
    })?;
    if !session.output.json {
        print_note(&format!("follow it with `muster jobs watch {id}`"));
    }
    Ok(0)
}

/// The agents whose execution of the job printed something that matches.
async fn matching_agents(
    session: &Session,
    job: &str,
    pattern: &Regex,
) -> Result<Vec<String>, CliError> {
    let page = session.api.list(&["jobs", job, "executions"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |item: &Value, name: &str| {
        item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let ended = items.into_iter().filter(|item| is_terminal(&text(item, "state")));
    let checks = futures_util::stream::iter(ended.map(|item| {
        let (api, pattern) = (session.api.clone(), pattern.clone());
        async move {
            let matches = is_match(&api, &text(&item, "id"), &pattern).await?;
            Ok::<_, CliError>(matches.then(|| text(&item, "agent_id")))
        }
    }));
    let found: Vec<Option<String>> = checks.buffered(MAX_CONCURRENT).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn is_match(api: &ApiClient, id: &str, pattern: &Regex) -> Result<bool, CliError> {
    let request = OutputRequest { stream: None, from_bytes: 0, follow: false };
    let mut output = Vec::new();
    read_output(api, id, request, |_, bytes| {
        let free_bytes = MAX_SEARCHED_BYTES - output.len();
        output.extend_from_slice(&bytes[..bytes.len().min(free_bytes)]);
        Ok(())
    })
    .await?;
    Ok(pattern.is_match(&output))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct RetryLine {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn states_have_the_names_that_people_use() {
        let line = ["retry", "7", "--only", "failed,refused,timed_out,timed-out"];
        let only = RetryLine::try_parse_from(line).expect("a valid command line").args.only;
        assert_eq!(
            only,
            [EndState::Failed, EndState::Rejected, EndState::TimedOut, EndState::TimedOut]
        );
        assert!(RetryLine::try_parse_from(["retry", "7", "--only", "bad"]).is_err());
        assert!(RetryLine::try_parse_from(["retry", "7", "--matching", "("]).is_err());
    }
}
