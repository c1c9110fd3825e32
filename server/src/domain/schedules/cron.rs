//! A cron entry in a time zone, as the API takes it. The rules are those of agents:
//! `protocol/src/schedule/cron.rs`.

use chrono::DateTime;
pub use muster_protocol::schedule::MAX_CRON_CHARS;
use muster_protocol::schedule::{self, CronError};

use super::rule_error::RuleError;
use crate::domain::field_error::FieldErrorCode;
use crate::domain::time::Timestamp;

/// A cron entry with its zone.
#[derive(Debug, Clone)]
pub struct CronEntry(schedule::CronEntry);

/// What a change of the clocks did to a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClockChange {
    /// The local time of the entry does not exist on this day; this is the first instant after the
    /// gap.
    AfterGap,
    /// The local time occurs twice on this day.
    RepeatedTime,
}

impl CronEntry {
    /// Reads the fields and the name of the zone.
    ///
    /// # Errors
    /// [`RuleError`] names the field.
    pub fn parse(text: &str, zone: &str) -> Result<Self, RuleError> {
        schedule::CronEntry::parse(text, zone).map(Self).map_err(|error| {
            let (field, code) = match error {
                CronError::TooLong => ("rule.cron", FieldErrorCode::TooLarge),
                CronError::Zone => ("rule.time_zone", FieldErrorCode::Invalid),
                _ => ("rule.cron", FieldErrorCode::Invalid),
            };
            RuleError::new(field, code, error.to_string())
        })
    }

    /// The first due time after an instant.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.0.next_after(after.0).map(Timestamp)
    }

    /// The local time of an instant, with its offset.
    pub fn local(&self, at: Timestamp) -> Option<DateTime<chrono::FixedOffset>> {
        self.0.local(at.0)
    }

    /// What a change of the clocks did to a due time of this entry.
    pub fn clock_change(&self, due_at: Timestamp) -> Option<ClockChange> {
        self.0.clock_change(due_at.0).map(|change| match change {
            schedule::ClockChange::AfterGap => ClockChange::AfterGap,
            schedule::ClockChange::RepeatedTime => ClockChange::RepeatedTime,
        })
    }

    /// The fields, with numbers instead of names.
    pub(super) fn fields(&self) -> Vec<&str> {
        self.0.fields()
    }

    /// croner's description, for entries without a short sentence.
    pub(super) fn description(&self) -> String {
        self.0.description()
    }

    pub(super) fn zone_name(&self) -> &'static str {
        self.0.zone_name()
    }
}
