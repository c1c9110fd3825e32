//! `muster ca`: the certificates that the server has issued to clients.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 7] = [
    Column::of("STATE", "state"),
    Column::of("HOLDER", "holder"),
    Column::of("HOLDER ID", "holder_id"),
    Column::of("RENEWAL", "renew_at"),
    Column::of("EXPIRES", "expires_at"),
    Column::of("REVOKED", "revoked_at"),
    Column::of("ID", "id"),
];

/// Agents that have not stored the new authority.
const AGENT_COLUMNS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("ONLINE", "is_online"),
    Column::of("CAN FOLLOW", "can_follow"),
    Column::of("LAST SEEN", "last_seen_at"),
    Column::of("TENANT", "tenant_id"),
    Column::of("ID", "agent_id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("state", "--state"),
    option("limit", "--limit"),
    option("force", "--force"),
    option("action", "--switch or --retire or --abort"),
    option("allow_next", "--allow-next"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show who must have a certificate, and which certificates were not renewed in time (default action)
    ///
    /// Exits with 1 if a certificate has expired, or ends within 7 days.
    Status,
    /// List certificates, the oldest first
    List {
        /// Only certificates in this state
        #[arg(long, value_name = "STATE")]
        state: Option<CertificateState>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Replace the authority of the server, in steps, or show how far that is
    ///
    /// Without an option: make a new authority, and send it to the agents. When they have stored it, run the command with
    /// --switch, and when no agent needs the former one, with --retire. For the operator of the server.
    Rollover {
        #[command(flatten)]
        step: Step,
        /// Take the step even if agents have not stored the new authority
        #[arg(long, conflicts_with_all = ["abort", "dry_run"])]
        force: bool,
    },
    /// Revoke a certificate for good; an agent is disconnected and must be installed again
    Revoke {
        /// Id of the certificate
        id: String,
        /// Let its holder, an API key or a person, get another one within 24 hours without showing a valid one
        #[arg(long)]
        allow_next: bool,
    },
}

/// The step of a rollover.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Step {
    /// Sign with the new authority from now on; the former one stays trusted
    #[arg(long)]
    switch: bool,
    /// Trust the former authority no more, which ends the rollover
    #[arg(long)]
    retire: bool,
    /// Drop the new authority, before the switch
    #[arg(long)]
    abort: bool,
    /// Change nothing; show who would be stranded. Exits with 1 if there are any
    #[arg(long)]
    dry_run: bool,
}

impl Step {
    /// Its name in the API; `None` only shows the rollover.
    fn action(&self) -> Option<&'static str> {
        match self {
            Self { dry_run: true, .. } => None,
            Self { switch: true, .. } => Some("switch"),
            Self { retire: true, .. } => Some("retire"),
            Self { abort: true, .. } => Some("abort"),
            _ => Some("announce"),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CertificateState {
    Valid,
    Due,
    Expiring,
    Expired,
    Revoked,
}

impl CertificateState {
    fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Due => "due",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or(Action::Status) {
        Action::Status => status(session).await,
        Action::List { state, limit } => {
            let filters: Vec<_> = state.iter().map(|state| ("state", state.name())).collect();
            list(&filters, limit, "No certificates.").show(session).await
        }
        Action::Rollover { step, force } => rollover(step.action(), force, session).await,
        Action::Revoke { id, allow_next } => {
            let id = session.work_id("certificates", &id).await?;
            let mut request = session.api.request(Method::DELETE, &["certificates", &id]);
            if allow_next {
                request = request.query(&[("allow_next", "true")]);
            }
            let answer = session.api.json(request).await?;
            session.output.answer(&answer, |_| "The certificate is revoked.".to_owned())?;
            Ok(0)
        }
    }
}

/// Shows the numbers, then the certificates that should have been renewed.
async fn status(session: &Session) -> Result<u8, CliError> {
    let path = ["certificates", "status"];
    let status = session.api.json(session.api.request(Method::GET, &path)).await?;
    let count = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is_broken = count("expiring_count") + count("expired_count") > 0;
    if !is_broken {
        session.output.details(&status)?;
        return Ok(0);
    }
    let mut items = Vec::new();
    for state in [CertificateState::Expired, CertificateState::Expiring] {
        let filters = [("state", state.name())];
        let page = list(&filters, Limit::default(), "").read(session).await?;
        items.extend(page.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    if session.output.json {
        let mut status = status;
        status["not_renewed"] = Value::Array(items);
        session.output.details(&status)?;
    } else {
        session.output.details(&status)?;
        print_note("These were not renewed:");
        session.output.list(&json!({ "items": items }), &COLUMNS, "")?;
    }
    Ok(1)
}

/// Takes a step, or shows how far the rollover is. Then the agents that have not stored the new authority.
async fn rollover(
    action: Option<&'static str>,
    force: bool,
    session: &Session,
) -> Result<u8, CliError> {
    let path = ["certificates", "rollover"];
    let request = match action {
        Some(action) => {
            let body = json!({"action": action, "force": force});
            session.api.request(Method::POST, &path).json(&body)
        }
        None => session.api.request(Method::GET, &path),
    };
    let status = session.api.json(request).await?;
    let count = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
    let unconfirmed = count("online_unconfirmed_count") + count("offline_unconfirmed_count");
    let is_stranding = action.is_none() && unconfirmed > 0;
    if session.output.json {
        session.output.details(&status)?;
        return Ok(u8::from(is_stranding));
    }
    let mut shown = status.clone();
    let agents = shown.as_object_mut().and_then(|shown| shown.remove("agents"));
    session.output.details(&shown)?;
    let state = status.get("state").and_then(Value::as_str).unwrap_or_default();
    print_note(match (state, unconfirmed) {
        ("announced", 0) => "Every agent has stored the new authority: continue with --switch.",
        ("announced", _) => {
            "When the agents that are online have stored the new authority, continue with --switch. These have not:"
        }
        ("switched", 0) => "No agent needs the former authority: finish with --retire.",
        ("switched", _) => "If you retire the former authority now, you must install these again:",
        _ if action.is_some() => "The rollover has ended.",
        (_, 0) => "No rollover is under way.",
        _ => {
            "No rollover is under way. Each agent must be online once before its end; these are known:"
        }
    });
    if unconfirmed > 0 && (state != "none" || action.is_none()) {
        let items = agents.unwrap_or_else(|| json!([]));
        session.output.list(&json!({ "items": items }), &AGENT_COLUMNS, "")?;
    }
    Ok(u8::from(is_stranding))
}

fn list<'a>(filters: &'a [(&'a str, &'a str)], limit: Limit, empty: &'a str) -> List<'a> {
    List { segments: &["certificates"], filters, limit, columns: &COLUMNS, empty }
}
