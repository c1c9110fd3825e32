//! `muster audit`: list, follow, export and verify the audit log.

mod check;
mod download;
mod exported_line;

use std::path::PathBuf;

use chrono::Utc;
use clap::Subcommand;
use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use reqwest::Method;
use serde_json::Value;

use super::members::member_id;
use crate::api::sse_client::SseClient;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::instants::instant;
use crate::listing::{LatestLimit, List};
use crate::output::printer::{Output, print};
use crate::output::table::Column;
use crate::output::text::sanitize;
use crate::output::work_summary::work_summary;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 7] = [
    Column::of("TIME", "at"),
    Column::by("ACTOR", |entry| name(entry, "actor")),
    Column::of("ACTION", "action"),
    Column::by("SUBJECT", |entry| name(entry, "subject")),
    Column::by("WORK", |entry| work_summary(&entry["detail"])),
    Column::of("SOURCE", "source"),
    Column::of("LINK", "link"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("actor_kind", "--actor-kind").expects("api_key, member, operator, agent or system"),
    option("actor_id", "--actor").expects("a name, an address or an id"),
    option("action", "--action").expects("the name of an action, such as agent.update"),
    option("subject_kind", "--subject-kind").expects("a kind of subject, such as agent"),
    option("subject_id", "--subject").expects("a name or an id"),
    option("created_after", "--since"),
    option("created_before", "--until"),
    option("after", "--after").expects("the position of an `end` line, or of an entry"),
    option("limit", "--limit"),
    option("log", "--log").expects("tenant or server"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: AuditListArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest entries that match all filters (default action)
    List(AuditListArgs),
    /// Print new entries as they are written, until interrupted
    Follow(ActorFilter),
    /// Write the log as JSON lines, oldest first
    Export(ExportArgs),
    /// Print the signed head of the log as JSON, to keep outside of the server
    Head(LogChoice),
    Verify(AuditVerifyArgs),
}

#[derive(Debug, Default, clap::Args)]
struct AuditListArgs {
    #[command(flatten)]
    filter: ActorFilter,
    #[command(flatten)]
    time: TimeFilter,
    #[command(flatten)]
    limit: LatestLimit,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    filter: ActorFilter,
    #[command(flatten)]
    time: TimeFilter,
    /// Continue behind this position of an earlier export
    #[arg(long, value_name = "POSITION")]
    after: Option<String>,
    /// New file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Whose log is read.
#[derive(Debug, Default, Clone, clap::Args)]
struct LogChoice {
    /// Log to read: tenant, or server for what belongs to no tenant, such as failed sign-ins with unknown
    /// addresses; only the operator may read that [default: tenant]
    #[arg(long, value_name = "LOG")]
    log: Option<String>,
}

impl LogChoice {
    fn query(&self) -> Vec<(&'static str, String)> {
        self.log.iter().map(|log| ("log", log.clone())).collect()
    }
}

#[derive(Debug, Default, clap::Args)]
struct ActorFilter {
    #[command(flatten)]
    log: LogChoice,
    /// Only by this kind of actor: api_key, member, operator, agent or system
    #[arg(long, value_name = "KIND")]
    actor_kind: Option<String>,
    /// Only by the API key with this name, the member with this address, or the API key, member or agent with this id
    #[arg(long, value_name = "NAME|ADDRESS|ID")]
    actor: Option<String>,
    /// Only this action, such as agent.update
    #[arg(long)]
    action: Option<String>,
    /// Only on this kind of subject, such as agent
    #[arg(long, value_name = "KIND")]
    subject_kind: Option<String>,
    /// Only on the agent with this name, or what has this id; with --subject-kind on a key, a group, a schedule or a member
    #[arg(long, value_name = "NAME|ID")]
    subject: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
struct TimeFilter {
    /// Only since then: RFC 3339 such as 2026-11-21T10:00:00Z, a date, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then, in the same forms
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Check the audit log against its hash chain
///
/// Reads the whole log and names each entry or link that was removed, changed, inserted or moved. A log that
/// was cut off is only found with a head that was kept elsewhere: keep one with --save-head, and pass it
/// with --head later. Exits with 0 if nothing is wrong, and with 1 otherwise.
#[derive(Debug, clap::Args)]
struct AuditVerifyArgs {
    #[command(flatten)]
    log: LogChoice,
    /// File with a head that was kept; the log must contain it
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Write the head of the verified log to this new file
    #[arg(long, value_name = "FILE")]
    save_head: Option<PathBuf>,
    /// Check an exported file instead of the server's log
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Public key of the server for audit logs in base64, or its fingerprint [default: the key of the kept head,
    /// or the one that the server shows; a file without a head needs it]
    #[arg(long, value_name = "KEY", value_parser = fingerprint)]
    public_key: Option<Fingerprint>,
}

impl Args {
    /// True if no server is needed.
    pub fn is_offline(&self) -> bool {
        matches!(&self.action, Some(Action::Verify(args)) if args.from.is_some())
    }
}

impl AuditListArgs {
    /// True with any filter but the limit.
    fn is_given(&self) -> bool {
        let AuditListArgs { filter, time, .. } = self;
        let texts = [
            &filter.log.log,
            &filter.actor_kind,
            &filter.actor,
            &filter.action,
            &filter.subject_kind,
            &filter.subject,
            &time.since,
            &time.until,
        ];
        texts.into_iter().any(Option::is_some)
    }
}

impl ActorFilter {
    async fn query(self, session: &Session) -> Result<Vec<(&'static str, String)>, CliError> {
        let actor = match self.actor {
            Some(address) if address.contains('@') => Some(member_id(session, &address).await?),
            Some(name) => {
                let kind = match self.actor_kind.as_deref() {
                    Some("agent") => ResourceKind::Agent,
                    _ => ResourceKind::ApiKey,
                };
                Some(session.id_of(kind, &name).await?)
            }
            None => None,
        };
        let subject = match self.subject {
            Some(name) => Some(subject_id(session, self.subject_kind.as_deref(), &name).await?),
            None => None,
        };
        let pairs = [
            ("actor_kind", self.actor_kind),
            ("actor_id", actor),
            ("action", self.action),
            ("subject_kind", self.subject_kind),
            ("subject_id", subject),
        ];
        let log = self.log.query();
        let filters = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(log.into_iter().chain(filters).collect())
    }
}

/// The id of a subject that is typed as a name.
async fn subject_id(
    session: &Session,
    kind: Option<&str>,
    typed: &str,
) -> Result<String, CliError> {
    if uuid::Uuid::try_parse(typed).is_ok() {
        return Ok(typed.to_owned());
    }
    let kind = match kind {
        None | Some("agent") => ResourceKind::Agent,
        Some("agent_key") => ResourceKind::Key,
        Some("api_key") => ResourceKind::ApiKey,
        Some("group") => ResourceKind::Group,
        Some("schedule") => ResourceKind::Schedule,
        Some("member") => return member_id(session, typed).await,
        Some(other) => {
            let message = format!("a subject of the kind {other} is named by its id");
            return Err(CliError::Usage(message));
        }
    };
    session.id_of(kind, typed).await
}

impl TimeFilter {
    fn query(self) -> Result<Vec<(&'static str, String)>, CliError> {
        let pairs = [("created_after", self.since), ("created_before", self.until)];
        let typed = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        typed.map(|(name, typed)| Ok((name, instant(&typed, Utc::now())?))).collect()
    }
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let key = text.parse::<AgentPublicKey>().map(|key| key.fingerprint());
    key.or_else(|_| text.parse()).map_err(|_| {
        "expected a public key in base64, or a fingerprint such as SHA256:…".to_owned()
    })
}

/// The name of an actor or a subject, else its id, else its kind.
fn name(entry: &Value, what: &str) -> String {
    let text = |field: &str| entry.get(format!("{what}_{field}")).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    match text("name").or_else(|| text("id")) {
        Some(name) => format!("{kind} {name}"),
        None => kind.to_owned(),
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`], also if something is wrong with the log.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    if args.action.is_some() && args.list.is_given() {
        return Err(CliError::Usage(
            "options of an action follow its name, such as `muster audit export --log server`"
                .into(),
        ));
    }
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(args) => {
            let mut filters = args.filter.query(session).await?;
            filters.extend(args.time.query()?);
            let filters: Vec<_> =
                filters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (segments, columns) = (&["audit"], &COLUMNS);
            let (filters, limit, empty) = (&filters, args.limit.into(), "No entries.");
            List { segments, filters, limit, columns, empty }.show(session).await
        }
        Action::Follow(filter) => follow(filter, session).await,
        Action::Export(args) => download::export(args, session).await,
        Action::Head(log) => {
            let request = session.api.request(Method::GET, &["audit", "head"]).query(&log.query());
            let head = session.api.json(request).await?;
            Output { json: true, ..session.output }.answer(&head, |_| String::new())?;
            Ok(0)
        }
        Action::Verify(args) => download::verify(&args, session).await,
    }
}

/// Checks an exported file.
///
/// # Errors
/// As [`run`].
pub fn run_offline(args: Args, output: Output) -> Result<u8, CliError> {
    let Some(Action::Verify(args)) = args.action else {
        return Err(CliError::Usage("only `muster audit verify --from` needs no server".into()));
    };
    let path = args.from.clone().unwrap_or_default();
    check::verify_file(&args, &path, output)
}

async fn follow(filter: ActorFilter, session: &Session) -> Result<u8, CliError> {
    let time = session.output.time;
    let mut events = SseClient::new(&session.api, &["audit", "live"], filter.query(session).await?);
    while let Some(event) = events.next().await? {
        if event.name != "entry" {
            continue;
        }
        if session.output.json {
            print(&event.data)?;
            continue;
        }
        let entry: Value = serde_json::from_str(&event.data)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = format!(
            "{}  {}  {}  {}",
            time.instant(text("at")),
            name(&entry, "actor"),
            text("action"),
            name(&entry, "subject")
        );
        print(&sanitize(&line))?;
    }
    Ok(0)
}
