//! The options of a schedule: when it is due, what it runs, and what happens when it is late.

use chrono::Utc;
use clap::ValueEnum;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde_json::{Map, Value, json};

use super::job_options::JobOptions;
use crate::error::CliError;
use crate::input::instants::instant;
use crate::input::quantities::milliseconds;
use crate::input::secret_sources::SecretSource;

const POLICY: &str = "Late and overlapping runs";
const WHEN: &str = "When";

/// When a schedule is due: one of `--cron`, `--every` and `--at`.
#[derive(Debug, Default, clap::Args)]
pub struct RuleOptions {
    /// Five fields (minute, hour, day, month, weekday), or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "CRON", help_heading = WHEN, conflicts_with_all = ["every", "at"])]
    cron: Option<String>,
    /// Time zone of --cron, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", help_heading = WHEN, requires = "cron")]
    time_zone: Option<String>,
    /// Interval, such as 90s, 10m or 1d
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = WHEN, conflicts_with = "at")]
    every: Option<u64>,
    /// Count intervals from this time, such as 2026-11-21T10:00:00Z [default: now]
    #[arg(long, value_name = "INSTANT", help_heading = WHEN, requires = "every")]
    anchor: Option<String>,
    /// Once at this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "INSTANT", help_heading = WHEN)]
    at: Option<String>,
}

impl RuleOptions {
    /// The rule of a request; none if no option is given.
    pub fn body(&self) -> Option<Value> {
        let mut rule = Map::new();
        let texts = [
            ("cron", &self.cron),
            ("time_zone", &self.time_zone),
            ("anchor_at", &self.anchor),
            ("at", &self.at),
        ];
        for (field, value) in texts {
            if let Some(value) = value {
                rule.insert(field.into(), value.as_str().into());
            }
        }
        if let Some(every_ms) = self.every {
            rule.insert("every_ms".into(), every_ms.into());
        }
        (!rule.is_empty()).then(|| rule.into())
    }
}

/// Everything that can be changed later.
#[derive(Debug, Default, clap::Args)]
pub struct ScheduleOptions {
    /// Not due before this time; `none` removes it
    #[arg(long, value_name = "INSTANT", help_heading = WHEN)]
    starts: Option<String>,
    /// Not due at this time or later; `none` removes it
    #[arg(long, value_name = "INSTANT", help_heading = WHEN)]
    ends: Option<String>,
    /// Missed fires that get a job [default of a new schedule: once]
    #[arg(long, value_enum, help_heading = POLICY)]
    missed: Option<Missed>,
    /// Most missed fires that `--missed all` runs [default of a new schedule: 10]
    #[arg(long, value_name = "N", help_heading = POLICY)]
    max_catch_up: Option<u64>,
    /// Skip a fire that can't start within this time [default of a new schedule: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = POLICY)]
    late_limit: Option<u64>,
    /// What to do while the previous job has not ended [default of a new schedule: skip]
    #[arg(long, value_enum, help_heading = POLICY)]
    overlap: Option<Overlap>,
    /// Delay each fire by up to this time [default of a new schedule: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = POLICY)]
    jitter: Option<u64>,
    /// Send the result of each job to this address; `none` removes it
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// Secret parameter of each job: NAME asks for it, NAME=@FILE and NAME=env read it; `none` removes all
    #[arg(long = "secret", value_name = "NAME[=@FILE|=env]")]
    secrets: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Missed {
    /// None of them
    Skip,
    /// One for all of them
    Once,
    /// The newest, up to --max-catch-up
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Overlap {
    /// Start anyway
    Allow,
    /// Skip the fire
    Skip,
    /// Let one fire wait
    Queue,
    /// Cancel the previous job, and start when it has ended
    CancelPrevious,
}

impl ScheduleOptions {
    /// Only the given options; the server has the defaults.
    ///
    /// # Errors
    /// [`CliError::Usage`] for an invalid time.
    pub fn body(&self) -> Result<Map<String, Value>, CliError> {
        let mut body = Map::new();
        for (field, typed) in [("starts_at", &self.starts), ("ends_at", &self.ends)] {
            let value = match typed.as_deref() {
                None => continue,
                Some("none") => Value::Null,
                Some(typed) => instant(typed, Utc::now())?.into(),
            };
            body.insert(field.into(), value);
        }
        if let Some(url) = self.webhook.as_deref() {
            let webhook = if url == "none" { Value::Null } else { json!({ "url": url }) };
            body.insert("webhook".into(), webhook);
        }
        if self.secrets == ["none"] {
            body.insert("secret_parameters".into(), Value::Null);
        } else if !self.secrets.is_empty() {
            body.insert("secret_parameters".into(), json!(read_secrets(&self.secrets)?));
        }
        let numbers = [
            ("max_catch_up", self.max_catch_up),
            ("late_limit_ms", self.late_limit),
            ("jitter_ms", self.jitter),
        ];
        for (field, value) in numbers {
            if let Some(value) = value {
                body.insert(field.into(), value.into());
            }
        }
        if let Some(missed) = self.missed {
            let name = match missed {
                Missed::Skip => "skip",
                Missed::Once => "once",
                Missed::All => "all",
            };
            body.insert("missed".into(), name.into());
        }
        if let Some(overlap) = self.overlap {
            let name = match overlap {
                Overlap::Allow => "allow",
                Overlap::Skip => "skip",
                Overlap::Queue => "queue",
                Overlap::CancelPrevious => "cancel_previous",
            };
            body.insert("overlap".into(), name.into());
        }
        Ok(body)
    }
}

/// The arguments of `muster schedules create`.
#[derive(Debug, clap::Args)]
pub struct NewSchedule {
    /// Name of the schedule
    name: String,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    settings: ScheduleOptions,
}

impl NewSchedule {
    /// The request.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub fn body(&self) -> Result<Value, CliError> {
        let mut body = self.settings.body()?;
        let rule = self.rule.body();
        let rule = rule.ok_or_else(|| usage("no time is given; use --cron, --every or --at"))?;
        body.insert("rule".into(), rule);
        body.insert("name".into(), self.name.as_str().into());
        let job = self.job.change(&json!({}))?;
        if job.get("target").is_none() {
            return Err(usage("no agents are given; use --on or --tag"));
        }
        if ["script", "argv", "steps"].iter().all(|field| job.get(field).is_none()) {
            return Err(usage("no script is given; name one, or a command after `--`"));
        }
        body.insert("job".into(), job);
        Ok(body.into())
    }
}

/// The arguments of `muster schedules edit`.
#[derive(Debug, clap::Args)]
pub struct EditSchedule {
    /// Schedule: an id, a name, or a unique prefix of one
    pub schedule: String,
    #[command(flatten)]
    pub job: JobOptions,
    /// New name for the schedule
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    rule: RuleOptions,
    #[command(flatten)]
    settings: ScheduleOptions,
}

impl EditSchedule {
    /// The changes of everything but the job.
    ///
    /// # Errors
    /// [`CliError::Usage`] for an invalid time, and if no option is given.
    pub fn changes(&self) -> Result<Map<String, Value>, CliError> {
        let mut body = self.settings.body()?;
        if let Some(rule) = self.rule.body() {
            body.insert("rule".into(), rule);
        }
        if let Some(name) = &self.name {
            body.insert("name".into(), name.as_str().into());
        }
        if body.is_empty() && !self.job.is_given() {
            return Err(usage("nothing to change is given; see `muster schedules edit --help`"));
        }
        Ok(body)
    }
}

fn read_secrets(typed: &[String]) -> Result<SecretParameters, CliError> {
    let mut secrets = SecretParameters::default();
    for text in typed {
        // Not a clap parser: clap's error would print the argument, which may hold a secret.
        let source: SecretSource = text.parse().map_err(|error: &str| usage(error))?;
        if !secrets.insert(source.name.clone(), source.read()?) {
            return Err(usage(&format!("secret parameter {} is given twice", source.name)));
        }
    }
    Ok(secrets)
}

fn usage(message: &str) -> CliError {
    CliError::Usage(message.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        new: NewSchedule,
    }

    fn body(words: &[&str]) -> Result<Value, CliError> {
        let words = ["create"].iter().chain(words);
        Typed::try_parse_from(words).expect("valid options").new.body()
    }

    #[test]
    fn options_become_the_fields_of_a_schedule() {
        let body = body(&[
            "nightly",
            "--cron",
            "30 2 * * *",
            "--time-zone",
            "Europe/Berlin",
            "--tag",
            "db",
            "--missed",
            "all",
            "--overlap",
            "cancel-previous",
            "--jitter",
            "5m",
            "--ends",
            "none",
            "backup",
            "FULL=yes",
        ]);
        assert_eq!(
            body.expect("valid"),
            json!({
                "name": "nightly",
                "rule": {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"},
                "job": {"script": "backup", "parameters": {"FULL": "yes"}, "target": {"tags": ["db"]}},
                "missed": "all",
                "overlap": "cancel_previous",
                "jitter_ms": 300_000,
                "ends_at": null,
            })
        );
    }

    #[test]
    fn a_schedule_needs_a_time_agents_and_work() {
        for words in [
            &["n", "--tag", "db", "backup"][..],
            &["n", "--every", "1h", "backup"],
            &["n", "--every", "1h", "--tag", "db"],
        ] {
            assert!(matches!(body(words), Err(CliError::Usage(_))), "{words:?}");
        }
    }
}
