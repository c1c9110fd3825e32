//! `muster hooks`: jobs that start when another program asks for it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::schedules::job_options::JobOptions;
use crate::commands::fleet::target_options::{TARGET_EXPRESSION, TARGET_TAGS, target_expression};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::quantities::milliseconds;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const HOOK: &str = "Hook";
const COLUMNS: [Column; 7] = [
    Column::of("NAME", "name"),
    Column::of("PROOF", "authentication"),
    Column::of("ENABLED", "enabled"),
    Column::by("TARGET", |hook| target_expression(&hook["job"])),
    Column::of("OWNER", "owner_name"),
    Column::of("PATH", "path"),
    Column::of("ID", "id"),
];
const DELIVERY_COLUMNS: [Column; 6] = [
    Column::of("RECEIVED", "received_at"),
    Column::of("STATE", "state"),
    Column::of("JOB", "job_id"),
    Column::of("TEST", "is_test"),
    Column::of("FROM", "source"),
    Column::of("DETAIL", "detail"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("authentication", "--proof").expects("signature, github or bearer"),
    option("parameters", "--field").expects("NAME=/path/in/the/body"),
    option("conditions", "--only-if").expects("/path/in/the/body=VALUE"),
    option("replay_window_ms", "--replay-window"),
    option("enabled", "--enable or --disable"),
    option("dry_run", "--dry-run"),
    option("body", "FILE"),
    option("job.script", "SCRIPT").expects("1 to 128 letters, digits and . _ -"),
    option("job.argv", "COMMAND"),
    option("job.steps", "--steps"),
    option("job.parameters", "--parameter"),
    option("job.timeout_ms", "--timeout"),
    option("job.expires_in_ms", "--expires"),
    option("confirm_agent_count", "--confirm-agents"),
    option("job.retries", "--retries").expects("0 to 10"),
    option("job.retries.count", "--retries").expects("0 to 10"),
    option("job.retries.backoff_ms", "--retry-backoff"),
    option("job.lock", "--lock").expects("1 to 64 letters, digits and . _ -"),
    option("job.target", "--on or --tag"),
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("job.rollout", "--wave"),
    option("job.rollout.wave_size", "--wave").expects("a number, or a percentage such as 10%"),
    option("job.rollout.pause_ms", "--pause"),
    option("job.rollout.max_failures", "--max-failures")
        .expects("a number, or a percentage such as 5%"),
    option("job.rollout.count_in_flight", "--whole-waves"),
    option("job.rollout.health_gate.for_ms", "--healthy-for"),
    option("job.rollout.health_gate.within_ms", "--healthy-within"),
    option("job.rollout.offline", "--offline"),
    option("job.offline", "--offline"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all hooks (default action)
    List(Limit),
    /// Show all details of a hook
    Show {
        /// Hook: an id, a name, or a unique prefix of one
        hook: String,
    },
    /// Create a hook and print its secret once; its jobs run with your rights
    ///
    ///   muster hooks add deploy --proof github --field REF=/after --only-if /ref=refs/heads/main --tag web deploy
    #[command(verbatim_doc_comment)]
    Add(Box<NewHook>),
    /// Change a hook; unless it is only renamed or disabled, its jobs then run with your rights
    Edit(Box<EditHook>),
    /// Delete a hook with its deliveries; its jobs stay
    Remove {
        /// Hook: an id or a full name
        hook: String,
    },
    /// Start what a delivery with this body starts, with your rights
    Test {
        /// Hook: an id, a name, or a unique prefix of one
        hook: String,
        /// File with the body as JSON [default: an empty object]
        file: Option<PathBuf>,
        /// Start nothing, and show the parameters
        #[arg(long)]
        dry_run: bool,
    },
    /// List the latest deliveries to a hook
    Deliveries {
        /// Hook: an id, a name, or a unique prefix of one
        hook: String,
        #[command(flatten)]
        limit: LatestLimit,
    },
    /// Replace the secret of a hook and print the new one once; the old one is not valid any more
    Rotate {
        /// Hook: an id or a full name
        hook: String,
    },
}

#[derive(Debug, clap::Args)]
struct NewHook {
    /// Name of the new hook
    name: String,
    #[command(flatten)]
    settings: HookOptions,
    #[command(flatten)]
    job: JobOptions,
}

#[derive(Debug, clap::Args)]
struct EditHook {
    /// Hook: an id, a name, or a unique prefix of one
    hook: String,
    /// New name
    #[arg(long, help_heading = HOOK)]
    name: Option<String>,
    /// Refuse deliveries
    #[arg(long, help_heading = HOOK, conflicts_with = "enable")]
    disable: bool,
    /// Take deliveries again
    #[arg(long, help_heading = HOOK)]
    enable: bool,
    #[command(flatten)]
    settings: HookOptions,
    #[command(flatten)]
    job: JobOptions,
}

#[derive(Debug, clap::Args)]
struct HookOptions {
    /// How senders prove that they know the secret [default of a new hook: signature]
    #[arg(long, value_enum, help_heading = HOOK)]
    proof: Option<Proof>,
    /// Field of the body for a parameter, such as REF=/after; repeatable, replaces all
    #[arg(long = "field", value_name = "NAME=POINTER", help_heading = HOOK)]
    fields: Vec<String>,
    /// Ignore deliveries without this value, such as /ref=refs/heads/main; repeatable, replaces all
    #[arg(long = "only-if", value_name = "POINTER=VALUE", help_heading = HOOK)]
    conditions: Vec<String>,
    /// How far the time stamp of a signature may be off [default of a new hook: 5m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = HOOK)]
    replay_window: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Proof {
    /// HMAC-SHA256 over id, time stamp and body (Standard Webhooks)
    Signature,
    /// X-Hub-Signature-256, as GitHub sends it
    Github,
    /// The secret as bearer token
    Bearer,
}

impl HookOptions {
    /// Only what is given; the server has the defaults.
    fn body(&self) -> Result<Map<String, Value>, CliError> {
        let mut body = Map::new();
        if let Some(proof) = self.proof {
            let name = match proof {
                Proof::Signature => "signature",
                Proof::Github => "github",
                Proof::Bearer => "bearer",
            };
            body.insert("authentication".into(), name.into());
        }
        for (field, typed) in [("parameters", &self.fields), ("conditions", &self.conditions)] {
            if !typed.is_empty() {
                body.insert(field.into(), pairs(typed)?);
            }
        }
        if let Some(replay_window) = self.replay_window {
            body.insert("replay_window_ms".into(), replay_window.into());
        }
        Ok(body)
    }
}

fn pairs(typed: &[String]) -> Result<Value, CliError> {
    let mut pairs = Map::new();
    for pair in typed {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            CliError::Usage(format!("invalid value \"{pair}\"; put = between name and value"))
        })?;
        pairs.insert(name.to_owned(), value.into());
    }
    Ok(pairs.into())
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::Hook, typed).await;
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let empty = "No hooks yet. Create one with `muster hooks add`.";
            let (segments, columns) = (&["hooks"], &COLUMNS);
            List { segments, filters: &[], limit, columns, empty }.show(session).await
        }
        Action::Show { hook } => session.show(&["hooks", &id_of(&hook).await?]).await,
        Action::Add(new) => {
            let mut body = new.settings.body()?;
            body.insert("name".into(), new.name.as_str().into());
            body.entry("authentication").or_insert_with(|| "signature".into());
            body.insert("job".into(), new.job.change(&json!({}))?);
            show_secret(session, &["hooks"], &body.into()).await
        }
        Action::Edit(edit) => {
            let id = id_of(&edit.hook).await?;
            let mut body = edit.settings.body()?;
            if let Some(name) = &edit.name {
                body.insert("name".into(), name.as_str().into());
            }
            if edit.disable || edit.enable {
                body.insert("enabled".into(), edit.enable.into());
            }
            if edit.job.is_given() {
                let request = session.api.request(Method::GET, &["hooks", &id]);
                let known = session.api.json(request).await?;
                body.insert("job".into(), edit.job.change(&known["job"])?);
            }
            if body.is_empty() {
                return Err(CliError::Usage("give at least one option to change".into()));
            }
            let said = about("Hook", "is changed");
            session.change(Method::PATCH, &["hooks", &id], &body.into(), said).await
        }
        Action::Remove { hook } => {
            let id = session.exact_id_of(ResourceKind::Hook, &hook).await?;
            session.delete(("Hook", &hook), &["hooks", &id]).await
        }
        Action::Test { hook, file, dry_run } => {
            let id = id_of(&hook).await?;
            let body = file.map_or_else(|| Ok(json!({})), |file| read_json(&file))?;
            let body = json!({"body": body, "dry_run": dry_run});
            session.change_and_show(Method::POST, &["hooks", &id, "test"], &body).await
        }
        Action::Deliveries { hook, limit } => {
            let id = id_of(&hook).await?;
            let list = List {
                segments: &["hooks", &id, "deliveries"],
                filters: &[],
                limit: limit.into(),
                columns: &DELIVERY_COLUMNS,
                empty: "Nothing was delivered to the hook yet.",
            };
            list.show(session).await
        }
        Action::Rotate { hook } => {
            let id = session.exact_id_of(ResourceKind::Hook, &hook).await?;
            show_secret(session, &["hooks", &id, "rotate"], &json!({})).await
        }
    }
}

/// Sends a request whose answer has a secret, and says that it is not shown again.
async fn show_secret(session: &Session, segments: &[&str], body: &Value) -> Result<u8, CliError> {
    let done = session.change_and_show(Method::POST, segments, body).await?;
    if !session.output.json {
        print_note("store the secret now; it is not shown again");
    }
    Ok(done)
}

fn read_json(file: &PathBuf) -> Result<Value, CliError> {
    let invalid = |problem: String| CliError::Usage(format!("{}: {problem}", file.display()));
    let text = std::fs::read(file).map_err(|error| invalid(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| invalid(format!("no JSON: {error}")))
}
