//! Previews of due times.

use super::Schedules;
use crate::domain::access::principal::Scope;
use crate::domain::ids::ScheduleId;
use crate::domain::schedules::rule::{DueTimes, PreviewedFire, RuleSpec};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};

/// Default number of due times.
pub const DEFAULT_COUNT: u64 = 10;
/// Most due times of one preview.
pub const MAX_COUNT: u64 = 100;

/// The next due times of a rule.
#[derive(Debug, Clone)]
pub struct RulePreview {
    pub sentence: String,
    pub fires: Vec<PreviewedFire>,
}

impl Schedules {
    /// The next due times of a schedule, whether it is enabled or not.
    pub async fn preview(
        &self,
        caller: &Caller,
        id: ScheduleId,
        count: Option<u64>,
    ) -> Result<RulePreview> {
        caller.require(Scope::SchedulesRead)?;
        let count = checked(count)?;
        let due_times = self.find(caller, id).await?.due_times()?;
        Ok(self.of(&due_times, count))
    }

    /// The next due times of a rule that is not stored.
    ///
    /// # Errors
    /// 422 names the field.
    pub fn preview_rule(
        &self,
        caller: &Caller,
        rule: RuleSpec,
        (starts_at, ends_at): (Option<Timestamp>, Option<Timestamp>),
        count: Option<u64>,
    ) -> Result<RulePreview> {
        caller.require(Scope::SchedulesRead)?;
        let count = checked(count)?;
        let rule = rule.with_defaults(self.clock.now());
        Ok(self.of(&DueTimes::new(&rule, starts_at, ends_at)?, count))
    }

    fn of(&self, due_times: &DueTimes, count: usize) -> RulePreview {
        let fires = due_times.preview(self.clock.now(), count);
        RulePreview { sentence: due_times.sentence(), fires }
    }
}

fn checked(count: Option<u64>) -> Result<usize> {
    let count = count.unwrap_or(DEFAULT_COUNT);
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(ServiceError::out_of_range("count", count, 1..=MAX_COUNT));
    }
    Ok(usize::try_from(count).unwrap_or(0))
}
