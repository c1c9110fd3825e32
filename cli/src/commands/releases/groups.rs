//! `muster groups`: groups of agents, and the version that each group runs.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::commands::fleet::target_options::{
    TARGET, TARGET_EXPRESSION, TARGET_TAGS, TargetOptions, target_expression,
};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::{count_or_percentage, milliseconds};
use crate::listing::{Limit, List};
use crate::output::printer::print;
use crate::output::table::Column;
use crate::output::text::{about, sanitize};
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("DESIRED VERSION", "desired_version"),
    Column::of("STATE", "state"),
    Column::of("WAVE", "wave"),
    Column::by("TARGET", target_expression),
    Column::of("ID", "id"),
];

/// The cohorts of one group.
const COHORT_COLUMNS: [Column; 4] = [
    Column::by("COHORT", cohort_name),
    Column::of("STATE", "state"),
    Column::of("AGENTS", "agent_count"),
    Column::of("CANARY", "canary_name"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    TARGET,
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("desired_version", "--version").expects("a version such as 0.2.0"),
    option("wave_size", "--wave").expects("a number, or a percentage such as 10%"),
    option("max_failures", "--max-failures").expects("a number, or a percentage such as 5%"),
    option("healthy_for_ms", "--healthy-for"),
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
    /// List all groups (default action)
    List(Limit),
    /// Create a group; an agent that matches several groups belongs to the oldest
    Create {
        /// Name of the group
        name: String,
        #[command(flatten)]
        settings: GroupOptions,
    },
    /// Show all details of a group and the progress of its agents
    Show {
        /// Group: an id, a name, or a unique prefix of one
        group: String,
    },
    /// Change a group; a new version, higher or lower, rolls out in waves
    Set {
        /// Group: an id, a name, or a unique prefix of one
        group: String,
        /// New name for the group
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: GroupOptions,
    },
    /// Pause a group: start no more updates
    Pause {
        /// Group: an id, a name, or a unique prefix of one
        group: String,
    },
    /// Resume a group that is paused or halted, and retry its failed agents
    Resume {
        /// Group: an id, a name, or a unique prefix of one
        group: String,
    },
    /// Delete a group; its agents keep their version
    Delete {
        /// Group: an id or a full name
        group: String,
    },
}

#[derive(Debug, Default, clap::Args)]
struct GroupOptions {
    #[command(flatten)]
    target: TargetOptions,
    /// Desired version of the agents; `none` stops managing their version
    #[arg(long, value_name = "VERSION", help_heading = ROLLOUT)]
    version: Option<String>,
    /// Agents in a wave: a number, or a percentage such as 10% [default of a new group: 1]
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, help_heading = ROLLOUT)]
    wave: Option<Value>,
    /// Halt after more failures than this: a number, or a percentage such as 5% [default of a new group: 0]
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, help_heading = ROLLOUT)]
    max_failures: Option<Value>,
    /// Start the next wave only after each agent of the wave was online for this long [default of a new group: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = ROLLOUT)]
    healthy_for: Option<u64>,
    /// Confirm that the group has this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N", help_heading = ROLLOUT)]
    confirm_agents: Option<u32>,
}

const ROLLOUT: &str = "Rollout";

impl GroupOptions {
    /// Only the given options; the server has the defaults.
    fn body(self, name: Option<String>) -> Value {
        let mut body = Map::new();
        if let Some(name) = name {
            body.insert("name".into(), name.into());
        }
        if let Some(target) = self.target.body() {
            body.insert("target".into(), target);
        }
        if let Some(version) = self.version {
            let version = if version == "none" { Value::Null } else { version.into() };
            body.insert("desired_version".into(), version);
        }
        if let Some(wave) = self.wave {
            body.insert("wave_size".into(), wave);
        }
        if let Some(max_failures) = self.max_failures {
            body.insert("max_failures".into(), max_failures);
        }
        if let Some(ms) = self.healthy_for {
            body.insert("healthy_for_ms".into(), ms.into());
        }
        if let Some(count) = self.confirm_agents {
            body.insert("confirm_agent_count".into(), count.into());
        }
        body.into()
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let empty = "No groups yet. Create one with `muster groups create`.";
            let (segments, columns) = (&["groups"], &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Create { name, settings } => {
            session
                .change(
                    Method::POST,
                    &["groups"],
                    &settings.body(Some(name)),
                    about("Group", "is created"),
                )
                .await
        }
        Action::Show { group } => {
            let id = session.id_of(ResourceKind::Group, &group).await?;
            show(&id, session).await
        }
        Action::Set { group, name, settings } => {
            let id = session.id_of(ResourceKind::Group, &group).await?;
            session
                .change(
                    Method::PATCH,
                    &["groups", &id],
                    &settings.body(name),
                    about("Group", "is changed"),
                )
                .await
        }
        Action::Pause { group } => {
            let id = session.id_of(ResourceKind::Group, &group).await?;
            session.act(&["groups", &id, "pause"], about("Group", "is paused")).await
        }
        Action::Resume { group } => {
            let id = session.id_of(ResourceKind::Group, &group).await?;
            session.act(&["groups", &id, "resume"], about("Group", "continues")).await
        }
        Action::Delete { group } => {
            let id = session.exact_id_of(ResourceKind::Group, &group).await?;
            session.delete(("Group", &group), &["groups", &id]).await
        }
    }
}

/// Shows a group, its cohorts as a table of their own, and below it why cohorts are held back.
async fn show(id: &str, session: &Session) -> Result<u8, CliError> {
    let request = session.api.request(Method::GET, &["groups", id]);
    let mut group = session.api.json(request).await?;
    let cohorts = group.get("cohorts").and_then(Value::as_array).cloned().unwrap_or_default();
    if session.output.json || cohorts.is_empty() {
        session.output.details(&group)?;
        return Ok(0);
    }
    group.as_object_mut().map(|fields| fields.remove("cohorts"));
    session.output.details(&group)?;
    print("")?;
    session.output.list(&json!({ "items": cohorts }), &COHORT_COLUMNS, "")?;
    let notes: Vec<String> = cohorts.iter().filter_map(cohort_note).collect();
    if !notes.is_empty() {
        print(&format!("\n{}", notes.join("\n")))?;
    }
    Ok(0)
}

/// What the agents of a cohort have in common.
fn cohort_name(cohort: &Value) -> String {
    let word = |name| cohort.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{} {} {}", word("os"), word("arch"), word("service_manager"))
}

fn cohort_note(cohort: &Value) -> Option<String> {
    let note = cohort.get("note").and_then(Value::as_str)?;
    Some(sanitize(&format!("{}: {note}", cohort_name(cohort))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_given_settings_are_sent_and_none_clears_the_version() {
        assert_eq!(GroupOptions::default().body(None), json!({}));
        let settings = GroupOptions { version: Some("none".into()), ..GroupOptions::default() };
        assert_eq!(
            settings.body(Some("web".into())),
            json!({"name": "web", "desired_version": null})
        );
    }

    #[test]
    fn a_note_names_its_cohort_and_control_characters_do_not_reach_the_terminal() {
        let mut cohort =
            json!({"os": "linux", "arch": "x86_64", "service_manager": "systemd", "note": null});
        assert_eq!(cohort_note(&cohort), None);
        cohort["note"] = json!("The canary failed: \u{1b}[2J");
        let shown = cohort_note(&cohort).expect("a note");
        assert!(shown.starts_with("linux x86_64 systemd: The canary failed: "), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
