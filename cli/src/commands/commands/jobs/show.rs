//! `muster jobs show`: the fields of a job, and its agents by the state of their executions.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;

use crate::error::CliError;
use crate::output::printer::print;
use crate::output::text::sanitize;
use crate::session::Session;

/// Most executions whose agents are named.
const MAX_SHOWN_EXECUTIONS: usize = 1_000;
/// Most names of one state.
const MAX_NAMED_OF_STATE: usize = 20;

/// Shows a job.
///
/// # Errors
/// [`CliError`].
pub async fn show(session: &Session, id: &str) -> Result<u8, CliError> {
    let job = session.api.json(session.api.request(Method::GET, &["jobs", id])).await?;
    session.output.details(&job)?;
    if session.output.json {
        return Ok(0);
    }
    let page =
        session.api.list(&["jobs", id, "executions"], &[], Some(MAX_SHOWN_EXECUTIONS)).await?;
    let executions = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
    let lines = agents_by_state(executions.unwrap_or_default());
    if !lines.is_empty() {
        print("")?;
        print(&lines.join("\n"))?;
    }
    if page.get("next_cursor").is_some_and(Value::is_string) {
        print(&format!("and more; list them with `muster jobs executions {id}`"))?;
    }
    Ok(0)
}

/// One line for each state: `failed: web-1 (exit code 3), web-2`.
fn agents_by_state(executions: &[Value]) -> Vec<String> {
    let mut states: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for execution in executions {
        let text = |name: &str| execution.get(name).and_then(Value::as_str);
        let name = text("agent_name").or(text("agent_id")).unwrap_or_default();
        let code = execution.get("exit_code").and_then(Value::as_i64).filter(|code| *code != 0);
        let name = match code {
            Some(code) => format!("{name} (exit code {code})"),
            None => name.to_owned(),
        };
        states.entry(text("state").unwrap_or_default()).or_default().push(sanitize(&name));
    }
    let line = |(state, mut names): (&str, Vec<String>)| {
        names.sort();
        let more = names.len().saturating_sub(MAX_NAMED_OF_STATE);
        names.truncate(MAX_NAMED_OF_STATE);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}: {}{more}", sanitize(state), names.join(", "))
    };
    states.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn agents_are_named_by_state_and_many_are_counted() {
        let execution = |name: &str, state: &str, code: Option<i64>| json!({"agent_name": name, "state": state, "exit_code": code});
        let few = [
            execution("web-2", "failed", None),
            execution("web-1", "failed", Some(3)),
            execution("db", "succeeded", Some(0)),
        ];
        assert_eq!(agents_by_state(&few), ["failed: web-1 (exit code 3), web-2", "succeeded: db"]);
        let many: Vec<_> = (0..25).map(|_| execution("a", "queued", None)).collect();
        let lines = agents_by_state(&many);
        assert!(lines[0].ends_with("a and 5 more"), "{lines:?}");
    }
}
