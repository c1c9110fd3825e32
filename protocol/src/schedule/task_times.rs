//! The due times of a task.

use super::{CronEntry, CronError};
use crate::package::TaskSchedule;

/// How far back the last due time is sought, step by step, so that a search starts near it: a minute, an
/// hour, a day, 32 days, and 8 years, in which each cron entry is due.
const LOOK_BACK_MS: [i64; 5] =
    [60_000, 3_600_000, 86_400_000, 32 * 86_400_000, 8 * 366 * 86_400_000];

/// When a task is due.
#[derive(Debug, Clone)]
pub struct TaskTimes(Rule);

#[derive(Debug, Clone)]
enum Rule {
    Cron(Box<CronEntry>),
    /// From the Unix epoch on, so that a host that starts again computes the same instants.
    Interval(i64),
}

impl TaskTimes {
    /// Reads a schedule.
    ///
    /// # Errors
    /// The field and the end of a sentence about it.
    pub fn of(schedule: &TaskSchedule) -> Result<Self, (String, String)> {
        schedule.check()?;
        let rule = match (&schedule.cron, schedule.every_ms) {
            (Some(cron), _) => {
                let zone = schedule.time_zone.as_deref().unwrap_or("UTC");
                let entry = CronEntry::parse(cron, zone).map_err(|error| {
                    let field = match error {
                        CronError::Zone => "schedule.time_zone",
                        _ => "schedule.cron",
                    };
                    (field.to_owned(), error.to_string())
                })?;
                Rule::Cron(Box::new(entry))
            }
            (None, every_ms) => {
                Rule::Interval(i64::try_from(every_ms.unwrap_or(u64::MAX)).unwrap_or(i64::MAX))
            }
        };
        Ok(Self(rule))
    }

    /// The first due time after an instant.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        match &self.0 {
            Rule::Cron(entry) => entry.next_after(after_ms),
            Rule::Interval(every_ms) => {
                after_ms.div_euclid(*every_ms).checked_add(1)?.checked_mul(*every_ms)
            }
        }
    }

    /// The last due time that is later than `after_ms` and not later than `now_ms`. A host that was off for
    /// several due times runs the last of them only.
    pub fn last_due(&self, after_ms: i64, now_ms: i64) -> Option<i64> {
        if let Rule::Interval(every_ms) = &self.0 {
            let last = now_ms.div_euclid(*every_ms).checked_mul(*every_ms)?;
            return (last > after_ms).then_some(last);
        }
        let starts = LOOK_BACK_MS.iter().map(|back| now_ms.saturating_sub(*back).max(after_ms));
        for start in starts {
            let due = std::iter::successors(self.next_after(start), |due| self.next_after(*due));
            let last = due.take_while(|due| *due <= now_ms).last();
            if last.is_some() || start == after_ms {
                return last;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(every_ms: u64) -> TaskTimes {
        let schedule = TaskSchedule { every_ms: Some(every_ms), ..TaskSchedule::default() };
        TaskTimes::of(&schedule).expect("valid")
    }

    fn cron(cron: &str, zone: &str) -> TaskTimes {
        let schedule = TaskSchedule {
            cron: Some(cron.into()),
            time_zone: Some(zone.into()),
            ..TaskSchedule::default()
        };
        TaskTimes::of(&schedule).expect("valid")
    }

    #[test]
    fn several_missed_due_times_are_one() {
        let times = cron("*/5 * * * *", "UTC");
        assert_eq!(times.last_due(0, 3_599_999), Some(3_300_000));
        assert_eq!(times.last_due(3_300_000, 3_599_999), None);
        // 2026-01-01 and the first of February, in a zone that is an hour ahead.
        let monthly = cron("0 0 1 * *", "Europe/Berlin");
        let (january, february) = (1_767_222_000_000, 1_769_900_400_000);
        assert_eq!(monthly.last_due(0, february - 1), Some(january));
        assert_eq!(monthly.last_due(january, february), Some(february));
        let leap_day = cron("0 0 29 2 *", "UTC");
        assert_eq!(leap_day.last_due(0, february), Some(1_709_164_800_000));
    }

    #[test]
    fn an_invalid_schedule_names_its_field() {
        let field = |schedule: TaskSchedule| TaskTimes::of(&schedule).expect_err("refused").0;
        let of = |cron: &str, zone: Option<&str>| TaskSchedule {
            cron: Some(cron.into()),
            time_zone: zone.map(str::to_owned),
            every_ms: None,
        };
        assert_eq!(field(TaskSchedule::default()), "schedule");
        assert_eq!(field(of("61 * * * *", None)), "schedule.cron");
        assert_eq!(field(of("0 0 30 2 *", None)), "schedule.cron");
        assert_eq!(field(of("0 0 * * *", Some("Europe/Atlantis"))), "schedule.time_zone");
    }

    proptest! {
        #[test]
        fn the_last_due_time_is_due_and_no_later_one_is(
            every_ms in 1_000_u64..10_000_000,
            after_ms in 0_i64..100_000_000_000,
            passed_ms in 0_i64..100_000_000,
        ) {
            let times = interval(every_ms);
            let now_ms = after_ms + passed_ms;
            match times.last_due(after_ms, now_ms) {
                None => prop_assert!(times.next_after(after_ms).is_none_or(|next| next > now_ms)),
                Some(due) => {
                    prop_assert!(after_ms < due && due <= now_ms);
                    prop_assert_eq!(times.next_after(due - 1), Some(due));
                    prop_assert!(times.next_after(due).is_none_or(|next| next > now_ms));
                }
            }
        }

        #[test]
        fn the_last_due_time_of_a_cron_entry_is_due(
            entry in prop::sample::select(vec!["* * * * *", "*/7 3 * * *", "30 2 * * SUN", "0 0 1 1 *"]),
            after_ms in 1_700_000_000_000_i64..1_800_000_000_000,
            passed_ms in 0_i64..40_000_000_000,
        ) {
            let times = cron(entry, "Europe/Berlin");
            let now_ms = after_ms + passed_ms;
            match times.last_due(after_ms, now_ms) {
                None => prop_assert!(times.next_after(after_ms).is_none_or(|next| next > now_ms)),
                Some(due) => {
                    prop_assert!(after_ms < due && due <= now_ms);
                    prop_assert!(times.next_after(due).is_none_or(|next| next > now_ms));
                }
            }
        }
    }
}
