//! Files of steps, for `--steps`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::CliError;
use crate::input::quantities::milliseconds;

/// Reads the steps of a file as the API takes them.
///
/// # Errors
/// [`CliError`] names the file, and what is wrong in it.
pub fn read(path: &Path) -> Result<Value, CliError> {
    let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    let parsed = if is_json { parse_json(&text) } else { parse_toml(&text) };
    let steps = parsed.and_then(steps_of);
    steps.map_err(|problem| CliError::Usage(format!("{}: {problem}", path.display())))
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn parse_toml(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
}

/// The steps of a document: its list `steps`, or the document itself. Times become milliseconds.
fn steps_of(document: Value) -> Result<Value, String> {
    let steps = match document {
        Value::Array(steps) => steps,
        Value::Object(mut fields) => {
            let steps = fields.remove("steps");
            if let Some(other) = fields.keys().next() {
                return Err(format!("`{other}` is not known; the file has only `steps`"));
            }
            match steps {
                Some(Value::Array(steps)) => steps,
                _ => return Err("it has no list `steps`; write [[steps]] before each".into()),
            }
        }
        _ => return Err("it has no list `steps`".into()),
    };
    let steps = steps.into_iter().enumerate().map(|(number, step)| {
        let Value::Object(step) = step else {
            return Err(format!("step {} is no table", number + 1));
        };
        with_timeout(step).map_err(|problem| format!("step {}: {problem}", number + 1))
    });
    steps.collect()
}

fn with_timeout(mut step: Map<String, Value>) -> Result<Value, String> {
    if let Some(timeout) = step.remove("timeout") {
        let text = timeout.as_str().ok_or("`timeout` must be a text such as \"5m\"")?;
        let timeout_ms = milliseconds(text).map_err(|error| error.to_string())?;
        if step.insert("timeout_ms".into(), timeout_ms.into()).is_some() {
            return Err("`timeout` and `timeout_ms` are given".into());
        }
    }
    Ok(step.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn steps(text: &str) -> Result<Value, String> {
        parse_toml(text).and_then(steps_of)
    }

    #[test]
    fn toml_and_json_give_the_same_steps() {
        let text = r#"
            [[steps]]
            name = "Stop"
            argv = ["systemctl", "stop", "web"]
            timeout = "30s"
            [[steps]]
            script = "deploy"
            parameters = { ENV = "test" }
            on_failure = "continue"
        "#;
        let expected = json!([
            {"name": "Stop", "argv": ["systemctl", "stop", "web"], "timeout_ms": 30_000},
            {"script": "deploy", "parameters": {"ENV": "test"}, "on_failure": "continue"},
        ]);
        assert_eq!(steps(text), Ok(expected.clone()));
        let document = json!({ "steps": expected });
        assert_eq!(parse_json(&document.to_string()).and_then(steps_of), Ok(expected.clone()));
        assert_eq!(parse_json(&expected.to_string()).and_then(steps_of), Ok(expected));
    }

    #[test]
    fn a_file_that_is_no_list_of_steps_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "no list `steps`"),
            ("steps = 1", "no list `steps`"),
            ("steps = [1]", "step 1 is no table"),
            ("script = \"a\"\n[[steps]]\n", "`script` is not known"),
            ("[[steps]]\ntimeout = 5", "step 1: `timeout` must be a text"),
            ("[[steps]]\ntimeout = \"x\"", "step 1: "),
            ("[[steps]]\ntimeout = \"5m\"\ntimeout_ms = 5", "are given"),
        ] {
            let problem = steps(text).expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
