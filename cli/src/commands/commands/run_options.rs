//! The options of a job about how its executions run: again after a failure, and under a lock.

use serde_json::{Value, json};

use crate::error::CliError;
use crate::input::quantities::milliseconds;

const EXECUTION: &str = "Execution";

/// Retries and lock of a job.
#[derive(Debug, Default, Clone, clap::Args)]
pub struct RunOptions {
    /// Run an execution again up to this many times if it fails or reaches its timeout; 0 for none
    #[arg(long, value_name = "N", help_heading = EXECUTION)]
    retries: Option<u32>,
    /// Wait this long before the first retry, and twice as long before each further one [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "retries", help_heading = EXECUTION)]
    retry_backoff: Option<u64>,
    /// On each agent, run at the same time as no other execution with this lock; `none` for no lock
    #[arg(long, value_name = "NAME", help_heading = EXECUTION)]
    lock: Option<String>,
}

impl RunOptions {
    /// True if any of them is given.
    pub fn is_given(&self) -> bool {
        self.retries.is_some() || self.lock.is_some()
    }

    /// Writes what is given into a job; 0 retries and the lock `none` remove the field.
    ///
    /// # Errors
    /// [`CliError::Usage`] for a pause before no retry.
    pub fn add_to(&self, job: &mut Value) -> Result<(), CliError> {
        match (self.retries, self.retry_backoff) {
            (Some(0), Some(_)) => {
                return Err(CliError::Usage("--retry-backoff needs at least one retry".into()));
            }
            (Some(0), None) => remove(job, "retries"),
            (Some(count), None) => job["retries"] = json!({ "count": count }),
            (Some(count), Some(pause)) => {
                job["retries"] = json!({ "count": count, "backoff_ms": pause });
            }
            (None, _) => {}
        }
        match self.lock.as_deref() {
            Some("none") => remove(job, "lock"),
            Some(lock) => job["lock"] = lock.into(),
            None => {}
        }
        Ok(())
    }
}

fn remove(job: &mut Value, field: &str) {
    if let Some(job) = job.as_object_mut() {
        job.remove(field);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        options: RunOptions,
    }

    fn changed(words: &[&str]) -> Value {
        let typed = Typed::try_parse_from(["run"].iter().chain(words)).expect("valid options");
        let mut job = json!({"lock": "apt", "retries": {"count": 9}});
        typed.options.add_to(&mut job).expect("a job");
        job
    }

    #[test]
    fn given_options_replace_the_fields_and_can_remove_them() {
        assert_eq!(changed(&[]), json!({"lock": "apt", "retries": {"count": 9}}));
        assert_eq!(
            changed(&["--retries", "3", "--retry-backoff", "30s", "--lock", "db"]),
            json!({"lock": "db", "retries": {"count": 3, "backoff_ms": 30_000}})
        );
        assert_eq!(changed(&["--retries", "0", "--lock", "none"]), json!({}));
    }

    #[test]
    fn a_pause_needs_a_retry() {
        assert!(Typed::try_parse_from(["run", "--retry-backoff", "5s"]).is_err());
        let typed = Typed::try_parse_from(["run", "--retries", "0", "--retry-backoff", "5s"]);
        let mut job = json!({});
        assert!(typed.expect("valid options").options.add_to(&mut job).is_err());
    }
}
