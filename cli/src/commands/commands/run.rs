//! `muster run`: a script or an ad-hoc command on one agent or many.

pub mod agent_run;
mod dry_run;
pub mod job_run;
mod queue_note;
pub mod steps_file;

use std::path::PathBuf;

use muster_protocol::package::PACKAGE_PREFIX;
use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{self, Parameters};
use serde_json::{Value, json};

use self::job_run::JobWait;
use super::agent_count;
use super::on_mismatch::OnMismatch;
use super::rollout_options::RolloutOptions;
use super::run_options::RunOptions;
use crate::commands::fleet::target_options::{
    TARGET, TARGET_EXPRESSION, TARGET_TAGS, TargetOptions,
};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::file_parameters::file_value;
use crate::input::quantities::milliseconds;
use crate::input::secret_sources::SecretSource;
use crate::input::standard_input;
use crate::session::Session;

const PARAMETERS: &str = "Parameters";
const EXECUTION: &str = "Execution";
const OUTPUT: &str = "Output";

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("script", "SCRIPT or --package").expects("1 to 128 letters, digits and . _ -"),
    option("argv", "COMMAND"),
    option("steps", "--steps"),
    option("parameters", "--parameter or --file"),
    option("secret_parameters", "--secret"),
    option("stdin", "--stdin"),
    option("timeout_ms", "--timeout"),
    option("expires_in_ms", "--expires"),
    option("on_mismatch", "--on-mismatch"),
    option("calendar_override", "--override-calendar").expects("a reason of 1 to 200 characters"),
    option("offline", "--offline"),
    option("confirm_agent_count", "--confirm-agents"),
    option("retries", "--retries").expects("0 to 10"),
    option("retries.count", "--retries").expects("0 to 10"),
    option("retries.backoff_ms", "--retry-backoff"),
    option("lock", "--lock").expects("1 to 64 letters, digits and . _ -"),
    option("webhook", "--webhook"),
    option("webhook.url", "--webhook"),
    TARGET,
    TARGET_EXPRESSION,
    TARGET_TAGS,
    option("rollout", "--wave"),
    option("rollout.wave_size", "--wave").expects("a number, or a percentage such as 10%"),
    option("rollout.pause_ms", "--pause"),
    option("rollout.max_failures", "--max-failures")
        .expects("a number, or a percentage such as 5%"),
    option("rollout.count_in_flight", "--whole-waves"),
    option("rollout.health_gate", "--healthy-for"),
    option("rollout.health_gate.for_ms", "--healthy-for"),
    option("rollout.health_gate.within_ms", "--healthy-within"),
    option("rollout.offline", "--offline"),
];

/// Run a script or a command on one agent or many, and print its output
///
/// A script must be in the manifest of the host. A command after `--` needs hosts whose policy is `shell`.
///
///   muster run web-1 deploy ENV=test
///   muster run web-1 -- uname -a
///   muster run web-1,web-2 deploy ENV=test
///   muster run web-1 import --stdin <rows.csv
///   muster run --on 'tag:web & os:linux' --wave 10% deploy ENV=test
///   muster run web-1 --steps release.toml
///
/// A terminal gets text and colours only; a file or a pipe gets every byte.
/// On one agent, the first ^C cancels the run, and the second exits without waiting. On many agents, ^C
/// detaches: the job continues, and the message shows how to follow and how to cancel it.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Agent (without --on and --tag), script and parameters
    ///
    /// AGENT is an id, a name or a hostname, or several of them with commas between.
    #[arg(value_name = "[AGENT] SCRIPT [NAME=VALUE]", required_unless_present_any = ["argv", "package", "steps"])]
    words: Vec<String>,
    /// Program and arguments; no shell interprets them
    #[arg(last = true, value_name = "COMMAND [ARGUMENT]")]
    argv: Vec<String>,
    #[command(flatten)]
    target: TargetOptions,
    /// Parameter, as after the script; repeatable
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", help_heading = PARAMETERS)]
    parameters: Vec<String>,
    /// Parameter of the type file: its value is this file, at most 48 KiB; repeatable
    #[arg(long = "file", value_name = "NAME=FILE", help_heading = PARAMETERS)]
    files: Vec<String>,
    /// Package to run instead of a script: NAME for its newest version, or NAME@VERSION
    #[arg(long, value_name = "NAME[@VERSION]", conflicts_with = "argv")]
    package: Option<String>,
    /// File with several scripts and commands that run one after the other, in TOML, or in JSON if its name ends in
    /// .json
    ///
    /// Each [[steps]] has `script` or `argv`, and may have `name`, `parameters`, `secrets` (names of --secret),
    /// `timeout` such as "5m", and `on_failure`: "stop" (default) or "continue".
    #[arg(long, value_name = "FILE", conflicts_with_all = ["argv", "package", "parameters", "files", "stdin"])]
    steps: Option<PathBuf>,
    /// Secret parameter: prompted for, read from a file (=@FILE), or taken from the environment variable
    /// with this name (=env); repeatable
    ///
    /// Values of 4 bytes or more are masked in the output.
    #[arg(long = "secret", value_name = "NAME[=@FILE|=env]", help_heading = PARAMETERS)]
    secrets: Vec<String>,
    /// Pass standard input on to what runs: at most 256 KiB
    ///
    /// A script must have `"stdin": true` in the manifest of the host. Without this option, piped input is
    /// refused.
    #[arg(long, help_heading = PARAMETERS)]
    stdin: bool,
    /// End the script after this time, such as 30s, 5m or 2h [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = EXECUTION)]
    timeout: Option<u64>,
    /// As --timeout, in milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "timeout", hide = true)]
    timeout_ms: Option<u64>,
    /// Wait this long for an offline or busy agent, such as 30s, 5m or 1h [default: 24h]
    ///
    /// In a rollout, the time starts when the agent's wave starts.
    #[arg(long, value_name = "TIME", value_parser = milliseconds, help_heading = EXECUTION)]
    expires: Option<u64>,
    /// What to do if a host's manifest or policy does not allow the run
    #[arg(long, value_enum, default_value_t = OnMismatch::Refuse, help_heading = EXECUTION)]
    on_mismatch: OnMismatch,
    /// Confirm that the run reaches this number of agents, where your tenant asks for it
    #[arg(long, value_name = "N", help_heading = EXECUTION)]
    confirm_agents: Option<u32>,
    /// Start although a calendar holds it back, for this reason, which is audited
    #[arg(long, value_name = "REASON", help_heading = EXECUTION)]
    override_calendar: Option<String>,
    /// Send a webhook to this https:// URL when the job has ended; needs --on or --tag
    #[arg(long, value_name = "URL", help_heading = EXECUTION)]
    webhook: Option<String>,
    /// Show which agents would run it, wait, be skipped or refuse, and send nothing
    #[arg(long, help_heading = EXECUTION)]
    dry_run: bool,
    /// Print the id and exit without waiting for the end
    #[arg(long, help_heading = OUTPUT)]
    detach: bool,
    /// On many agents, let ^C cancel the job instead of detaching
    #[arg(long, help_heading = OUTPUT, conflicts_with = "detach")]
    cancel_on_interrupt: bool,
    /// Print the output of a job; identical output once [default: up to 20 agents]
    #[arg(long, help_heading = OUTPUT, conflicts_with = "no_show")]
    show: bool,
    /// Don't print the output of a job
    #[arg(long, help_heading = OUTPUT)]
    no_show: bool,
    /// Write every byte to a terminal too, including control sequences
    #[arg(long, help_heading = OUTPUT)]
    raw: bool,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    rollout: RolloutOptions,
}

/// Where to run.
enum RunTarget<'a> {
    OneAgent(&'a str),
    /// Ids, names or hostnames.
    NamedAgents(Vec<&'a str>),
    ManyAgents(Value),
}

impl Args {
    /// Where to run, and the words that follow.
    fn target(&self) -> Result<(RunTarget<'_>, &[String]), CliError> {
        if let Some(target) = self.target.body() {
            return Ok((RunTarget::ManyAgents(target), &self.words));
        }
        let (agent, rest) = self.words.split_first().ok_or_else(|| {
            usage("no agent is given; use `muster run AGENT -- COMMAND` or --on EXPRESSION")
        })?;
        let names: Vec<&str> = agent.split(',').filter(|name| !name.is_empty()).collect();
        let target = match names.len() {
            0 | 1 => RunTarget::OneAgent(agent),
            _ => RunTarget::NamedAgents(names),
        };
        Ok((target, rest))
    }

    /// The `script`, `argv` or `steps` of an `execute`, and the parameters after the script.
    fn script_or_command(&self) -> Result<(Value, &[String]), CliError> {
        let (_, rest) = self.target()?;
        if let Some(path) = &self.steps {
            if let Some(word) = rest.first() {
                return Err(usage(&format!(
                    "both \"{word}\" and --steps are given; write scripts and parameters into the file"
                )));
            }
            return Ok((json!({ "steps": steps_file::read(path)? }), &[]));
        }
        if let Some(package) = &self.package {
            return Ok((json!({ "script": format!("{PACKAGE_PREFIX}{package}") }), rest));
        }
        match (rest.split_first(), self.argv.is_empty()) {
            (Some((script, pairs)), true) => Ok((json!({ "script": script }), pairs)),
            (None, true) => Err(usage(
                "no script is given; use `muster run AGENT SCRIPT` or \
                 `muster run --on EXPRESSION SCRIPT`",
            )),
            (None, false) => Ok((json!({ "argv": self.argv }), &[])),
            (Some((script, _)), false) => Err(usage(&format!(
                "both the script \"{script}\" and a command after `--` are given; use one of them \
                 (parameters of a command need -p NAME=VALUE)"
            ))),
        }
    }

    /// The `data` of an `execute`.
    fn data(&self) -> Result<Value, CliError> {
        let (mut data, pairs) = self.script_or_command()?;
        let mut parameters = Parameters::new();
        for pair in pairs.iter().chain(&self.parameters) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| usage(&format!("invalid parameter \"{pair}\"; use NAME=VALUE")))?;
            if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(usage(&format!("parameter {name} is given twice")));
            }
        }
        for pair in &self.files {
            let (name, path) = pair
                .split_once('=')
                .ok_or_else(|| usage(&format!("invalid file \"{pair}\"; use NAME=FILE")))?;
            if parameters.insert(name.to_owned(), file_value(path.as_ref())?).is_some() {
                return Err(usage(&format!("parameter {name} is given twice")));
            }
        }
        let mut secrets = SecretParameters::default();
        for text in &self.secrets {
            // Not a clap parser: clap's error would print the argument, which may hold a secret.
            let source: SecretSource = text.parse().map_err(|error: &str| usage(error))?;
            if !secrets.insert(source.name.clone(), source.read()?) {
                return Err(usage(&format!("parameter {} is given twice", source.name)));
            }
        }
        parameter::check(&parameters, &secrets).map_err(|error| usage(&error.to_string()))?;
        if self.steps.is_none() {
            data["parameters"] = json!(parameters);
        }
        if !secrets.is_empty() {
            data["secret_parameters"] = json!(secrets);
        }
        if let Some(timeout_ms) = self.timeout.or(self.timeout_ms) {
            data["timeout_ms"] = timeout_ms.into();
        }
        Ok(data)
    }

    /// True with an option that only a job has.
    fn has_option_of_jobs(&self) -> bool {
        self.rollout.body().is_some()
            || self.rollout.is_given()
            || self.webhook.is_some()
            || self.on_mismatch == OnMismatch::Skip
            || self.show
            || self.cancel_on_interrupt
    }

    /// The body of a job, without the fields of [`Args::add_delivery`].
    fn job(&self, data: Value, target: Value) -> Result<Value, CliError> {
        let mut body = data;
        body["target"] = target;
        if let Some(rollout) = self.rollout.body() {
            body["rollout"] = rollout;
        }
        if let Some(offline) = self.rollout.offline()? {
            body["offline"] = offline.into();
        }
        if let Some(url) = &self.webhook {
            body["webhook"] = json!({ "url": url });
        }
        self.run.add_to(&mut body)?;
        Ok(body)
    }

    /// Adds the fields that a command and a job have in common.
    fn add_delivery(&self, body: &mut Value) {
        if let Some(expires_in_ms) = self.expires {
            body["expires_in_ms"] = expires_in_ms.into();
        }
        self.on_mismatch.add_to(body);
        if let Some(count) = self.confirm_agents {
            body["confirm_agent_count"] = count.into();
        }
        if let Some(reason) = &self.override_calendar {
            body["calendar_override"] = reason.as_str().into();
        }
    }
}

/// Starts the run and, unless detached, waits for its end.
///
/// # Errors
/// [`CliError`]; after the start its message names the command or job, which keeps running.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let mut data = args.data()?;
    match args.stdin {
        true => data["stdin"] = json!(standard_input::read()?),
        false => standard_input::refuse_unread()?,
    }
    match args.target()?.0 {
        RunTarget::OneAgent(agent) => {
            let agent_id = session.agent_id(agent, data.get("secret_parameters").is_some()).await?;
            // Only a job has these options.
            if args.run.is_given() || args.has_option_of_jobs() {
                return run_job(&args, session, data, json!({ "ids": [agent_id] })).await;
            }
            if args.dry_run {
                let mut body = args.job(data, json!({ "ids": [agent_id] }))?;
                args.add_delivery(&mut body);
                return dry_run::run(session, &body).await;
            }
            let mut body = json!({ "command": "execute", "data": data });
            args.add_delivery(&mut body);
            match agent_run::run(session, &agent_id, &body, args.detach, args.raw).await {
                Err(refusal) => {
                    let count = agent_count::confirm(refusal, args.confirm_agents)?;
                    body["confirm_agent_count"] = count.into();
                    agent_run::run(session, &agent_id, &body, args.detach, args.raw).await
                }
                ended => ended,
            }
        }
        RunTarget::NamedAgents(names) => {
            let mut ids = Vec::with_capacity(names.len());
            for name in names {
                ids.push(session.agent_id(name, data.get("secret_parameters").is_some()).await?);
            }
            ids.sort_unstable();
            ids.dedup();
            run_job(&args, session, data, json!({ "ids": ids })).await
        }
        RunTarget::ManyAgents(target) => run_job(&args, session, data, target).await,
    }
}

async fn run_job(
    args: &Args,
    session: &Session,
    data: Value,
    target: Value,
) -> Result<u8, CliError> {
    let mut body = args.job(data, target)?;
    args.add_delivery(&mut body);
    if args.dry_run {
        return dry_run::run(session, &body).await;
    }
    let wait = JobWait {
        show: (args.show || args.no_show).then_some(args.show),
        raw: args.raw,
        cancels_on_interrupt: args.cancel_on_interrupt,
        is_silent: false,
    };
    match job_run::run(session, &body, args.detach, wait).await {
        Err(refusal) => {
            let count = agent_count::confirm(refusal, args.confirm_agents)?;
            body["confirm_agent_count"] = count.into();
            job_run::run(session, &body, args.detach, wait).await
        }
        ended => ended,
    }
}

fn usage(message: &str) -> CliError {
    CliError::Usage(message.to_owned())
}

#[cfg(test)]
mod tests;
