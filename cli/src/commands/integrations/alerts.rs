//! `muster alerts`: conditions on agents and their telemetry.

use chrono::Utc;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::commands::fleet::target_options::{TARGET_EXPRESSION, target_expression};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::instants::future_instant;
use crate::input::quantities::milliseconds;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const CONDITION: &str = "Condition";
const COLUMNS: [Column; 7] = [
    Column::of("RULE", "rule_name"),
    Column::of("METRIC", "metric"),
    Column::of("VALUE", "value"),
    Column::of("AGENT", "agent_name"),
    Column::of("OPENED", "opened_at"),
    Column::of("RESOLVED", "resolved_at"),
    Column::of("ID", "id"),
];
const RULE_COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("METRIC", "metric"),
    Column::of("THRESHOLD", "threshold"),
    Column::by("TARGET", target_expression),
    Column::of("ENABLED", "is_enabled"),
    Column::of("SILENCED UNTIL", "silenced_until"),
    Column::of("ID", "id"),
];
const ANY_THRESHOLD: &str = "--online-below or --cpu-above or --memory-above or --disk-above or --load-above or --certificate-days-below";

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("metric", ANY_THRESHOLD),
    option("threshold", ANY_THRESHOLD).expects("a number of agents, 0 to 100 percent, a load, or days"),
    option("clear_threshold", "--clear-at").expects(
        "the threshold or a smaller value; for --online-below and --certificate-days-below the threshold or a larger one",
    ),
    option("for_ms", "--for"),
    option("clear_for_ms", "--clear-for"),
    option("target", "--on"),
    TARGET_EXPRESSION,
    option("is_enabled", "--enabled").expects("true or false"),
    option("until", "--until").expects("a time such as 2026-11-21T10:00:00Z"),
    option("is_open", "--all"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List open alerts, the newest first (default action)
    List {
        /// List resolved alerts too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// List rules that open alerts
    Rules(Limit),
    /// Show all details of a rule
    Show {
        /// Rule: an id, a name, or a unique prefix of one
        rule: String,
    },
    /// Create a rule
    ///
    ///   muster alerts add web-down --online-below 1 --on tag:web --for 5m
    ///   muster alerts add disk-full --disk-above 90 --clear-at 85 --for 10m
    #[command(verbatim_doc_comment)]
    Add {
        /// Name of the new rule
        name: String,
        #[command(flatten)]
        settings: AlertRuleOptions,
    },
    /// Change a rule
    Edit {
        /// Rule: an id, a name, or a unique prefix of one
        rule: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: AlertRuleOptions,
    },
    /// Open no alerts of a rule for a time
    Silence {
        /// Rule: an id, a name, or a unique prefix of one
        rule: String,
        /// Until this time, such as 2h from now or 2026-11-21T10:00:00Z
        #[arg(long, value_name = "TIME", required_unless_present = "end")]
        until: Option<String>,
        /// End it now
        #[arg(long, conflicts_with = "until")]
        end: bool,
    },
    /// Delete a rule with its alerts
    Remove {
        /// Rule: an id or a full name
        rule: String,
    },
}

#[derive(Debug, clap::Args)]
struct AlertRuleOptions {
    /// Open an alert while fewer than N agents are online; 1 is none
    #[arg(long, value_name = "N", help_heading = CONDITION, group = "condition")]
    online_below: Option<u32>,
    /// Open an alert of an agent whose processors are busier, in percent
    #[arg(long, value_name = "PERCENT", help_heading = CONDITION, group = "condition")]
    cpu_above: Option<f64>,
    /// Open an alert of an agent that uses more memory, in percent
    #[arg(long, value_name = "PERCENT", help_heading = CONDITION, group = "condition")]
    memory_above: Option<f64>,
    /// Open an alert of an agent whose disk is fuller, in percent
    #[arg(long, value_name = "PERCENT", help_heading = CONDITION, group = "condition")]
    disk_above: Option<f64>,
    /// Open an alert of an agent with a higher load average of one minute
    #[arg(long, value_name = "LOAD", help_heading = CONDITION, group = "condition")]
    load_above: Option<f64>,
    /// Open an alert of an agent whose certificate ends in fewer days
    #[arg(long, value_name = "DAYS", help_heading = CONDITION, group = "condition")]
    certificate_days_below: Option<u32>,
    /// Value at which the alert is resolved [default: the threshold]
    #[arg(long, value_name = "VALUE", help_heading = CONDITION)]
    clear_at: Option<f64>,
    /// How long the condition holds before an alert opens [default: 5m]
    #[arg(long = "for", value_name = "TIME", value_parser = milliseconds, help_heading = CONDITION)]
    for_ms: Option<u64>,
    /// How long the value is clear before the alert is resolved [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = CONDITION)]
    clear_for: Option<u64>,
    /// Only these agents, such as tag:web [default: all]
    #[arg(long, value_name = "EXPRESSION", help_heading = CONDITION)]
    on: Option<String>,
    /// Whether it is checked: true or false
    #[arg(long, value_name = "BOOL", help_heading = CONDITION)]
    enabled: Option<bool>,
}

impl AlertRuleOptions {
    /// Only what is given; the server has the defaults.
    fn body(self) -> Map<String, Value> {
        let mut body = Map::new();
        let conditions = [
            ("agents_online", self.online_below.map(f64::from)),
            ("cpu_percent", self.cpu_above),
            ("memory_percent", self.memory_above),
            ("disk_percent", self.disk_above),
            ("load_1m", self.load_above),
            ("certificate_days", self.certificate_days_below.map(f64::from)),
        ];
        for (metric, threshold) in conditions {
            if let Some(threshold) = threshold {
                body.insert("metric".into(), json!(metric));
                body.insert("threshold".into(), json!(threshold));
            }
        }
        let values = [
            ("clear_threshold", self.clear_at.map(|value| json!(value))),
            ("for_ms", self.for_ms.map(|ms| json!(ms))),
            ("clear_for_ms", self.clear_for.map(|ms| json!(ms))),
            ("target", self.on.map(|on| json!({"expression": on}))),
            ("is_enabled", self.enabled.map(|enabled| json!(enabled))),
        ];
        for (field, value) in values {
            body.extend(value.map(|value| (field.to_owned(), value)));
        }
        body
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::AlertRule, typed).await;
    let default = Action::List { all: false, limit: LatestLimit::default() };
    match args.action.unwrap_or(default) {
        Action::List { all, limit } => {
            let filters: &[_] = if all { &[] } else { &[("is_open", "true")] };
            let empty = "No open alerts. Rules: `muster alerts rules`.";
            let (segments, columns) = (&["alerts"], &COLUMNS);
            List { segments, filters, limit: limit.into(), columns, empty }.show(session).await
        }
        Action::Rules(limit) => {
            let empty = "No alert rules yet. Create one with `muster alerts add`.";
            let (segments, columns) = (&["alerts", "rules"], &RULE_COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { rule } => session.show(&["alerts", "rules", &id_of(&rule).await?]).await,
        Action::Add { name, settings } => {
            let mut body = settings.body();
            body.insert("name".into(), json!(name));
            let said = about("Alert rule", "is created");
            session.change(Method::POST, &["alerts", "rules"], &body.into(), said).await
        }
        Action::Edit { rule, name, settings } => {
            let id = id_of(&rule).await?;
            let mut body = settings.body();
            body.extend(name.map(|name| ("name".to_owned(), json!(name))));
            if body.is_empty() {
                return Err(CliError::Usage("give at least one option to change".into()));
            }
            let said = about("Alert rule", "is changed");
            session.change(Method::PATCH, &["alerts", "rules", &id], &body.into(), said).await
        }
        Action::Silence { rule, until, end: _ } => {
            let id = id_of(&rule).await?;
            let until = until.map(|typed| future_instant(&typed, Utc::now())).transpose()?;
            let body = json!({ "until": until });
            let said = about(
                "Alert rule",
                if until.is_some() { "is silenced" } else { "is not silenced" },
            );
            let segments = ["alerts", "rules", &id, "silence"];
            session.change(Method::POST, &segments, &body, said).await
        }
        Action::Remove { rule } => {
            let id = session.exact_id_of(ResourceKind::AlertRule, &rule).await?;
            session.delete(("Alert rule", &rule), &["alerts", "rules", &id]).await
        }
    }
}
