//! What an execution or a job runs, in one line of shell syntax.
//!
//! Pure.

use serde_json::Value;

/// Longest command line in a table, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// The name of the script, or the ad-hoc command, truncated if it is long; "-" if there is neither.
pub fn work_summary(item: &Value) -> String {
    if let Some(script) = item.get("script").and_then(Value::as_str) {
        return script.to_owned();
    }
    let words = item.get("argv").and_then(Value::as_array);
    let words: Vec<_> = words.into_iter().flatten().filter_map(Value::as_str).collect();
    if words.is_empty() {
        return "-".to_owned();
    }
    truncate(&words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
}

/// The state of an execution; of one with steps, also which of them runs: `running 2/3`.
pub fn state_and_step(execution: &Value) -> String {
    let state = execution.get("state").and_then(Value::as_str).unwrap_or("-");
    let steps = execution.get("steps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_running = |step: &Value| step.get("state").and_then(Value::as_str) == Some("running");
    match steps.iter().position(is_running) {
        Some(at) => format!("{state} {}/{}", at + 1, steps.len()),
        None => state.to_owned(),
    }
}

/// A word in shell quotes, if it needs them.
fn quote(word: &str) -> String {
    // Only a NUL byte can't be quoted, and no argument holds one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

fn truncate(line: &str) -> String {
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some(_) => line.chars().take(MAX_SHOWN_CHARS - 1).chain(['…']).collect(),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn script_shows_its_name_and_command_its_quoted_words() {
        assert_eq!(work_summary(&json!({"script": "deploy"})), "deploy");
        assert_eq!(work_summary(&json!({"argv": ["sh", "-c", "echo $A"]})), "sh -c 'echo $A'");
        assert_eq!(work_summary(&json!({"script": null})), "-");
    }

    #[test]
    fn a_running_execution_with_steps_shows_which_one_runs() {
        let steps = json!([{"state": "succeeded"}, {"state": "running"}, {"state": null}]);
        assert_eq!(state_and_step(&json!({"state": "running", "steps": steps})), "running 2/3");
        assert_eq!(state_and_step(&json!({"state": "running"})), "running");
        let ended = json!([{"state": "succeeded"}]);
        assert_eq!(state_and_step(&json!({"state": "lost", "steps": ended})), "lost");
    }

    #[test]
    fn long_command_is_truncated_with_an_ellipsis() {
        let cut = work_summary(&json!({"argv": ["é".repeat(100)]}));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (MAX_SHOWN_CHARS, true), "{cut}");
        let whole = work_summary(&json!({"argv": ["x".repeat(MAX_SHOWN_CHARS)]}));
        assert_eq!(whole.chars().count(), MAX_SHOWN_CHARS);
    }
}
