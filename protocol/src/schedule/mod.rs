//! Due times, computed alike by servers and agents. Pure: instants are milliseconds since the Unix epoch.

mod cron;
mod cron_problem;
mod task_times;

pub use self::cron::{ClockChange, CronEntry, CronError, MAX_CRON_CHARS};
pub use self::task_times::TaskTimes;
