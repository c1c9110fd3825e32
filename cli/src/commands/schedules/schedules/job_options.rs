//! The options of a schedule's job: what it runs, and where.

use std::path::PathBuf;

use muster_protocol::parameter::Parameters;
use serde_json::{Map, Value, json};

use crate::commands::commands::rollout_options::RolloutOptions;
use crate::commands::commands::run::steps_file;
use crate::commands::commands::run_options::RunOptions;
use crate::commands::fleet::target_options::TargetOptions;
use crate::error::CliError;
use crate::input::quantities::milliseconds;

const JOB: &str = "Job";

/// The work of a schedule. `create` requires some of it; `edit` changes what is given.
#[derive(Debug, Default, clap::Args)]
pub struct JobOptions {
    /// Script and parameters
    #[arg(value_name = "SCRIPT [NAME=VALUE]")]
    words: Vec<String>,
    /// Program and arguments; no shell interprets them
    #[arg(last = true, value_name = "COMMAND [ARGUMENT]")]
    argv: Vec<String>,
    /// File with the steps of each run, as for `muster run`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "argv", "parameters"], help_heading = JOB)]
    steps: Option<PathBuf>,
    /// Parameter, as after the script; repeatable
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", help_heading = JOB)]
    parameters: Vec<String>,
    /// End the script after this time, such as 30s, 5m or 2h [default of a new schedule: 1h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = JOB)]
    timeout: Option<u64>,
    /// Wait this long for an offline or busy agent, such as 30s, 5m or 1h [default of a new schedule: 24h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = JOB)]
    expires: Option<u64>,
    /// Confirm that a fire reaches at most this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N", help_heading = JOB)]
    confirm_agents: Option<u32>,
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    rollout: RolloutOptions,
}

impl JobOptions {
    /// True if any of them is given.
    pub fn is_given(&self) -> bool {
        !self.words.is_empty()
            || !self.argv.is_empty()
            || self.steps.is_some()
            || !self.parameters.is_empty()
            || self.timeout.is_some()
            || self.expires.is_some()
            || self.confirm_agents.is_some()
            || self.target.body().is_some()
            || self.run.is_given()
            || self.rollout.is_given()
    }

    /// The job with what is given. A new script or command replaces the parameters too.
    ///
    /// # Errors
    /// [`CliError::Usage`].
    pub fn change(&self, known: &Value) -> Result<Value, CliError> {
        let usage = |message: &str| CliError::Usage(message.to_owned());
        let mut job = without_nulls(known);
        let mut parameters: Parameters = match job.remove("parameters") {
            Some(known) => serde_json::from_value(known).unwrap_or_default(),
            None => Parameters::new(),
        };
        let pairs: &[String] = match (self.words.split_first(), self.argv.is_empty()) {
            (Some((script, pairs)), true) => {
                job.remove("argv");
                job.remove("steps");
                job.insert("script".into(), script.as_str().into());
                parameters.clear();
                pairs
            }
            (Some(_), false) => {
                return Err(usage("give a script or a command after `--`, not both"));
            }
            (None, false) => {
                job.remove("script");
                job.remove("steps");
                job.insert("argv".into(), json!(self.argv));
                parameters.clear();
                &[]
            }
            (None, true) => &[],
        };
        if let Some(path) = &self.steps {
            job.remove("script");
            job.remove("argv");
            job.insert("steps".into(), steps_file::read(path)?);
            parameters.clear();
        }
        let mut given = Parameters::new();
        for pair in pairs.iter().chain(&self.parameters) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| usage(&format!("invalid parameter \"{pair}\"; use NAME=VALUE")))?;
            if given.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(usage(&format!("parameter {name} is given twice")));
            }
        }
        parameters.extend(given);
        if !parameters.is_empty() {
            job.insert("parameters".into(), json!(parameters));
        }
        let changes = [
            ("target", self.target.body()),
            ("rollout", self.rollout.body()),
            ("timeout_ms", self.timeout.map(Value::from)),
            ("expires_in_ms", self.expires.map(Value::from)),
            ("confirm_agent_count", self.confirm_agents.map(Value::from)),
        ];
        for (field, value) in changes {
            if let Some(value) = value {
                job.insert(field.into(), value);
            }
        }
        if self.rollout.is_given() {
            job.remove("offline");
        }
        if let Some(offline) = self.rollout.offline()? {
            job.insert("offline".into(), offline.into());
        }
        let mut job = job.into();
        self.run.add_to(&mut job)?;
        Ok(job)
    }
}

fn without_nulls(job: &Value) -> Map<String, Value> {
    let mut job = job.as_object().cloned().unwrap_or_default();
    job.retain(|_, value| !value.is_null());
    job
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        job: JobOptions,
    }

    fn changed(words: &[&str]) -> Value {
        let typed = Typed::try_parse_from(["edit"].iter().chain(words)).expect("valid options");
        let known = json!({"script": "backup", "argv": null, "parameters": {"A": "1", "B": "2"},
            "target": {"tags": ["db"]}, "timeout_ms": 5});
        typed.job.change(&known).expect("a job")
    }

    #[test]
    fn what_is_not_given_stays() {
        assert_eq!(
            changed(&["-p", "B=3", "--timeout", "7ms"]),
            json!({"script": "backup", "parameters": {"A": "1", "B": "3"},
                "target": {"tags": ["db"]}, "timeout_ms": 7})
        );
        assert_eq!(changed(&["--on", "all"])["target"], json!({"expression": "all"}));
    }

    #[test]
    fn another_script_or_command_replaces_the_parameters() {
        let other = changed(&["restore", "C=1"]);
        assert_eq!(other["parameters"], json!({"C": "1"}));
        let command = changed(&["--", "uptime", "-p"]);
        assert_eq!((&command["argv"], command.get("script")), (&json!(["uptime", "-p"]), None));
        assert_eq!(command.get("parameters"), None);
    }
}
