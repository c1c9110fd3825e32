//! `muster groups`: agents that are to be of one version.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Session;
use super::listing::{Limit, List};
use super::rollout::{amount, milliseconds};
use crate::error::CliError;
use crate::table::Column;

const COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("WANTED", "desired_version"),
    Column::of("STATE", "state"),
    Column::of("WAVE", "wave"),
    Column::by("TARGET", target),
    Column::of("ID", "id"),
];

/// Without an action: all groups.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// GROUP is an id, a name, or the beginning of a name that no other group shares.
#[derive(Debug, Subcommand)]
enum Action {
    /// All groups.
    List(Limit),
    /// Make one. An agent belongs to one group: the oldest that means it.
    Create {
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Everything that is known of one, and where its agents are.
    Show { group: String },
    /// Change one. Another version is rolled out in waves, up or down.
    Set {
        group: String,
        /// Call it so.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Ask no more agents for now.
    Pause { group: String },
    /// Go on after a pause or a halt; agents that failed are asked again.
    Resume { group: String },
    /// Delete one, named in full; its agents stay as they are.
    Delete { group: String },
}

#[derive(Debug, Default, clap::Args)]
struct Settings {
    /// Who belongs to it, such as 'tag:web & os:linux'.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tags")]
    on: Option<String>,
    /// Agents with this tag; repeatable, all of them count.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The version that they are to be of; `none` leaves them as they are.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Agents that are asked at once: a number, or a share of all such as 10%.
    #[arg(long, value_name = "N|N%", value_parser = amount)]
    wave: Option<Value>,
    /// Agents that may fail before it halts: a number, or a share of all such as 5%.
    #[arg(long, value_name = "N|N%", value_parser = amount)]
    max_failures: Option<Value>,
    /// Before the next wave, each agent of the last has to be connected for this long, such as 30s.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    healthy_for: Option<u64>,
}

impl Settings {
    /// Only what was asked for: the defaults are the server's.
    fn body(self, name: Option<String>) -> Value {
        let mut body = Map::new();
        if let Some(name) = name {
            body.insert("name".into(), name.into());
        }
        if let Some(expression) = self.on {
            body.insert("target".into(), json!({ "expression": expression }));
        } else if !self.tags.is_empty() {
            body.insert("target".into(), json!({ "tags": self.tags }));
        }
        if let Some(version) = self.version {
            let wanted = if version == "none" { Value::Null } else { version.into() };
            body.insert("desired_version".into(), wanted);
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
        body.into()
    }
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let nothing = "no groups yet: make one with `muster groups create`";
            let (segments, columns) = (&["groups"], &COLUMNS);
            session.list(List { segments, filters: &[], limit, columns, nothing }).await
        }
        Action::Create { name, settings } => {
            session.change(Method::POST, &["groups"], &settings.body(Some(name))).await
        }
        Action::Show { group } => {
            let id = session.group_id(&group).await?;
            session.show(Method::GET, &["groups", &id]).await
        }
        Action::Set { group, name, settings } => {
            let id = session.group_id(&group).await?;
            session.change(Method::PATCH, &["groups", &id], &settings.body(name)).await
        }
        Action::Pause { group } => {
            let id = session.group_id(&group).await?;
            session.change(Method::POST, &["groups", &id, "pause"], &json!({})).await
        }
        Action::Resume { group } => {
            let id = session.group_id(&group).await?;
            session.change(Method::POST, &["groups", &id, "resume"], &json!({})).await
        }
        Action::Delete { group } => {
            let id = session.exact_group_id(&group).await?;
            session.delete(&["groups", &id]).await
        }
    }
}

/// Who is meant, as it may be typed: an expression.
fn target(group: &Value) -> String {
    let Some(target) = group.get("target") else { return "-".into() };
    let texts = |name: &str| -> Vec<&str> {
        let items = target.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let joined = |fact: &str, texts: Vec<&str>, joint: &str| {
        texts.iter().map(|text| format!("{fact}:{text}")).collect::<Vec<_>>().join(joint)
    };
    match (target.get("expression").and_then(Value::as_str), texts("tags"), texts("ids")) {
        (Some(expression), ..) => expression.to_owned(),
        (None, tags, _) if !tags.is_empty() => joined("tag", tags, " & "),
        (None, _, ids) => joined("id", ids, " | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_as_it_may_be_typed() {
        for (asked, shown) in [
            (json!({"expression": "tag:web | all"}), "tag:web | all"),
            (json!({"tags": ["web", "eu"]}), "tag:web & tag:eu"),
            (json!({"ids": ["1", "2"]}), "id:1 | id:2"),
        ] {
            assert_eq!(target(&json!({ "target": asked })), shown);
        }
    }
}
