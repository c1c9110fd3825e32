//! `muster run`: a script on an agent, as if it ran here.

use muster_protocol::parameter::{self, Parameters};
use muster_protocol::secret_parameters::SecretParameters;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Session, fan_out, rollout};
use crate::error::CliError;
use crate::follow::follow;
use crate::interrupt::Interrupts;
use crate::output::note;
use crate::secret_source::SecretSource;
use crate::verdict;

/// What to run where.
///
/// The first interrupt from the keyboard cancels the command, the second leaves it to itself.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent, unless --on or --tag says who: an id, a name, a hostname, or the beginning of one
    /// that no other agent shares. Then a script that the hosts allow, and its parameters.
    #[arg(value_name = "[AGENT] SCRIPT [NAME=VALUE]", required = true)]
    words: Vec<String>,
    /// On every agent of which this is true, such as 'tag:web & os:linux & !name:db-*'.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "tags")]
    on: Option<String>,
    /// On every agent that has this tag; repeatable, then all of them.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A secret parameter: asked for without echo, read from a file (=@FILE), or taken from the variable
    /// of that name (=env). It is masked in the output if it has 4 bytes or more.
    #[arg(long = "secret", value_name = "NAME[=@FILE|=env]")]
    secrets: Vec<String>,
    /// End the script after this time, in milliseconds.
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Print the id of what was started and leave.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    rollout: rollout::Waves,
}

/// Who is meant.
enum Who<'a> {
    One(&'a str),
    Many(Value),
}

impl Args {
    fn who(&self) -> Who<'_> {
        match (&self.on, self.tags.is_empty()) {
            (Some(expression), _) => Who::Many(json!({ "expression": expression })),
            (None, false) => Who::Many(json!({ "tags": self.tags })),
            (None, true) => Who::One(&self.words[0]),
        }
    }

    /// The script and its parameters: what stands behind the agent.
    fn script(&self) -> Result<(&str, &[String]), CliError> {
        let behind = match self.who() {
            Who::One(_) => &self.words[1..],
            Who::Many(_) => &self.words[..],
        };
        let usage =
            "say which script: muster run AGENT SCRIPT, or muster run --on EXPRESSION SCRIPT";
        let (script, parameters) =
            behind.split_first().ok_or_else(|| CliError::Usage(usage.into()))?;
        Ok((script, parameters))
    }

    /// The data of an `execute`.
    fn data(&self) -> Result<Value, CliError> {
        let (script, pairs) = self.script()?;
        let mut parameters = Parameters::new();
        for pair in pairs {
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
        let mut data = json!({ "script": script, "parameters": parameters });
        if !secrets.is_empty() {
            data["secret_parameters"] = json!(secrets);
        }
        if let Some(timeout_ms) = self.timeout_ms {
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
    let agent = match args.who() {
        Who::One(_) if args.rollout.body().is_some() => {
            let refusal = "--wave is for many agents: say which with --on or --tag";
            return Err(CliError::Usage(refusal.into()));
        }
        Who::One(agent) => agent,
        Who::Many(target) => {
            data["target"] = target;
            if let Some(rollout) = args.rollout.body() {
                data["rollout"] = rollout;
            }
            return fan_out::run(session, data, args.detach).await;
        }
    };
    let agent_id = session.agent_id(agent).await?;
    let body = json!({ "command": "execute", "data": data });
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
    tokio::select! {
        ended = to_the_end(session, id) => ended,
        error = session.cancel_then_leave("commands", id, &mut interrupts) => Err(error),
    }
}

async fn to_the_end(session: &Session, id: &str) -> Result<u8, CliError> {
    // One document is promised with `--json`: the script's output then stays out of it.
    if session.output.json {
        tokio::try_join!(
            follow(&session.api, id, "stdout", tokio::io::stderr()),
            follow(&session.api, id, "stderr", tokio::io::stderr()),
        )?;
    } else {
        tokio::try_join!(
            follow(&session.api, id, "stdout", tokio::io::stdout()),
            follow(&session.api, id, "stderr", tokio::io::stderr()),
        )?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Action;
    use crate::commands::parse;

    fn args(line: &[&str]) -> Args {
        let line: Vec<_> = std::iter::once(&"run").chain(line).copied().collect();
        let Action::Run(args) = parse(&line).unwrap().action else { panic!("not a run: {line:?}") };
        args
    }

    #[test]
    fn parameters_keep_everything_behind_the_first_equals_sign() {
        let args = args(&["web-1", "deploy", "URL=https://a/?b=c", "EMPTY=", "--timeout-ms", "5"]);
        assert_eq!(
            args.data().unwrap(),
            json!({"script": "deploy", "timeout_ms": 5,
                   "parameters": {"URL": "https://a/?b=c", "EMPTY": ""}})
        );
    }

    #[test]
    fn with_a_target_the_first_word_is_the_script() {
        let one = args(&["--on", "tag:web", "deploy", "A=1"]);
        assert_eq!(one.data().unwrap(), json!({"script": "deploy", "parameters": {"A": "1"}}));
        assert!(
            matches!(one.who(), Who::Many(target) if target == json!({"expression": "tag:web"}))
        );
        let tagged = args(&["--tag", "web", "--tag", "eu", "deploy"]);
        assert!(
            matches!(tagged.who(), Who::Many(target) if target == json!({"tags": ["web", "eu"]}))
        );
        assert!(parse(&["run", "--on", "all", "--tag", "web", "deploy"]).is_err());
        assert_eq!(args(&["web-1"]).data().unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_rollout_stands_on_the_command_line() {
        let line = [
            "--tag",
            "web",
            "--wave",
            "10%",
            "--pause",
            "30s",
            "--max-failures",
            "5%",
            "--whole-waves",
            "--healthy-for",
            "1m",
            "--healthy-within",
            "5m",
            "--offline",
            "skip",
            "deploy",
        ];
        assert_eq!(
            args(&line).rollout.body().unwrap(),
            json!({"wave_size": "10%", "pause_ms": 30_000, "max_failures": "5%",
                   "count_in_flight": false, "offline": "skip",
                   "health_gate": {"online": true, "for_ms": 60_000, "within_ms": 300_000}})
        );
        assert_eq!(args(&["--tag", "web", "deploy"]).rollout.body(), None);
        assert!(parse(&["run", "--tag", "web", "--pause", "30s", "deploy"]).is_err());
    }

    #[test]
    fn parameters_that_no_host_would_take_are_refused_here() {
        for line in [
            ["web-1", "deploy", "A=1", "NOVALUE"],
            ["web-1", "deploy", "A=1", "A=2"],
            ["web-1", "deploy", "B=1", "LD_PRELOAD=x"],
        ] {
            assert_eq!(args(&line).data().unwrap_err().exit_code(), 2, "{line:?}");
        }
    }
}
