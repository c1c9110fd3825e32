//! `muster webhooks`: webhook deliveries and the secrets that sign them.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{LatestLimit, List};
use crate::output::table::Column;
use crate::session::Session;

const COLUMNS: [Column; 6] = [
    Column::of("ID", "id"),
    Column::of("JOB", "job_id"),
    Column::of("STATE", "state"),
    Column::of("ATTEMPTS", "attempt_count"),
    Column::of("STATUS", "last_attempt.status"),
    Column::of("URL", "url"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("job_id", "--job").expects("an id"),
    option("state", "--state").expects("pending, delivered or failed"),
    option("url", "URL"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the latest webhook deliveries (default action)
    List(ListOptions),
    /// Show all details of a delivery, including its attempts
    Show {
        /// Id of the delivery
        delivery: String,
    },
    /// Send a delivery again
    Resend {
        /// Id of the delivery
        delivery: String,
    },
    /// Print the secret that signs deliveries to a URL
    Secret {
        /// URL of the webhook
        url: String,
    },
    /// Replace the signing secrets of all URLs; the old secrets also sign for one more day
    Rotate,
}

#[derive(Debug, Default, clap::Args)]
struct ListOptions {
    /// Only of the job with this id
    #[arg(long, value_name = "JOB_ID")]
    job: Option<String>,
    /// Only in this state: pending, delivered or failed
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    limit: LatestLimit,
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(ListOptions::default())) {
        Action::List(ListOptions { job, state, limit }) => {
            let job = job.iter().map(|job| ("job_id", job.as_str()));
            let filters: Vec<_> =
                job.chain(state.iter().map(|state| ("state", state.as_str()))).collect();
            let (segments, limit) = (&["webhooks", "deliveries"], limit.into());
            let (columns, empty) = (&COLUMNS, "No webhook deliveries yet.");
            List { segments, filters: &filters, limit, columns, empty }.show(session).await
        }
        Action::Show { delivery } => session.show(&["webhooks", "deliveries", &delivery]).await,
        Action::Resend { delivery } => {
            session
                .act(&["webhooks", "deliveries", &delivery, "resend"], |_| {
                    format!("Delivery {delivery} is sent again.")
                })
                .await
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
            let segments = ["webhooks", "secret", "rotate"];
            session.change_and_show(Method::POST, &segments, &json!({})).await
        }
    }
}
