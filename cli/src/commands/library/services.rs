//! `muster services`: assigned packages that hosts keep running.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::commands::commands::logs;
use crate::commands::fleet::target_options::{
    TARGET, TARGET_EXPRESSION, TARGET_TAGS, TargetOptions, target_expression,
};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("PACKAGE", "package"),
    Column::by("TARGET", target_expression),
    Column::by("AGENTS", state_counts),
    Column::by("RESTART", |service| setting(service, "restart")),
    Column::of("ID", "id"),
];
const AGENT_COLUMNS: [Column; 10] = [
    Column::of("AGENT", "agent_name"),
    Column::of("CONNECTED", "is_connected"),
    Column::by("STATE", |agent| reported(agent, "state")),
    Column::by("HEALTH", |agent| reported(agent, "health")),
    Column::by("RESTARTS", |agent| reported(agent, "restart_count")),
    Column::of("STARTS AGAIN", "service.restart_at"),
    Column::by("LIMITS", |agent| reported(agent, "limits")),
    Column::of("STARTED", "service.started_at"),
    Column::by("LAST END", last_end),
    Column::of("ERROR", "error"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    TARGET,
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("confirm_agent_count", "--confirm-agents"),
    option("follow", "--follow"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List services, the newest first (default action)
    List {
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// List the agents of a service with its state on each host
    Agents {
        /// Service: the id, the name, or a unique prefix of the name of its assignment
        service: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Start a service that was stopped
    Start(Control),
    /// Stop a service until it is started again
    Stop(Control),
    /// Restart a service, also one that has ended
    Restart(Control),
    /// Print the output of the last run of a service on an agent
    Logs {
        /// Service: the id, the name, or a unique prefix of the name of its assignment
        service: String,
        /// Agent: an id, a name, or a hostname
        agent: String,
        /// Wait for more output until the run has ended
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Control {
    /// Service: the id, the name, or a unique prefix of the name of its assignment
    service: String,
    #[command(flatten)]
    target: TargetOptions,
    /// Confirm that this reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N")]
    confirm_agents: Option<u32>,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::List { limit: LatestLimit::default() }) {
        Action::List { limit } => {
            let empty =
                "No services yet. Assign a package of kind service with `muster assignments add`.";
            let segments = &["services"];
            let (limit, columns) = (limit.into(), &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Agents { service, limit } => {
            let id = session.id_of(ResourceKind::Service, &service).await?;
            let empty = "No agent matches the target of this service now.";
            let segments = &["assignments", id.as_str(), "agents"];
            List { segments, filters: &[], limit, columns: &AGENT_COLUMNS, empty }
                .show(session)
                .await
        }
        Action::Start(control) => send("start", control, session).await,
        Action::Stop(control) => send("stop", control, session).await,
        Action::Restart(control) => send("restart", control, session).await,
        Action::Logs { service, agent, follow } => {
            let id = session.id_of(ResourceKind::Service, &service).await?;
            let run = last_run(session, &id, &agent).await?;
            logs::run(logs::Args::of_execution(run, follow), session).await
        }
    }
}

async fn send(action: &str, control: Control, session: &Session) -> Result<u8, CliError> {
    let id = session.id_of(ResourceKind::Service, &control.service).await?;
    let mut body = Map::new();
    if let Some(target) = control.target.body() {
        body.insert("target".into(), target);
    }
    if let Some(count) = control.confirm_agents {
        body.insert("confirm_agent_count".into(), count.into());
    }
    let said = |answer: &Value| {
        let count = answer.get("agent_count").and_then(Value::as_u64).unwrap_or_default();
        let agents = if count == 1 { "agent" } else { "agents" };
        format!("{action} of the service requested on {count} {agents}")
    };
    session.change(Method::POST, &["services", &id, action], &body.into(), said).await
}

/// The execution of the last run of a service on an agent.
async fn last_run(session: &Session, id: &str, agent: &str) -> Result<String, CliError> {
    let agent_id = session.id_of(ResourceKind::Agent, agent).await?;
    let page = session.api.list(&["assignments", id, "agents"], &[], None).await?;
    let agents = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let found = agents.iter().find(|item| text(item, "agent_id").as_ref() == Some(&agent_id));
    let found = found.ok_or_else(|| {
        CliError::Usage(format!(
            "the service is not assigned to {agent}; see `muster services agents`"
        ))
    })?;
    let run = found.get("service").and_then(|service| text(service, "run_id"));
    run.ok_or_else(|| CliError::Usage(format!("{agent} has reported no run of the service yet")))
}

/// What the package of a service says.
fn setting(service: &Value, name: &str) -> String {
    let value = service.get("settings").and_then(|settings| settings.get(name));
    value.and_then(Value::as_str).unwrap_or("-").to_owned()
}

/// A field of what a host reported about a service.
fn reported(agent: &Value, name: &str) -> String {
    match agent.get("service").and_then(|service| service.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".into(),
    }
}

/// How the last run that has ended did so, such as `failed (out_of_memory)`.
fn last_end(agent: &Value) -> String {
    let outcome = reported(agent, "last_outcome");
    match reported(agent, "last_error_code").as_str() {
        "-" => outcome,
        code => format!("{outcome} ({code})"),
    }
}

/// How many agents are in which state.
fn state_counts(item: &Value) -> String {
    let counts = item.get("state_counts").and_then(Value::as_object);
    let texts = counts.into_iter().flatten().map(|(state, count)| format!("{count} {state}"));
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { "-".into() } else { texts.join(", ") }
}
