//! When a task is due, as `muster.toml` and the document of the package say it.

use serde::{Deserialize, Serialize};

/// Shortest interval of a task: 1 s.
pub const MIN_TASK_INTERVAL_MS: u64 = 1_000;
/// Longest interval of a task: 366 days.
pub const MAX_TASK_INTERVAL_MS: u64 = 366 * 86_400_000;
/// Longest cron entry and longest name of a zone, in bytes.
pub const MAX_SCHEDULE_TEXT_BYTES: usize = 128;

/// Exactly one of `cron` and `every_ms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskSchedule {
    /// Minute, hour, day of the month, month and day of the week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The IANA name of the zone of `cron`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// An interval. It counts from the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
}

impl TaskSchedule {
    /// False if a task can't be due then: a bound for what hosts report. Hosts may have other data of time
    /// zones, so that of a cron entry only the minute is checked.
    pub fn may_be_due(&self, due_at_ms: u64) -> bool {
        due_at_ms.is_multiple_of(self.every_ms.unwrap_or(60_000))
    }

    /// Checks everything but the cron entry itself.
    ///
    /// # Errors
    /// The field, and a problem as the end of a sentence about it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let refused = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if self.cron.is_some() == self.every_ms.is_some() {
            return refused("schedule", "must have either `cron` or `every_ms`");
        }
        if self.time_zone.is_some() && self.cron.is_none() {
            return refused("schedule.time_zone", "is the zone of `cron`, which is missing");
        }
        let is_long = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| text.len() > MAX_SCHEDULE_TEXT_BYTES)
        };
        if is_long(&self.cron) {
            return refused("schedule.cron", "must be at most 128 characters");
        }
        if is_long(&self.time_zone) {
            return refused("schedule.time_zone", "must be at most 128 characters");
        }
        let interval = MIN_TASK_INTERVAL_MS..=MAX_TASK_INTERVAL_MS;
        if self.every_ms.is_some_and(|every_ms| !interval.contains(&every_ms)) {
            return refused("schedule.every_ms", "must be at least 1000 and at most 366 days");
        }
        Ok(())
    }
}
