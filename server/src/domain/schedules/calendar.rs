//! Calendars: when work may start. Pure: whether an instant is blocked follows from the calendar alone.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::rule_error::RuleError;
use crate::domain::field_error::FieldErrorCode;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{CalendarId, PrincipalId, ScheduleId, TenantId};
use crate::domain::time::Timestamp;

/// Most entries of a calendar.
pub const MAX_ENTRIES: usize = 100;
/// Most dates of an entry.
pub const MAX_DATES: usize = 366;
/// Most schedules that a calendar names.
pub const MAX_CALENDAR_SCHEDULES: usize = 1_000;
/// Longest note of an entry, in characters.
pub const MAX_NOTE_CHARS: usize = 200;

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// No work starts: neither due times nor runs nor updates.
    Freeze,
    /// Schedules are not due. People may run jobs.
    Exclusion,
    /// A maintenance window. With at least one in the calendar, work starts only within one.
    Window,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A span of local time on days of the week. It ends on the next day if `until` is not later than `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeeklySpan {
    /// The days on which it begins.
    pub days: Vec<Day>,
    /// Local time, `HH:MM`.
    #[schema(example = "22:00")]
    pub from: String,
    /// Local time, `HH:MM`, not included.
    #[schema(example = "04:00")]
    pub until: String,
}

/// An entry of a calendar. It has exactly one of a span (`starts_at` and `ends_at`), `dates` and `weekly`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntrySpec {
    pub kind: EntryKind,
    /// Shown where work is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// Not included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Whole days in the zone of the calendar, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dates: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<WeeklySpan>,
}

/// A calendar as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarRecord {
    pub id: CalendarId,
    pub tenant_id: TenantId,
    pub name: String,
    pub time_zone: String,
    /// A list of [`EntrySpec`], JSON.
    pub entries: String,
    /// A [`TargetSpec`], JSON: only work on these agents.
    pub target: Option<String>,
    /// A list of ids, JSON: only these schedules. Empty: all work.
    pub schedule_ids: String,
    pub created_by: PrincipalId,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// A valid calendar.
#[derive(Debug, Clone)]
pub struct Calendar {
    pub id: CalendarId,
    pub name: String,
    zone: Tz,
    entries: Vec<Entry>,
    target: Option<Target>,
    schedule_ids: Vec<ScheduleId>,
}

#[derive(Debug, Clone)]
struct Entry {
    kind: EntryKind,
    note: Option<String>,
    span: Span,
}

#[derive(Debug, Clone)]
enum Span {
    Dated { from: Timestamp, until: Timestamp },
    Dates(BTreeSet<NaiveDate>),
    Weekly { days: Vec<Day>, from: NaiveTime, until: NaiveTime },
}

/// What starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A due time of a schedule.
    Fire(ScheduleId),
    /// A job, a command or an update that a person, a hook or a group asks for.
    Work,
}

/// Why something must not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct CalendarBlock {
    pub kind: EntryKind,
    pub calendar: String,
    pub note: Option<String>,
}

impl CalendarBlock {
    fn sentence(&self) -> String {
        let why = match self.kind {
            EntryKind::Freeze => "has a freeze now",
            EntryKind::Exclusion => "excludes this time",
            EntryKind::Window => "has no maintenance window now",
        };
        let note = self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        format!("the calendar `{}` {why}{note}", self.calendar)
    }
}

impl Calendar {
    /// Checks a calendar.
    ///
    /// # Errors
    /// [`RuleError`] names the field.
    pub fn new(record: &CalendarRecord) -> Result<Self, RuleError> {
        let zone = Tz::from_str(&record.time_zone).map_err(|_| {
            let problem = "must be the name of a time zone such as Europe/Berlin or UTC";
            RuleError::new("time_zone", FieldErrorCode::Invalid, problem)
        })?;
        let unreadable = |field: &str| {
            RuleError::new(field, FieldErrorCode::Invalid, "can't be read; set it again")
        };
        let specs: Vec<EntrySpec> =
            serde_json::from_str(&record.entries).map_err(|_| unreadable("entries"))?;
        if specs.len() > MAX_ENTRIES {
            let problem = "has too many entries";
            return Err(RuleError::new("entries", FieldErrorCode::TooMany, problem)
                .with_limit(MAX_ENTRIES as u64));
        }
        let entries = specs.iter().enumerate().map(|(n, spec)| Entry::new(spec, n));
        let target = match &record.target {
            None => None,
            Some(text) => {
                let spec: TargetSpec =
                    serde_json::from_str(text).map_err(|_| unreadable("target"))?;
                Some(Target::try_from(spec).map_err(|_| unreadable("target"))?)
            }
        };
        let schedule_ids: Vec<ScheduleId> =
            serde_json::from_str(&record.schedule_ids).map_err(|_| unreadable("schedule_ids"))?;
        if schedule_ids.len() > MAX_CALENDAR_SCHEDULES {
            let problem = "names too many schedules";
            return Err(RuleError::new("schedule_ids", FieldErrorCode::TooMany, problem)
                .with_limit(MAX_CALENDAR_SCHEDULES as u64));
        }
        Ok(Self {
            id: record.id,
            name: record.name.clone(),
            zone,
            entries: entries.collect::<Result<_, _>>()?,
            target,
            schedule_ids,
        })
    }

    /// What [`Calendar::block`] compares an instant with, at most.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The agents that it concerns; `None`: all.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// True if it concerns this schedule alone among others: not by its agents.
    pub fn names(&self, id: ScheduleId) -> bool {
        self.schedule_ids.contains(&id)
    }

    /// True if it concerns named schedules and nothing else.
    pub fn is_for_schedules(&self) -> bool {
        !self.schedule_ids.is_empty()
    }

    /// Why this must not start at this instant; `None` if it may.
    pub fn block(&self, start: Start, at: Timestamp) -> Option<CalendarBlock> {
        if let Start::Fire(id) = start
            && self.is_for_schedules()
            && !self.names(id)
        {
            return None;
        }
        if start == Start::Work && self.is_for_schedules() {
            return None;
        }
        let local = self.local(at)?;
        let covering = |kind| {
            self.entries.iter().find(|entry| entry.kind == kind && entry.span.covers(at, local))
        };
        let block = |kind, note: Option<&String>| {
            Some(CalendarBlock { kind, calendar: self.name.clone(), note: note.cloned() })
        };
        if let Some(freeze) = covering(EntryKind::Freeze) {
            return block(EntryKind::Freeze, freeze.note.as_ref());
        }
        if let Start::Fire(_) = start
            && let Some(exclusion) = covering(EntryKind::Exclusion)
        {
            return block(EntryKind::Exclusion, exclusion.note.as_ref());
        }
        let mut windows = self.entries.iter().filter(|entry| entry.kind == EntryKind::Window);
        let first = windows.next()?;
        match covering(EntryKind::Window) {
            Some(_) => None,
            None => block(EntryKind::Window, first.note.as_ref()),
        }
    }

    /// True if no alert opens at this instant: in a freeze, on an excluded day, and within a maintenance
    /// window, in which hosts are expected to be away.
    pub fn holds_alerts(&self, at: Timestamp) -> bool {
        let Some(local) = self.local(at).filter(|_| !self.is_for_schedules()) else { return false };
        self.entries.iter().any(|entry| entry.span.covers(at, local))
    }

    fn local(&self, at: Timestamp) -> Option<NaiveDateTime> {
        let utc = DateTime::<Utc>::from_timestamp_millis(at.0)?.naive_utc();
        Some(self.zone.from_utc_datetime(&utc).naive_local())
    }
}

impl Entry {
    fn new(spec: &EntrySpec, n: usize) -> Result<Self, RuleError> {
        let invalid = |field: &str, problem: &str| {
            let field = format!("entries[{n}]{field}");
            Err(RuleError::new(&field, FieldErrorCode::Invalid, problem))
        };
        if spec.note.as_ref().is_some_and(|note| {
            note.chars().count() > MAX_NOTE_CHARS || note.chars().any(char::is_control)
        }) {
            return invalid(".note", "must be at most 200 characters, without control characters");
        }
        let span = match (spec.starts_at, spec.ends_at, &spec.dates, &spec.weekly) {
            (Some(from), Some(until), None, None) if from < until => Span::Dated { from, until },
            (Some(_), Some(_), None, None) => {
                return invalid(".ends_at", "must be later than `starts_at`");
            }
            (None, None, Some(dates), None) => {
                let parsed: Option<BTreeSet<_>> =
                    dates.iter().map(|date| parse_date(date)).collect();
                match parsed {
                    Some(parsed) if (1..=MAX_DATES).contains(&dates.len()) => Span::Dates(parsed),
                    _ => return invalid(".dates", "must be 1 to 366 dates such as 2026-12-25"),
                }
            }
            (None, None, None, Some(weekly)) => {
                let times = parse_time(&weekly.from).zip(parse_time(&weekly.until));
                let Some((from, until)) = times else {
                    return invalid(".weekly", "must have times such as 22:00");
                };
                if !(1..=7).contains(&weekly.days.len()) {
                    return invalid(".weekly.days", "must be 1 to 7 days");
                }
                Span::Weekly { days: weekly.days.clone(), from, until }
            }
            _ => {
                let problem = "must have one of `starts_at` with `ends_at`, `dates` and `weekly`";
                return invalid("", problem);
            }
        };
        Ok(Self { kind: spec.kind, note: spec.note.clone(), span })
    }
}

impl Span {
    fn covers(&self, at: Timestamp, local: NaiveDateTime) -> bool {
        match self {
            Self::Dated { from, until } => (*from..*until).contains(&at),
            Self::Dates(dates) => dates.contains(&local.date()),
            Self::Weekly { days, from, until } => {
                let begins_on =
                    |date: Option<NaiveDate>| date.is_some_and(|date| days.contains(&day_of(date)));
                let (today, time) = (local.date(), local.time());
                if from < until {
                    return begins_on(Some(today)) && (*from..*until).contains(&time);
                }
                (begins_on(Some(today)) && time >= *from)
                    || (begins_on(today.pred_opt()) && time < *until)
            }
        }
    }
}

fn day_of(date: NaiveDate) -> Day {
    match date.weekday() {
        chrono::Weekday::Mon => Day::Mon,
        chrono::Weekday::Tue => Day::Tue,
        chrono::Weekday::Wed => Day::Wed,
        chrono::Weekday::Thu => Day::Thu,
        chrono::Weekday::Fri => Day::Fri,
        chrono::Weekday::Sat => Day::Sat,
        chrono::Weekday::Sun => Day::Sun,
    }
}

fn parse_date(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10)
}

fn parse_time(text: &str) -> Option<NaiveTime> {
    NaiveTime::parse_from_str(text, "%H:%M").ok().filter(|_| text.len() == 5)
}
