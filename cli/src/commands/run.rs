//! `muster run`: a script or an ad-hoc command on an agent, as if it ran here.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use muster_protocol::parameter::{self, Parameters};
use muster_protocol::secret_parameters::SecretParameters;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use uuid::Uuid;

use super::{Session, fan_out, rollout};
use crate::error::CliError;
use crate::follow::{Notice, follow};
use crate::interrupt::Interrupts;
use crate::output::note;
use crate::screen::Screen;
use crate::secret_source::SecretSource;
use crate::verdict;

/// Headings of the help.
const WHAT: &str = "With what";
const WHERE: &str = "Where";
const HOW: &str = "How";
const OUTPUT: &str = "Output";

/// What to run where: a script that the hosts allow, or behind `--` any command, for hosts whose policy is
/// `shell`.
///
/// `muster run web-1 deploy ENV=test` runs a script, `muster run web-1 -- uname -a` a command. A
/// terminal is shown text and colours, and nothing that would steer it; a file or a pipe gets every
/// byte.
///
/// The first interrupt from the keyboard cancels the command, the second leaves it to itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent, unless --on or --tag says who: an id, a name, a hostname, or the beginning of one
    /// that no other agent shares. Then a script that the hosts allow, and its parameters.
    #[arg(value_name = "[AGENT] SCRIPT [NAME=VALUE]", required_unless_present = "argv")]
    words: Vec<String>,
    /// A program and its arguments, as they stand: nothing is interpreted.
    #[arg(last = true, value_name = "COMMAND [ARGUMENT]")]
    argv: Vec<String>,
    /// On every agent of which this is true, such as 'tag:web & os:linux & !name:db-*'.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tags", help_heading = WHERE)]
    on: Option<String>,
    /// On every agent that has this tag; repeatable, then all of them.
    #[arg(long = "tag", value_name = "TAG", help_heading = WHERE)]
    tags: Vec<String>,
    /// A parameter, as behind the script; repeatable.
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", help_heading = WHAT)]
    parameters: Vec<String>,
    /// A secret parameter: asked for without echo, read from a file (=@FILE), or taken from the variable
    /// of that name (=env). It is masked in the output if it has 4 bytes or more.
    #[arg(long = "secret", value_name = "NAME[=@FILE|=env]", help_heading = WHAT)]
    secrets: Vec<String>,
    /// Tell this address (https://…) when all of them have ended; with --on or --tag.
    #[arg(long, value_name = "URL", help_heading = HOW)]
    webhook: Option<String>,
    /// End the script after this time, such as 30s, 5m or 2h (1h).
    #[arg(long, value_name = "TIME", value_parser = rollout::milliseconds, help_heading = HOW)]
    timeout: Option<u64>,
    /// The same in milliseconds.
    #[arg(long, value_name = "MS", conflicts_with = "timeout", hide = true)]
    timeout_ms: Option<u64>,
    /// Print the id of what was started and leave.
    #[arg(long, help_heading = OUTPUT)]
    detach: bool,
    /// How long it waits for an agent that is away, in a roll-out from when it is let go, such as 30s,
    /// 5m or 1h (24h).
    #[arg(long, value_name = "TIME", value_parser = rollout::milliseconds, help_heading = HOW)]
    expires: Option<u64>,
    /// Give a terminal every byte too, whatever it would do there.
    #[arg(long, help_heading = OUTPUT)]
    raw: bool,
    /// What if hosts would refuse it, by the rules that they told: refuse it as a whole before anything
    /// is sent, or send it and leave it to each host.
    #[arg(long, value_enum, default_value_t = OnMismatch::Refuse, help_heading = HOW)]
    on_mismatch: OnMismatch,
    #[command(flatten)]
    rollout: rollout::Waves,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnMismatch {
    Refuse,
    Send,
}

/// Who is meant.
enum Who<'a> {
    One(&'a str),
    Many(Value),
}

impl Args {
    /// Who is meant, and the words behind that.
    fn who(&self) -> Result<(Who<'_>, &[String]), CliError> {
        let target = match (&self.on, self.tags.is_empty()) {
            (Some(expression), _) => json!({ "expression": expression }),
            (None, false) => json!({ "tags": self.tags }),
            (None, true) => {
                let (agent, behind) = self.words.split_first().ok_or_else(|| {
                    usage("say on which agent: muster run AGENT -- COMMAND, or --on EXPRESSION")
                })?;
                return Ok((Who::One(agent), behind));
            }
        };
        Ok((Who::Many(target), &self.words))
    }

    /// The script or command, as the data of an `execute` has it, and the parameters behind it.
    fn work(&self) -> Result<(Value, &[String]), CliError> {
        let (_, behind) = self.who()?;
        match (behind.split_first(), self.argv.is_empty()) {
            (Some((script, pairs)), true) => Ok((json!({ "script": script }), pairs)),
            (None, true) => Err(usage(
                "say which script: muster run AGENT SCRIPT, or muster run --on EXPRESSION SCRIPT",
            )),
            (None, false) => Ok((json!({ "argv": self.argv }), &[])),
            (Some((script, _)), false) => Err(usage(&format!(
                "`{script}` before `--` is a script, and a command stands behind it: say one of them; \
                 parameters of a command are -p NAME=VALUE"
            ))),
        }
    }

    /// The data of an `execute`.
    fn data(&self) -> Result<Value, CliError> {
        let (mut data, pairs) = self.work()?;
        let mut parameters = Parameters::new();
        for pair in pairs.iter().chain(&self.parameters) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                CliError::Usage(format!("`{pair}`: parameters look like NAME=VALUE"))
            })?;
            if parameters.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(CliError::Usage(format!("parameter {name} is given twice")));
            }
        }
        let mut secrets = SecretParameters::default();
        for text in &self.secrets {
            // Read here: the refusal of an argument would repeat what may be a secret.
            let source: SecretSource =
                text.parse().map_err(|refusal: &str| CliError::Usage(refusal.into()))?;
            if !secrets.insert(source.name.clone(), source.read()?) {
                return Err(CliError::Usage(format!("parameter {} is given twice", source.name)));
            }
        }
        parameter::check(&parameters, &secrets)
            .map_err(|error| CliError::Usage(error.to_string()))?;
        data["parameters"] = json!(parameters);
        if !secrets.is_empty() {
            data["secret_parameters"] = json!(secrets);
        }
        if let Some(timeout_ms) = self.timeout.or(self.timeout_ms) {
            data["timeout_ms"] = timeout_ms.into();
        }
        Ok(data)
    }
}

/// Starts the script and, unless detached, follows it to its end.
///
/// # Errors
/// [`CliError`]; after the start its sentence names the command, which goes on.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let mut data = args.data()?;
    let is_sent_anyway = args.on_mismatch == OnMismatch::Send;
    let agent = match args.who()?.0 {
        Who::One(_) if args.rollout.body().is_some() => {
            let refusal = "--wave is for many agents: say which with --on or --tag";
            return Err(CliError::Usage(refusal.into()));
        }
        Who::One(_) if args.webhook.is_some() => {
            return Err(CliError::Usage(
                "--webhook tells of a job: say who with --on or --tag".into(),
            ));
        }
        Who::One(agent) => agent,
        Who::Many(target) => {
            data["target"] = target;
            if let Some(expires_in_ms) = args.expires {
                data["expires_in_ms"] = expires_in_ms.into();
            }
            if is_sent_anyway {
                data["on_mismatch"] = "send".into();
            }
            if let Some(rollout) = args.rollout.body() {
                data["rollout"] = rollout;
            }
            if let Some(url) = &args.webhook {
                data["webhook"] = json!({ "url": url });
            }
            return fan_out::run(session, data, args.detach).await;
        }
    };
    let agent_id = session.agent_id(agent).await?;
    let mut body = json!({ "command": "execute", "data": data });
    if let Some(expires_in_ms) = args.expires {
        body["expires_in_ms"] = expires_in_ms.into();
    }
    if is_sent_anyway {
        body["on_mismatch"] = "send".into();
    }
    let mut interrupts = Interrupts::new()?;

    // One key for all attempts: a request that is sent again never starts the script again.
    let request = session
        .api
        .request(Method::POST, &["agents", &agent_id, "command"])
        .header("Idempotency-Key", Uuid::now_v7().to_string())
        .json(&body);
    let started = tokio::select! {
        answer = session.api.json_repeated(request) => answer?,
        () = interrupts.next() => return Err(CliError::Interrupted(
            "left while the request was on its way; `muster commands` shows if it arrived".into(),
        )),
    };
    let id = started
        .get("id")
        .and_then(Value::as_str)
        .ok_or_else(|| CliError::Answer("a command without an id".into()))?;
    if args.detach {
        session.output.answer(&started, |_| id.to_owned())?;
        return Ok(0);
    }
    if started.get("state").and_then(Value::as_str) == Some("queued") {
        let until = started.get("expires_at").and_then(Value::as_str).unwrap_or_default();
        note(&format!("waiting for the agent, which is away or busy, until {until}; ^C cancels"));
    }
    tokio::select! {
        ended = to_the_end(session, id, args.raw) => ended,
        error = session.cancel_then_leave("commands", id, &mut interrupts) => Err(error),
    }
}

async fn to_the_end(session: &Session, id: &str, is_raw: bool) -> Result<u8, CliError> {
    let stderr = || shown(tokio::io::stderr(), std::io::stderr().is_terminal() && !is_raw);
    // One document is promised with `--json`: the script's output then stays out of it.
    let stdout = match session.output.json {
        true => stderr(),
        false => shown(tokio::io::stdout(), std::io::stdout().is_terminal() && !is_raw),
    };
    let notice = Notice::default();
    tokio::try_join!(
        follow(&session.api, id, "stdout", &notice, stdout),
        follow(&session.api, id, "stderr", &notice, stderr()),
    )?;
    let request = session.api.request(Method::GET, &["commands", id]);
    let command = session.api.json_repeated(request).await?;
    if session.output.json {
        session.output.details(&command)?;
    }
    if verdict::is_output_incomplete(&command) {
        note("warning: some of the output is missing");
    }
    let verdict = verdict::of(&command);
    if let Some(sentence) = verdict.sentence {
        note(&sentence);
    }
    Ok(verdict.code)
}

/// Where a stream goes: all of it, or to a terminal what is harmless there.
fn shown(
    sink: impl AsyncWrite + Unpin + 'static,
    is_terminal: bool,
) -> Box<dyn AsyncWrite + Unpin> {
    if is_terminal { Box::new(Screen::new(sink)) } else { Box::new(sink) }
}

fn usage(sentence: &str) -> CliError {
    CliError::Usage(sentence.to_owned())
}

#[cfg(test)]
mod tests;
