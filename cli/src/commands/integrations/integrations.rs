//! `muster integrations`: where events are sent.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::commands::fleet::target_options::target_expression;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("KIND", "kind"),
    Column::of("TO", "host"),
    Column::of("ENABLED", "is_enabled"),
    Column::of("FAILING SINCE", "failing_since"),
    Column::by("TARGET", target_expression),
    Column::of("ID", "id"),
];
const DELIVERY_COLUMNS: [Column; 7] = [
    Column::of("ID", "id"),
    Column::of("EVENT", "event"),
    Column::of("STATE", "state"),
    Column::of("ATTEMPTS", "attempt_count"),
    Column::of("CREATED", "created_at"),
    Column::of("STATUS", "last_attempt.status"),
    Column::of("ERROR", "last_attempt.error"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("kind", "KIND")
        .expects("webhook, slack, discord, teams, pagerduty, datadog, splunk or email"),
    option("settings", "--url"),
    option("settings.url", "--url").expects("a complete URL such as https://hooks.example/x"),
    option("settings.key", "--key").expects("1 to 256 visible ASCII characters"),
    option("settings.site", "--site"),
    option("settings.to", "--to").expects("addresses of members of the tenant"),
    option("event_types", "--event").expects("types such as job.failed or agent.offline"),
    option("target", "--on"),
    option("target.expression", "--on").expects("an expression such as tag:web, or none"),
    option("template", "--template").expects("a template, or none"),
    option("is_enabled", "--enabled").expects("true or false"),
    option("offline_after_ms", "--offline-after"),
    option("state", "--state").expects("queued, pending, delivered or failed"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all integrations (default action)
    List(Limit),
    /// Show all details of an integration
    Show {
        /// Integration: an id, a name, or a unique prefix of one
        integration: String,
    },
    /// Create an integration
    ///
    ///   muster integrations add ops slack --url https://hooks.slack.com/services/T/B/X --event job.failed,agent.offline
    ///   muster integrations add on-call pagerduty --key R0UT1NG --event agent.offline,agent.online --on tag:web
    #[command(verbatim_doc_comment)]
    Add {
        /// Name of the integration
        name: String,
        /// Kind: webhook, slack, discord, teams, pagerduty, datadog, splunk or email
        kind: String,
        #[command(flatten)]
        settings: IntegrationOptions,
    },
    /// Change an integration; --url, --key, --site and --to replace all of them
    Edit {
        /// Integration: an id, a name, or a unique prefix of one
        integration: String,
        /// New name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: IntegrationOptions,
    },
    /// Delete an integration with its deliveries
    Remove {
        /// Integration: an id or a full name
        integration: String,
    },
    /// Send a test message now, and show how the receiver answered
    Test {
        /// Integration: an id, a name, or a unique prefix of one
        integration: String,
    },
    /// List the latest deliveries of an integration
    Deliveries {
        /// Integration: an id, a name, or a unique prefix of one
        integration: String,
        /// Only in this state: queued, pending, delivered or failed
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Send a delivery again
    Resend {
        /// Integration: an id, a name, or a unique prefix of one
        integration: String,
        /// Id of the delivery
        delivery: String,
    },
}

#[derive(Debug, clap::Args)]
struct IntegrationOptions {
    /// Where to send; not shown again
    #[arg(long)]
    url: Option<String>,
    /// Routing key of PagerDuty, API key of Datadog or token of Splunk; not shown again
    #[arg(long)]
    key: Option<String>,
    /// us or eu for PagerDuty; the site of Datadog, such as datadoghq.eu
    #[arg(long)]
    site: Option<String>,
    /// Address of a member of the tenant, for email; repeat for several
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    to: Vec<String>,
    /// Type of event to send, such as job.failed; repeat, or separate by commas
    #[arg(long = "event", value_name = "TYPE", value_delimiter = ',')]
    events: Vec<String>,
    /// Only events of agents that this expression matches, such as tag:web; none removes it
    #[arg(long, value_name = "EXPRESSION")]
    on: Option<String>,
    /// Template of the text; none removes it
    #[arg(long)]
    template: Option<String>,
    /// Whether it sends: true or false
    #[arg(long, value_name = "BOOL")]
    enabled: Option<bool>,
    /// Time that an agent is away before it is reported, such as 5m [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    offline_after: Option<u64>,
}

impl IntegrationOptions {
    fn body(self) -> Map<String, Value> {
        let mut settings = Map::new();
        let texts = [("url", self.url), ("key", self.key), ("site", self.site)];
        for (field, value) in texts {
            settings.extend(value.map(|value| (field.to_owned(), json!(value))));
        }
        if !self.to.is_empty() {
            settings.insert("to".into(), json!(self.to));
        }
        let mut body = Map::new();
        if !settings.is_empty() {
            body.insert("settings".into(), settings.into());
        }
        if !self.events.is_empty() {
            body.insert("event_types".into(), json!(self.events));
        }
        if let Some(on) = self.on {
            let target = if on == "none" { Value::Null } else { json!({"expression": on}) };
            body.insert("target".into(), target);
        }
        if let Some(template) = self.template {
            let template = if template == "none" { Value::Null } else { json!(template) };
            body.insert("template".into(), template);
        }
        body.extend(self.enabled.map(|enabled| ("is_enabled".to_owned(), json!(enabled))));
        body.extend(self.offline_after.map(|ms| ("offline_after_ms".to_owned(), json!(ms))));
        body
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::Integration, typed).await;
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let empty = "No integrations yet. Create one with `muster integrations add`.";
            let (segments, columns) = (&["integrations"], &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { integration } => {
            session.show(&["integrations", &id_of(&integration).await?]).await
        }
        Action::Add { name, kind, settings } => {
            let mut body = settings.body();
            body.insert("name".into(), json!(name));
            body.insert("kind".into(), json!(kind));
            let said = about("Integration", "is created");
            session.change(Method::POST, &["integrations"], &body.into(), said).await
        }
        Action::Edit { integration, name, settings } => {
            let id = id_of(&integration).await?;
            let mut body = settings.body();
            body.extend(name.map(|name| ("name".to_owned(), json!(name))));
            let said = about("Integration", "is changed");
            session.change(Method::PATCH, &["integrations", &id], &body.into(), said).await
        }
        Action::Remove { integration } => {
            let id = session.exact_id_of(ResourceKind::Integration, &integration).await?;
            session.delete(("Integration", &integration), &["integrations", &id]).await
        }
        Action::Test { integration } => {
            let segments = ["integrations", &id_of(&integration).await?, "test"];
            session.change_and_show(Method::POST, &segments, &json!({})).await
        }
        Action::Deliveries { integration, state, limit } => {
            let id = id_of(&integration).await?;
            let filters: Vec<_> = state.iter().map(|state| ("state", state.as_str())).collect();
            let list = List {
                segments: &["integrations", &id, "deliveries"],
                filters: &filters,
                limit: limit.into(),
                columns: &DELIVERY_COLUMNS,
                empty: "No deliveries yet.",
            };
            list.show(session).await
        }
        Action::Resend { integration, delivery } => {
            let id = id_of(&integration).await?;
            let segments = ["integrations", &id, "deliveries", &delivery, "resend"];
            session.act(&segments, |_| "It is sent again.".to_owned()).await
        }
    }
}
