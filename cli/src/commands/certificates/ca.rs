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

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[option("state", "--state"), option("limit", "--limit")];

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
    /// Revoke a certificate for good; an agent is disconnected and must be installed again
    Revoke {
        /// Id of the certificate
        id: String,
    },
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
        Action::Revoke { id } => {
            let id = session.work_id("certificates", &id).await?;
            let request = session.api.request(Method::DELETE, &["certificates", &id]);
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

fn list<'a>(filters: &'a [(&'a str, &'a str)], limit: Limit, empty: &'a str) -> List<'a> {
    List { segments: &["certificates"], filters, limit, columns: &COLUMNS, empty }
}
