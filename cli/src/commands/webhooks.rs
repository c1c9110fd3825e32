//! `muster webhooks`: what was told of jobs that have ended, and whether it got there.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use super::listing::{Limit, List};
use crate::error::CliError;
use crate::table::Column;

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("JOB", "job_id"),
    Column::of("STATE", "state"),
    Column::of("ATTEMPTS", "attempt_count"),
    Column::of("STATUS", "last_attempt.status"),
    Column::of("URL", "url"),
];

/// Without an action: the latest deliveries.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

/// DELIVERY is an id.
#[derive(Debug, Subcommand)]
enum Action {
    /// Deliveries, newest first.
    List {
        /// Only of this job.
        #[arg(long)]
        job: Option<String>,
        /// Only in this state: pending, delivered or failed.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Everything that is known of one, its attempts included.
    Show { delivery: String },
    /// Send one once more.
    Resend { delivery: String },
    /// Print the secret that messages to a URL are signed with.
    Secret { url: String },
    /// Exchange the secrets of all URLs; the old ones sign too for a day.
    Rotate,
}

/// Carries out one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List {
        job: None,
        state: None,
        limit: Limit::default(),
    }) {
        Action::List { job, state, limit } => {
            let job = job.iter().map(|job| ("job_id", job.as_str()));
            let filters: Vec<_> =
                job.chain(state.iter().map(|state| ("state", state.as_str()))).collect();
            let (segments, limit) = (&["webhooks", "deliveries"], limit.or_latest());
            let (columns, nothing) = (&COLUMNS, "no deliveries yet");
            session.list(List { segments, filters: &filters, limit, columns, nothing }).await
        }
        Action::Show { delivery } => {
            session.show(Method::GET, &["webhooks", "deliveries", &delivery]).await
        }
        Action::Resend { delivery } => {
            let path = ["webhooks", "deliveries", &delivery, "resend"];
            session.change(Method::POST, &path, &json!({})).await
        }
        Action::Secret { url } => {
            let request = session.api.request(Method::POST, &["webhooks", "secret"]);
            let answer = session.api.json(request.json(&json!({ "url": url }))).await?;
            session.output.answer(&answer, |answer| {
                answer.get("secret").and_then(Value::as_str).unwrap_or_default().to_owned()
            })?;
            Ok(0)
        }
        Action::Rotate => {
            session.change(Method::POST, &["webhooks", "secret", "rotate"], &json!({})).await
        }
    }
}
