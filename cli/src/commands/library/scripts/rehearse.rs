//! `muster scripts rehearse`: runs a script with dummy secrets, and shows where they came out.

use muster_protocol::parameter::Parameters;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{get, versioned};
use crate::api::client::ApiClient;
use crate::commands::commands::approval_note::approval_note;
use crate::error::CliError;
use crate::exit_status::{exit_status, is_terminal};
use crate::input::quantities::milliseconds;
use crate::interrupt::Interrupts;
use crate::output::printer::{print, print_note};
use crate::output::text::sanitize;
use crate::session::{ResourceKind, Session};

/// How long the server holds one request.
const WAIT_MS: u64 = 30_000;

#[derive(Debug, clap::Args)]
pub struct RehearseOptions {
    /// Script: an id, a name, or a unique prefix of one; NAME@N is its version N
    script: String,
    /// Agent to run it on: an id, a name or a hostname [default: the only agent]
    #[arg(long, value_name = "AGENT")]
    on: Option<String>,
    /// Parameter; repeatable. Secret parameters get random values
    #[arg(short, long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Value of a secret parameter whose pattern a random one does not match, NAME=VALUE; repeatable. It is shown
    /// in reports like any other, so never give a real secret
    #[arg(long = "dummy", value_name = "NAME=VALUE")]
    dummies: Vec<String>,
    /// Time limit of the run, such as 90s
    #[arg(long, value_name = "DURATION", value_parser = milliseconds)]
    timeout: Option<u64>,
}

/// Runs it and shows each leak. Returns 1 if there is one.
///
/// # Errors
/// [`CliError`].
pub async fn run(options: RehearseOptions, session: &Session) -> Result<u8, CliError> {
    let (script, version) = versioned(&options.script, None)?;
    let id = session.id_of(ResourceKind::Script, script).await?;
    let script = get(session, &["scripts", &id]).await?;
    let name = script.get("name").and_then(Value::as_str).unwrap_or_default();
    let version = version.map(|number| format!("@{number}")).unwrap_or_default();
    let agent = match &options.on {
        Some(agent) => session.agent_id(agent, true).await?,
        None => only_agent(session).await?,
    };
    let mut data = json!({
        "script": format!("library:{name}{version}"), "rehearsal": true,
        "parameters": Parameters::from_iter(assignments(&options.parameters)?),
    });
    if !options.dummies.is_empty() {
        data["secret_parameters"] = json!(Parameters::from_iter(assignments(&options.dummies)?));
    }
    if let Some(timeout_ms) = options.timeout {
        data["timeout_ms"] = timeout_ms.into();
    }
    let command = finished(session, &agent, &json!({"command": "execute", "data": data})).await?;
    let status = exit_status(&command);
    let Some(report) = command.pointer("/result/rehearsal") else {
        let reason = status.message.unwrap_or_else(|| {
            "the host reported no rehearsal: its agent is too old for them, or the script was not started".into()
        });
        return Err(CliError::Unsuccessful(reason));
    };
    if let Some(message) = &status.message {
        print_note(message);
    } else if status.code != 0 {
        print_note(&format!("the script exited with code {}", status.code));
    }
    let leaks = report.get("leaks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if session.output.json {
        session.output.details(&command)?;
    } else {
        for leak in leaks {
            print(&sentence(leak))?;
        }
        if leaks.is_empty() {
            print("no secret came out")?;
        }
    }
    if report.get("is_complete") == Some(&Value::Bool(false)) {
        print_note("warning: there was more than a rehearsal looks at");
    }
    Ok(u8::from(!leaks.is_empty()))
}

/// Sends the command and waits for its end.
async fn finished(session: &Session, agent: &str, body: &Value) -> Result<Value, CliError> {
    let mut interrupts = Interrupts::new()?;
    let request = session.api.request(Method::POST, &["agents", agent, "command"]);
    let request = request.header("Idempotency-Key", Uuid::now_v7().to_string()).json(body);
    let command = session.api.json_with_retries(request).await?;
    let id = command.get("id").and_then(Value::as_str);
    let id = id.ok_or_else(|| CliError::Answer("the command has no id".into()))?.to_owned();
    if let Some(note) = approval_note(&command, session.output.time) {
        print_note(&format!("{note}; ^C withdraws it"));
    }
    let wait = async {
        loop {
            let request = session.api.request(Method::GET, &["commands", &id]);
            let request = request.query(&[("wait_ms", WAIT_MS)]);
            let request = ApiClient::with_wait(request, WAIT_MS);
            let command = session.api.json_with_retries(request).await?;
            if command.get("state").and_then(Value::as_str).is_some_and(is_terminal) {
                return Ok(command);
            }
        }
    };
    tokio::select! {
        command = wait => command,
        error = session.cancel_on_interrupt("commands", &id, &mut interrupts) => Err(error),
    }
}

async fn only_agent(session: &Session) -> Result<String, CliError> {
    let page = session.api.list(&["agents"], &[], Some(2)).await?;
    let items = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    match items {
        [agent] => {
            let id = agent.get("id").and_then(Value::as_str).map(str::to_owned);
            id.ok_or_else(|| CliError::Answer("the agent has no id".into()))
        }
        [] => Err(CliError::Usage("there is no agent".into())),
        _ => Err(CliError::Usage("there is more than one agent: choose one with --on".into())),
    }
}

fn assignments(given: &[String]) -> Result<Vec<(String, String)>, CliError> {
    let split = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| CliError::Usage(format!("`{text}` is no parameter; use NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(split).collect()
}

/// A leak in a sentence.
fn sentence(leak: &Value) -> String {
    let text = |field: &str| sanitize(leak.get(field).and_then(Value::as_str).unwrap_or_default());
    let (parameter, detail) = (text("parameter"), text("detail"));
    match text("place").as_str() {
        "stdout" => format!("{parameter} is in standard output (masked in what is stored)"),
        "stderr" => format!("{parameter} is in standard error (masked in what is stored)"),
        "arguments" => format!("{parameter} is in the arguments of the process {detail}"),
        "file" => format!("{parameter} is in the file {detail}, which was left behind"),
        place => format!("{parameter} is in {place} {detail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaks_are_sentences_without_control_characters() {
        let leak = json!({"parameter": "TOKEN", "place": "arguments", "detail": "cu\u{1b}[2Jrl"});
        let text = sentence(&leak);
        assert!(text.starts_with("TOKEN is in the arguments of the process cu"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(assignments(&["A".to_owned()]).is_err());
    }
}
