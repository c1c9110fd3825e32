//! `muster tenants`: the customers of a server, for its operator.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::listing::{Limit, List};
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 8] = [
    Column::of("NAME", "name"),
    Column::of("PLAN", "plan"),
    Column::by("MOST AGENTS", most_agents),
    Column::of("HISTORY DAYS", "limits.history_days"),
    Column::by("MOST STORED BYTES", |tenant| match tenant["limits"]["storage_bytes"].as_u64() {
        Some(bytes) => bytes.to_string(),
        None => "unlimited".to_owned(),
    }),
    Column::of("CREATED", "created_at"),
    Column::of("DELETION DUE", "delete_at"),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("plan", "--plan").expects("starter or pro"),
    option("storage_quota_bytes", "--storage-quota-bytes"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all tenants (default action)
    List(Limit),
    /// Show a tenant, its plan and how much it has
    Show {
        /// Tenant: an id, or a name or a unique prefix of one
        tenant: String,
    },
    /// Create a tenant and print its owner's API key, which is shown only once
    Create {
        /// Name of the tenant
        name: String,
        /// Plan: starter or pro [default: pro]
        #[arg(long)]
        plan: Option<String>,
    },
    /// Delete a tenant and everything of it, 7 days from now
    Delete {
        /// Full name of the tenant, to confirm
        name: String,
    },
    /// Restore a tenant whose deletion was requested less than 7 days ago
    Restore {
        /// Tenant: an id or a full name
        tenant: String,
    },
    /// Change the name, the plan or the quota of a tenant; a lower plan keeps what there is and refuses what is new
    Update {
        /// Tenant: an id or a full name
        tenant: String,
        /// New name of the tenant
        #[arg(long)]
        name: Option<String>,
        /// New plan: starter or pro
        #[arg(long)]
        plan: Option<String>,
        /// How many bytes of history and output it may store; `plan`: what its plan allows
        #[arg(long, value_name = "BYTES", value_parser = quota)]
        storage_quota_bytes: Option<Quota>,
    },
}

/// A quota of storage; `None`: the one of the plan.
type Quota = Box<Option<u64>>;

fn quota(text: &str) -> Result<Quota, String> {
    match text {
        "plan" => Ok(Box::new(None)),
        bytes => bytes
            .parse()
            .map(|bytes| Box::new(Some(bytes)))
            .map_err(|_| "expected a number of bytes, or `plan`".to_owned()),
    }
}

/// The limit of the plan in words.
fn most_agents(tenant: &Value) -> String {
    match tenant["limits"]["max_agents"].as_u64() {
        Some(most) => most.to_string(),
        None => "unlimited".to_owned(),
    }
}

/// Only the given options; the server has the defaults.
fn body(name: Option<String>, plan: Option<String>) -> Value {
    let given = [("name", name), ("plan", plan)];
    let given = given.into_iter().filter_map(|(field, value)| Some((field, value?)));
    given.map(|(field, value)| (field.to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let (segments, columns) = (&["tenants"], &COLUMNS);
            List { segments, filters: &[], limit, columns, empty: "No tenants." }
                .show(session)
                .await
        }
        Action::Show { tenant } => {
            let id = session.id_of(ResourceKind::Tenant, &tenant).await?;
            session.show(&["tenants", &id]).await
        }
        Action::Create { name, plan } => {
            let request = session.api.request(Method::POST, &["tenants"]);
            let answer = session.api.json(request.json(&body(Some(name), plan))).await?;
            let Some(secret) = answer.get("key").and_then(Value::as_str) else {
                return Err(CliError::Answer("the new tenant has no key".into()));
            };
            session.output.new_secret(&answer, secret)?;
            Ok(0)
        }
        Action::Delete { name } => {
            let id = session.exact_id_of(ResourceKind::Tenant, &name).await?;
            let body = json!({"name": name});
            session.change_and_show(Method::DELETE, &["tenants", &id], &body).await
        }
        Action::Restore { tenant } => {
            let id = session.exact_id_of(ResourceKind::Tenant, &tenant).await?;
            session.act(&["tenants", &id, "restore"], about("Tenant", "is restored")).await
        }
        Action::Update { tenant, name, plan, storage_quota_bytes } => {
            let id = session.exact_id_of(ResourceKind::Tenant, &tenant).await?;
            let mut change = body(name, plan);
            if let Some(bytes) = storage_quota_bytes {
                change["storage_quota_bytes"] = json!(*bytes);
            }
            session
                .change(Method::PATCH, &["tenants", &id], &change, about("Tenant", "is changed"))
                .await
        }
    }
}
