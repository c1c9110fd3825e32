//! `muster calendars`: when work may start.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::commands::fleet::target_options::TARGET_EXPRESSION;
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::output::table::Column;
use crate::output::text::about;
use crate::session::{ResourceKind, Session};

const CALENDAR: &str = "Calendar";
const COLUMNS: [Column; 5] = [
    Column::of("NAME", "name"),
    Column::of("ZONE", "time_zone"),
    Column::by("ENTRIES", |calendar| {
        calendar["entries"].as_array().map_or(0, Vec::len).to_string()
    }),
    Column::by("HOLDS FOR", scope_of),
    Column::of("ID", "id"),
];

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("name", "NAME or --name")
        .expects("1 to 128 characters, without control characters or spaces at the ends"),
    option("time_zone", "--time-zone").expects("a name such as Europe/Berlin"),
    option("entries", "--freeze or --exclude or --window"),
    option("target", "--on"),
    TARGET_EXPRESSION,
    option("schedule_ids", "--schedule"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all calendars (default action)
    List,
    /// Show all details of a calendar
    Show {
        /// Calendar: an id, a name, or a unique prefix of one
        calendar: String,
    },
    /// Create a calendar; it holds for all work, unless --on or --schedule limits it
    ///
    ///   muster calendars add sale --freeze 2026-11-27T00:00:00Z..2026-11-30T00:00:00Z
    ///   muster calendars add nights --time-zone Europe/Berlin --window 'mon,tue,wed,thu,fri 22:00-04:00' --on tag:web
    #[command(verbatim_doc_comment)]
    Add {
        /// Name of the new calendar
        name: String,
        #[command(flatten)]
        settings: CalendarOptions,
    },
    /// Change a calendar; entries that are given replace all entries
    Edit {
        /// Calendar: an id, a name, or a unique prefix of one
        calendar: String,
        /// New name
        #[arg(long, help_heading = CALENDAR)]
        name: Option<String>,
        #[command(flatten)]
        settings: CalendarOptions,
    },
    /// Delete a calendar
    Remove {
        /// Calendar: an id or a full name
        calendar: String,
    },
}

#[derive(Debug, clap::Args)]
struct CalendarOptions {
    /// Time zone of dates and windows [default of a new calendar: UTC]
    #[arg(long, value_name = "ZONE", help_heading = CALENDAR)]
    time_zone: Option<String>,
    /// Start no work from an instant until another one; repeatable
    #[arg(long = "freeze", value_name = "INSTANT..INSTANT", help_heading = CALENDAR)]
    freezes: Vec<String>,
    /// Start no due times of schedules on a day, such as 2026-12-25; repeatable
    #[arg(long = "exclude", value_name = "DATE", help_heading = CALENDAR)]
    exclusions: Vec<String>,
    /// Start work only in windows, such as 'sat,sun 22:00-04:00' or INSTANT..INSTANT; repeatable
    #[arg(long = "window", value_name = "WINDOW", help_heading = CALENDAR)]
    windows: Vec<String>,
    /// Hold only for work on these agents, such as tag:web
    #[arg(long, value_name = "TARGET", help_heading = CALENDAR)]
    on: Option<String>,
    /// Hold only for this schedule: an id or a name; repeatable
    #[arg(long = "schedule", value_name = "SCHEDULE", help_heading = CALENDAR)]
    schedules: Vec<String>,
}

impl CalendarOptions {
    /// Only what is given; the server has the defaults.
    async fn body(&self, session: &Session) -> Result<Map<String, Value>, CliError> {
        let mut body = Map::new();
        if let Some(zone) = &self.time_zone {
            body.insert("time_zone".into(), zone.as_str().into());
        }
        let mut entries = Vec::new();
        for freeze in &self.freezes {
            entries.push(span("freeze", freeze)?);
        }
        if !self.exclusions.is_empty() {
            entries.push(json!({"kind": "exclusion", "dates": self.exclusions}));
        }
        for window in &self.windows {
            entries.push(match window.contains("..") {
                true => span("window", window)?,
                false => weekly(window)?,
            });
        }
        if !entries.is_empty() {
            body.insert("entries".into(), entries.into());
        }
        if let Some(on) = &self.on {
            body.insert("target".into(), json!({"expression": on}));
        }
        if !self.schedules.is_empty() {
            let mut ids = Vec::new();
            for typed in &self.schedules {
                ids.push(session.id_of(ResourceKind::Schedule, typed).await?);
            }
            body.insert("schedule_ids".into(), json!(ids));
        }
        Ok(body)
    }
}

fn span(kind: &str, typed: &str) -> Result<Value, CliError> {
    let (from, until) = typed.split_once("..").ok_or_else(|| {
        CliError::Usage(format!("invalid span \"{typed}\"; use INSTANT..INSTANT"))
    })?;
    Ok(json!({"kind": kind, "starts_at": from, "ends_at": until}))
}

fn weekly(typed: &str) -> Result<Value, CliError> {
    let parts = typed.split_once(' ').and_then(|(days, times)| {
        let (from, until) = times.trim().split_once('-')?;
        Some((days, from, until))
    });
    let (days, from, until) = parts.ok_or_else(|| {
        CliError::Usage(format!("invalid window \"{typed}\"; use DAYS HH:MM-HH:MM"))
    })?;
    let days: Vec<_> = days.split(',').map(str::to_lowercase).collect();
    Ok(json!({"kind": "window", "weekly": {"days": days, "from": from, "until": until}}))
}

fn scope_of(calendar: &Value) -> String {
    let count = calendar["schedule_ids"].as_array().map_or(0, Vec::len);
    match calendar["target"].as_object().and_then(|target| target.values().next()) {
        Some(Value::String(expression)) => expression.clone(),
        Some(other) => other.to_string(),
        None if count > 0 => format!("{count} schedules"),
        None => "all work".to_owned(),
    }
}

/// Runs one action.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id_of = async |typed: &str| session.id_of(ResourceKind::Calendar, typed).await;
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let answer = session.api.json(session.api.request(Method::GET, &["calendars"])).await?;
            let empty = "No calendars yet. Create one with `muster calendars add`.";
            session.output.list(&answer, &COLUMNS, empty)?;
            Ok(0)
        }
        Action::Show { calendar } => session.show(&["calendars", &id_of(&calendar).await?]).await,
        Action::Add { name, settings } => {
            let mut body = settings.body(session).await?;
            body.insert("name".into(), name.into());
            let said = about("Calendar", "is created");
            session.change(Method::POST, &["calendars"], &body.into(), said).await
        }
        Action::Edit { calendar, name, settings } => {
            let id = id_of(&calendar).await?;
            let mut body = settings.body(session).await?;
            if let Some(name) = name {
                body.insert("name".into(), name.into());
            }
            if body.is_empty() {
                return Err(CliError::Usage("give at least one option to change".into()));
            }
            let said = about("Calendar", "is changed");
            session.change(Method::PATCH, &["calendars", &id], &body.into(), said).await
        }
        Action::Remove { calendar } => {
            let id = session.exact_id_of(ResourceKind::Calendar, &calendar).await?;
            session.delete(("Calendar", &calendar), &["calendars", &id]).await
        }
    }
}
