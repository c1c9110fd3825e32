//! `muster schedules`: jobs that start at due times.

pub(super) mod job_options;
mod last_result;
mod preview;
mod settings;
mod trigger_states;

use chrono::Utc;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use self::preview::{preview, simulate};
use self::settings::{EditSchedule, NewSchedule, RuleOptions};
use crate::commands::commands::approval_note::approval_note;
use crate::commands::fleet::target_options::{TARGET_EXPRESSION, TARGET_TAGS, target_expression};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::instants::future_instant;
use crate::input::quantities::format_milliseconds;
use crate::listing::{LatestLimit, Limit, List};
use crate::output::printer::print_note;
use crate::output::table::Column;
use crate::output::text::about;
use crate::output::time_format::TimeFormat;
use crate::session::{ResourceKind, Session};

const COLUMNS: [Column; 8] = [
    Column::of("NAME", "name"),
    Column::of("WHEN", "sentence"),
    Column::of("STATE", "state"),
    Column::of("LAST RESULT", "last_result"),
    Column::of("NEXT", "next_due_at"),
    Column::by("TARGET", |schedule| target_expression(&schedule["job"])),
    Column::of("OWNER", "owner_name"),
    Column::of("ID", "id"),
];
const FIRE_COLUMNS: [Column; 10] = [
    Column::of("DUE", "due_at"),
    Column::of("PLANNED", "planned_at"),
    Column::of("FIRED", "fired_at"),
    Column::of("ENDED", "ended_at"),
    Column::by("DURATION", |fire| {
        fire["duration_ms"].as_u64().map(format_milliseconds).unwrap_or_default()
    }),
    Column::by("START", start_of),
    Column::of("STATE", "state"),
    Column::of("REASON", "reason"),
    Column::of("JOB", "job_id"),
    Column::of("DETAIL", "detail"),
];
/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("rule", "--cron"),
    option("rule.cron", "--cron")
        .expects("five fields such as '0 9 * * MON-FRI', or a name such as @daily"),
    option("rule.time_zone", "--time-zone").expects("a name such as Europe/Berlin"),
    option("rule.every_ms", "--every"),
    option("rule.anchor_at", "--anchor").expects("a time such as 2026-11-21T10:00:00Z"),
    option("rule.at", "--at").expects("a time such as 2026-11-21T10:00:00Z"),
    option("starts_at", "--starts").expects("a time such as 2026-11-21T10:00:00Z, or none"),
    option("ends_at", "--ends").expects("a time such as 2026-11-21T10:00:00Z, or none"),
    option("missed", "--missed"),
    option("max_catch_up", "--max-catch-up"),
    option("late_limit_ms", "--late-limit"),
    option("overlap", "--overlap"),
    option("jitter_ms", "--jitter"),
    option("secret_parameters", "--secret"),
    option("webhook", "--webhook"),
    option("webhook.url", "--webhook")
        .expects("a complete URL such as https://hooks.example/x, or none"),
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
    option("count", "--count"),
    option("until", "--until").expects("a time in the future such as 2026-11-21T10:00:00Z"),
    option("for_ms", "--days"),
    option("calendar_override", "--override-calendar").expects("a reason of 1 to 200 characters"),
    option("limit", "--limit"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all schedules (default action)
    List(Limit),
    /// Show all details of a schedule
    Show {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
    },
    /// Create a schedule; its jobs run with your rights
    ///
    ///   muster schedules create nightly --cron '30 2 * * *' --time-zone Europe/Berlin --tag db backup
    ///   muster schedules create poll --every 10m --on 'os:linux' -- uptime
    #[command(verbatim_doc_comment)]
    Create(Box<NewSchedule>),
    /// Change a schedule; unless only its name changes, its jobs then run with your rights
    ///
    /// A new script or command replaces the parameters too; -p alone changes single ones.
    ///
    ///   muster schedules edit nightly --cron '0 3 * * *'
    ///   muster schedules edit nightly --tag db backup FULL=yes
    #[command(verbatim_doc_comment)]
    Edit(Box<EditSchedule>),
    /// Enable a schedule that is disabled or stopped
    #[command(visible_alias = "resume")]
    Enable {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
    },
    /// Disable a schedule until it is enabled again
    #[command(visible_alias = "pause")]
    Disable {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
    },
    /// Run a schedule's job now, and print its id
    Run {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
        /// Start although a calendar holds it back, for this reason, which is audited
        #[arg(long, value_name = "REASON")]
        override_calendar: Option<String>,
        /// Run main of a script with a trigger without the trigger
        #[arg(long)]
        force: bool,
    },
    /// Skip the due times of a schedule until an instant
    Snooze {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
        /// Until this time, such as 2h from now or 2026-11-21T10:00:00Z
        #[arg(long, value_name = "TIME", required_unless_present = "end")]
        until: Option<String>,
        /// End it now
        #[arg(long, conflicts_with = "until")]
        end: bool,
    },
    /// Show what one schedule or all will do: changes of the clocks, blocked times, collisions, load
    Simulate {
        /// Schedule: an id, a name, or a unique prefix of one [default: all that are active]
        schedule: Option<String>,
        /// Look this many days ahead, at most 731
        #[arg(long, value_name = "N", default_value_t = 730)]
        days: u64,
    },
    /// Delete a schedule with its history; its jobs stay
    Delete {
        /// Schedule: an id or a full name
        schedule: String,
    },
    /// Show the next due times of a schedule, or of a rule given by options
    Preview {
        /// Schedule: an id, a name, or a unique prefix of one
        #[arg(required_unless_present_any = ["cron", "every", "at"])]
        schedule: Option<String>,
        #[command(flatten)]
        rule: RuleOptions,
        /// Show N due times [default: 10]
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Show what the schedule of a script with a trigger keeps for each agent
    TriggerStates {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// List when a schedule was due, and what was started
    History {
        /// Schedule: an id, a name, or a unique prefix of one
        schedule: String,
        #[command(flatten)]
        limit: LatestLimit,
    },
}

/// What was created, and when it is due first.
fn created(schedule: &Value, time: TimeFormat) -> String {
    let text = |field: &str| schedule.get(field).and_then(Value::as_str).unwrap_or_default();
    let first = match text("next_due_at") {
        "" => "it is never due".to_owned(),
        at => format!("it is due first at {}", time.instant(at)),
    };
    format!("Schedule {} is created; {first}.", text("name"))
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::Schedule, typed).await;
    match args.action.unwrap_or_else(|| Action::List(Limit::default())) {
        Action::List(limit) => {
            let empty = "No schedules yet. Create one with `muster schedules create`.";
            let (segments, columns) = (&["schedules"], &COLUMNS);
            let list = List { segments, filters: &[], limit, columns, empty };
            let mut page = list.read(session).await?;
            if !session.output.json {
                last_result::add(session, &mut page).await?;
            }
            list.show_page(session, &page)
        }
        Action::Show { schedule } => session.show(&["schedules", &id_of(&schedule).await?]).await,
        Action::Create(new) => {
            session
                .change(Method::POST, &["schedules"], &new.body()?, |schedule| {
                    created(schedule, session.output.time)
                })
                .await
        }
        Action::Edit(edit) => {
            let id = id_of(&edit.schedule).await?;
            let mut body = edit.changes()?;
            if edit.job.is_given() {
                let request = session.api.request(Method::GET, &["schedules", &id]);
                let known = session.api.json(request).await?;
                body.insert("job".into(), edit.job.change(&known["job"])?);
            }
            session
                .change(
                    Method::PATCH,
                    &["schedules", &id],
                    &body.into(),
                    about("Schedule", "is changed"),
                )
                .await
        }
        Action::Enable { schedule } => {
            let id = id_of(&schedule).await?;
            session.act(&["schedules", &id, "enable"], about("Schedule", "is active")).await
        }
        Action::Disable { schedule } => {
            let id = id_of(&schedule).await?;
            session.act(&["schedules", &id, "disable"], about("Schedule", "is disabled")).await
        }
        Action::Snooze { schedule, until, end: _ } => {
            let id = id_of(&schedule).await?;
            let until = until.map(|typed| future_instant(&typed, Utc::now())).transpose()?;
            let body = json!({ "until": until });
            let said =
                about("Schedule", if until.is_some() { "is snoozed" } else { "is not snoozed" });
            session.change(Method::POST, &["schedules", &id, "snooze"], &body, said).await
        }
        Action::Simulate { schedule, days } => simulate(session, schedule, days).await,
        Action::Run { schedule, override_calendar, force } => {
            let id = id_of(&schedule).await?;
            // The same key for every attempt: a repeated request creates no second job.
            let request = session
                .api
                .request(Method::POST, &["schedules", &id, "run"])
                .header("Idempotency-Key", Uuid::now_v7().to_string())
                .json(&json!({ "calendar_override": override_calendar, "force": force }));
            let answer = session.api.json_with_retries(request).await?;
            session.output.answer(&answer, |answer| text(answer, "job_id"))?;
            print_approval(session, &text(&answer, "job_id")).await;
            Ok(0)
        }
        Action::Delete { schedule } => {
            let id = session.exact_id_of(ResourceKind::Schedule, &schedule).await?;
            session.delete(("Schedule", &schedule), &["schedules", &id]).await
        }
        Action::Preview { schedule, rule, count } => preview(session, schedule, rule, count).await,
        Action::TriggerStates { schedule, limit } => {
            let id = id_of(&schedule).await?;
            trigger_states::show(session, &id, limit).await
        }
        Action::History { schedule, limit } => {
            let id = id_of(&schedule).await?;
            let list = List {
                segments: &["schedules", &id, "fires"],
                filters: &[],
                limit: limit.into(),
                columns: &FIRE_COLUMNS,
                empty: "The schedule was not due yet.",
            };
            list.show(session).await
        }
    }
}

/// How a fire came about, if not at its due time.
fn start_of(fire: &Value) -> String {
    let is = |field: &str| fire.get(field).and_then(Value::as_bool).unwrap_or_default();
    match (is("is_manual"), is("is_missed")) {
        (true, _) => "manual".to_owned(),
        (false, true) => "late".to_owned(),
        (false, false) => "on time".to_owned(),
    }
}

/// Prints that the new job waits for an approval, if it does. The job exists also without an answer.
async fn print_approval(session: &Session, job_id: &str) {
    let request = session.api.request(Method::GET, &["jobs", job_id]);
    let job = session.api.json(request).await.unwrap_or_default();
    if let Some(note) = approval_note(&job, session.output.time) {
        print_note(&note);
    }
}

fn text(answer: &Value, field: &str) -> String {
    answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
