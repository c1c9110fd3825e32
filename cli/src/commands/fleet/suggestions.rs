//! `muster suggest`: names of agents and scripts from the server, for the completion of shells.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::error::CliError;
use crate::output::printer::print;
use crate::session::{ResourceKind, Session};

/// A person waits for it with the finger on the key.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most agents that are suggested.
const MAX_SUGGESTED: usize = 500;
/// Actions of `muster agents` that take an agent.
const AGENT_ACTIONS: [&str; 10] =
    ["adopt", "delete", "events", "facts", "metrics", "rename", "scripts", "show", "tag", "untag"];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The words after `muster`, up to the one that is typed
    #[arg(last = true)]
    words: Vec<String>,
}

/// What to suggest.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Agents,
    ScriptsOf(&'a str),
}

/// Prints one suggestion in a line, and nothing if the server does not answer in time.
///
/// # Errors
/// [`CliError`], if standard output fails.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let typed = args.words.last().map(String::as_str).unwrap_or_default();
    let Some(wanted) = wanted(&args.words) else { return Ok(0) };
    let names = tokio::time::timeout(ANSWER_TIMEOUT, names(session, &wanted)).await;
    // Without an answer the shell completes options and files.
    let names = names.ok().and_then(Result::ok).unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with(typed) && is_plain(name)) {
        print(name)?;
    }
    Ok(0)
}

fn wanted(words: &[String]) -> Option<Wanted<'_>> {
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        ["run" | "command", _] | ["ping", _, ..] => Some(Wanted::Agents),
        ["agents", action, _] if AGENT_ACTIONS.contains(action) => Some(Wanted::Agents),
        ["run", agent, _] => Some(Wanted::ScriptsOf(agent)),
        _ => None,
    }
}

async fn names(session: &Session, wanted: &Wanted<'_>) -> Result<Vec<String>, CliError> {
    let page = match wanted {
        Wanted::Agents => session.api.list(&["agents"], &[], Some(MAX_SUGGESTED)).await?,
        Wanted::ScriptsOf(agent) => {
            let id = session.id_of(ResourceKind::Agent, agent).await?;
            let request = session.api.request(Method::GET, &["agents", &id, "scripts"]);
            session.api.json(request).await?
        }
    };
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
    Ok(items.iter().filter_map(name).collect())
}

/// True if no shell reads more in the name than its letters. Hosts choose names.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &[&str]) -> Vec<String> {
        line.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn agents_and_scripts_are_suggested_where_they_are_typed() {
        assert_eq!(wanted(&of(&["run", "we"])), Some(Wanted::Agents));
        assert_eq!(
            wanted(&of(&["run", "--detach", "web-1", ""])),
            Some(Wanted::ScriptsOf("web-1"))
        );
        assert_eq!(wanted(&of(&["agents", "show", ""])), Some(Wanted::Agents));
        assert_eq!(wanted(&of(&["ping", "web-1", ""])), Some(Wanted::Agents));
        for line in [&["agents", "list", ""][..], &["keys", ""], &["run"], &[]] {
            assert_eq!(wanted(&of(line)), None, "{line:?}");
        }
    }

    #[test]
    fn name_that_a_shell_would_expand_is_not_suggested() {
        assert!(is_plain("web-1.example_2"));
        for name in ["$(id)", "`id`", "a b", "", "-rf", "a;b", "é"] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
