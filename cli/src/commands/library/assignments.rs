//! `muster assignments`: packages and scripts that are wanted on agents.

use clap::Subcommand;
use muster_protocol::library::LIBRARY_PREFIX;
use muster_protocol::package::PACKAGE_PREFIX;
use muster_protocol::parameter::Parameters;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::commands::fleet::target_options::{
    TARGET, TARGET_EXPRESSION, TARGET_TAGS, TargetOptions, target_expression,
};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::{count_or_percentage, milliseconds};
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const ASSIGNMENT: &str = "Assignment";
const ROLLOUT: &str = "Rollout";
const SCHEDULE: &str = "Schedule of a script";
const COLUMNS: [Column; 5] = [
    Column::of("NAME", "name"),
    Column::of("SCRIPT", "script"),
    Column::by("TARGET", target_expression),
    Column::of("CHANGED", "changed_at"),
    Column::of("ID", "id"),
];
const AGENT_COLUMNS: [Column; 8] = [
    Column::of("AGENT", "agent_name"),
    Column::of("CONNECTED", "is_connected"),
    Column::of("VERSION", "version"),
    Column::of("STATE", "state"),
    Column::of("SKIPPED", "skipped_count"),
    Column::of("REPORTED", "reported_at"),
    Column::of("CODE", "error_code"),
    Column::of("ERROR", "error"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("script", "--package or --script"),
    option("schedule", "--cron or --every"),
    option("schedule.cron", "--cron")
        .expects("minute, hour, day of the month, month and day of the week, such as '30 2 * * *'"),
    option("schedule.time_zone", "--time-zone").expects("a name such as Europe/Berlin"),
    option("schedule.every_ms", "--every"),
    TARGET,
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("parameters", "--parameter"),
    option("rollout", "--wave").expects("another version"),
    option("rollout.wave_size", "--wave").expects("a number, or a percentage such as 10%"),
    option("rollout.max_failures", "--max-failures")
        .expects("a number, or a percentage such as 5%"),
    option("rollout.healthy_for_ms", "--healthy-for"),
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
    /// List assignments, the newest first (default action)
    List {
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Show all details of an assignment
    Show {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
    },
    /// List the agents of an assignment with its state on each host
    Agents {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Assign a package of kind task or service, or a script with a schedule, to agents, also to those that join later
    ///
    ///   muster assignments add nightly-backup --package backup@1.2.0 --on tag:web
    ///   muster assignments add disk-report --script disk-report --cron '0 6 * * *' --on all
    #[command(verbatim_doc_comment)]
    Add {
        /// Name of the new assignment
        name: String,
        /// Package: NAME for its newest version, or NAME@VERSION
        #[arg(long, value_name = "PACKAGE", help_heading = ASSIGNMENT)]
        #[arg(required_unless_present = "script", conflicts_with = "script")]
        package: Option<String>,
        /// Script of the library: NAME for its current version, or NAME@VERSION
        #[arg(long, value_name = "SCRIPT", help_heading = ASSIGNMENT)]
        script: Option<String>,
        #[command(flatten)]
        schedule: AssignmentSchedule,
        /// Parameter of each run; repeatable
        #[arg(short, long = "parameter", value_name = "NAME=VALUE", help_heading = ASSIGNMENT)]
        parameters: Vec<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change the name, the target, or the version, at once or in waves
    ///
    ///   muster assignments edit nightly-backup --package backup@1.3.0 --wave 10%
    #[command(verbatim_doc_comment)]
    Edit {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
        /// New name
        #[arg(long, help_heading = ASSIGNMENT)]
        name: Option<String>,
        /// Another version of the package, NAME@VERSION
        #[arg(long, value_name = "PACKAGE", conflicts_with = "script", help_heading = ASSIGNMENT)]
        package: Option<String>,
        /// Another version of the script, NAME@VERSION
        #[arg(long, value_name = "SCRIPT", help_heading = ASSIGNMENT)]
        script: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Resume a rollout that has halted; agents that failed count no more
    Resume {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
    },
    /// Finish a rollout: all agents get the version at once
    Finish {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
    },
    /// Abort a rollout: all agents get the former version
    Abort {
        /// Assignment: an id, a name, or a unique prefix of one
        assignment: String,
    },
    /// Delete an assignment: its hosts remove the package or the script
    Remove {
        /// Assignment: an id or a full name
        assignment: String,
    },
}

/// When a script is due. A package has its own schedule.
#[derive(Debug, clap::Args)]
struct AssignmentSchedule {
    /// When the script is due: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "EXPRESSION", requires = "script", conflicts_with = "every", help_heading = SCHEDULE)]
    cron: Option<String>,
    /// Time zone of --cron [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "cron", help_heading = SCHEDULE)]
    time_zone: Option<String>,
    /// Run the script at this interval
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "script", help_heading = SCHEDULE)]
    every: Option<u64>,
}

impl AssignmentSchedule {
    fn body(&self) -> Option<Value> {
        let mut body = Map::new();
        if let Some(cron) = &self.cron {
            body.insert("cron".into(), cron.as_str().into());
        }
        if let Some(zone) = &self.time_zone {
            body.insert("time_zone".into(), zone.as_str().into());
        }
        if let Some(ms) = self.every {
            body.insert("every_ms".into(), ms.into());
        }
        (!body.is_empty()).then(|| body.into())
    }
}

#[derive(Debug, clap::Args)]
struct Settings {
    #[command(flatten)]
    target: TargetOptions,
    /// Bring the version to this many agents at a time: a number, or a percentage such as 10% [default: all at once]
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, help_heading = ROLLOUT)]
    wave: Option<Value>,
    /// Halt after more failures than this: a number, or a percentage such as 5% [default: 0]
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, requires = "wave", help_heading = ROLLOUT)]
    max_failures: Option<Value>,
    /// Start the next wave only after each agent of the wave was online for this long [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave", help_heading = ROLLOUT)]
    healthy_for: Option<u64>,
    /// Confirm that this reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N", help_heading = ASSIGNMENT)]
    confirm_agents: Option<u32>,
}

impl Settings {
    /// Only what is given.
    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(target) = self.target.body() {
            body.insert("target".into(), target);
        }
        if let Some(wave) = &self.wave {
            let mut rollout = Map::from_iter([("wave_size".to_owned(), wave.clone())]);
            if let Some(max_failures) = &self.max_failures {
                rollout.insert("max_failures".into(), max_failures.clone());
            }
            if let Some(ms) = self.healthy_for {
                rollout.insert("healthy_for_ms".into(), ms.into());
            }
            body.insert("rollout".into(), rollout.into());
        }
        if let Some(count) = self.confirm_agents {
            body.insert("confirm_agent_count".into(), count.into());
        }
        body
    }
}

/// The reference of the API; people leave out the prefix.
fn reference(package: Option<&str>, script: Option<&str>) -> Option<String> {
    let with_prefix = |prefix: &str, typed: &str| match typed.starts_with(prefix) {
        true => typed.to_owned(),
        false => format!("{prefix}{typed}"),
    };
    let script = script.map(|typed| with_prefix(LIBRARY_PREFIX, typed));
    package.map(|typed| with_prefix(PACKAGE_PREFIX, typed)).or(script)
}

fn parameters(pairs: &[String]) -> Result<Parameters, CliError> {
    let mut parameters = Parameters::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("invalid parameter \"{pair}\"; use NAME=VALUE"))
        })?;
        if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(CliError::Usage(format!("parameter {name} is given twice")));
        }
    }
    Ok(parameters)
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::Assignment, typed).await;
    match args.action.unwrap_or(Action::List { limit: LatestLimit::default() }) {
        Action::List { limit } => {
            let empty = "No assignments yet. Create one with `muster assignments add`.";
            let segments = &["assignments"];
            let (limit, columns) = (limit.into(), &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { assignment } => {
            session.show(&["assignments", &id_of(&assignment).await?]).await
        }
        Action::Agents { assignment, limit } => {
            let id = id_of(&assignment).await?;
            let empty = "No agent matches the target of this assignment now.";
            let segments = &["assignments", id.as_str(), "agents"];
            List { segments, filters: &[], limit, columns: &AGENT_COLUMNS, empty }
                .show(session)
                .await
        }
        Action::Add { name, package, script, schedule, parameters: pairs, settings } => {
            let mut body = settings.body();
            body.insert("name".into(), name.into());
            body.insert("script".into(), reference(package.as_deref(), script.as_deref()).into());
            if let Some(schedule) = schedule.body() {
                body.insert("schedule".into(), schedule);
            }
            body.insert("parameters".into(), json!(parameters(&pairs)?));
            let said = about("Assignment", "is created");
            session.change(Method::POST, &["assignments"], &body.into(), said).await
        }
        Action::Edit { assignment, name, package, script, settings } => {
            let id = id_of(&assignment).await?;
            let mut body = settings.body();
            if let Some(name) = name {
                body.insert("name".into(), name.into());
            }
            if let Some(reference) = reference(package.as_deref(), script.as_deref()) {
                body.insert("script".into(), reference.into());
            }
            if body.is_empty() {
                return Err(CliError::Usage("give at least one option to change".into()));
            }
            let said = about("Assignment", "is changed");
            session.change(Method::PATCH, &["assignments", &id], &body.into(), said).await
        }
        Action::Resume { assignment } => {
            let id = id_of(&assignment).await?;
            let said = about("Assignment", "continues its rollout");
            session.act(&["assignments", &id, "rollout", "resume"], said).await
        }
        Action::Finish { assignment } => {
            let id = id_of(&assignment).await?;
            let said = about("Assignment", "reaches all its agents");
            session.act(&["assignments", &id, "rollout", "finish"], said).await
        }
        Action::Abort { assignment } => {
            let id = id_of(&assignment).await?;
            let said = about("Assignment", "goes back to its former version");
            session.act(&["assignments", &id, "rollout", "abort"], said).await
        }
        Action::Remove { assignment } => {
            let id = session.exact_id_of(ResourceKind::Assignment, &assignment).await?;
            session.delete(("Assignment", &assignment), &["assignments", &id]).await
        }
    }
}
