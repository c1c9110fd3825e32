//! Facts of the host's owner: files and programs in `facts.d` of the state directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::FactDraft;
use super::program::{self, MAX_SOURCE_BYTES};
use crate::policy::{self, guard};
use crate::storage::layout::StateDir;

/// Most files that are used.
const MAX_FILES: usize = 32;
/// Deepest nesting of objects.
const MAX_FACT_DEPTH: usize = 4;
/// How long all programs together may take.
const ALL_PROGRAMS_TIME: Duration = Duration::from_secs(60);

/// A file of `facts.d`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FactFile {
    pub name: String,
    /// It is run; otherwise it is read.
    pub is_program: bool,
    /// Why it is not used.
    pub problem: Option<String>,
    #[serde(skip)]
    path: PathBuf,
}

/// The files in the order of their names. Hidden ones are left out.
pub(super) fn files(state: &StateDir) -> Vec<FactFile> {
    let folder = state.custom_facts();
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    let unsafe_folder = guard::check(&folder).err().map(|error| error.to_string());
    let file = |(number, name): (usize, String)| {
        let path = folder.join(&name);
        let (is_program, problem) = examine(&path, &name);
        let too_many = format!("there are more than {MAX_FILES} files");
        let too_many = (number >= MAX_FILES).then_some(too_many);
        FactFile { problem: unsafe_folder.clone().or(too_many).or(problem), name, is_program, path }
    };
    // One more shows that there are more.
    names.into_iter().take(MAX_FILES + 1).enumerate().map(file).collect()
}

fn examine(path: &Path, name: &str) -> (bool, Option<String>) {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return (false, Some(error.to_string())),
    };
    let is_program = metadata.permissions().mode() & 0o111 != 0;
    let problem = if !metadata.is_file() {
        Some("it is not a file; links and folders are not followed".to_owned())
    } else if let Err(error) = guard::check(path) {
        Some(error.to_string())
    } else if !is_program && !name.ends_with(".json") && !name.ends_with(".txt") {
        Some("it is not executable, and its name ends neither in .json nor in .txt".to_owned())
    } else {
        None
    };
    (is_program, problem)
}

/// Adds what all files report. A file that fails is an error of its own.
pub(super) fn collect(state: &StateDir, draft: &mut FactDraft<'_>, watches_input: bool) {
    let run_as = draft.policy.run_as.as_deref();
    let account = run_as.map(policy::account).transpose().map_err(|error| error.to_string());
    let until = Instant::now() + ALL_PROGRAMS_TIME;
    for file in files(state) {
        let source = format!("facts.d/{}", file.name);
        let reported = match (file.problem, &account) {
            (Some(problem), _) => Err(problem),
            (None, _) if !file.is_program => guard::read_text(&file.path, MAX_SOURCE_BYTES as u64)
                .map_err(|error| error.to_string())
                .and_then(|text| match file.name.ends_with(".txt") {
                    true => lines(&text),
                    false => object(&text),
                }),
            (None, Err(error)) => Err(error.clone()),
            (None, Ok(account)) => {
                program::output(&file.path, account.as_ref(), until, watches_input)
                    .and_then(|text| object(&text))
            }
        };
        match reported {
            Ok(facts) => {
                facts.into_iter().for_each(|(name, values)| draft.add(&source, &name, values));
            }
            Err(problem) => draft.fail(&source, &problem),
        }
    }
}

type Facts = Vec<(String, Vec<String>)>;

/// `NAME=VALUE` lines; empty ones and those that start with `#` are left out.
fn lines(text: &str) -> Result<Facts, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let fact = |(number, line): (usize, &str)| {
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("line {} is not NAME=VALUE", number + 1))?;
        Ok((name.trim().to_owned(), vec![value.trim().to_owned()]))
    };
    lines.map(fact).collect()
}

/// A JSON object. Objects in it become names with dots, and lists become several values.
fn object(text: &str) -> Result<Facts, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is not valid JSON: {error}"))?;
    let Value::Object(_) = value else { return Err("it is not a JSON object".into()) };
    let mut facts = Vec::new();
    flatten(String::new(), value, 0, &mut facts)?;
    Ok(facts)
}

fn flatten(name: String, value: Value, depth: usize, facts: &mut Facts) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::Object(_) if depth >= MAX_FACT_DEPTH => {
            return Err(format!("objects are nested deeper than {MAX_FACT_DEPTH} levels"));
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field } else { format!("{name}.{field}") };
                flatten(name, value, depth + 1, facts)?;
            }
        }
        Value::Array(items) => {
            let values: Option<Vec<String>> = items.iter().map(scalar).collect();
            let values = values.ok_or_else(|| {
                format!(
                    "a list of `{}` has something else than texts, numbers, true and false",
                    name.chars().take(40).collect::<String>()
                )
            })?;
            if !values.is_empty() {
                facts.push((name, values));
            }
        }
        value => facts.extend(scalar(&value).map(|text| (name, vec![text]))),
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_true) => Some(is_true.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let shown = |(name, values): (String, Vec<String>)| format!("{name}={}", values.join("|"));
        object(text).map(|facts| facts.into_iter().map(shown).collect())
    }

    #[test]
    fn objects_become_names_with_dots_and_lists_several_values() {
        let text = r#"{"app":{"version":"1.2","ports":[80,443]},"ready":true,"none":null,"x":[]}"#;
        let facts = of(text).expect("valid");
        assert_eq!(facts, ["app.ports=80|443", "app.version=1.2", "ready=true"]);
        for (wrong, problem) in [
            ("", "not valid JSON"),
            ("[1]", "not a JSON object"),
            (r#"{"a":[{}]}"#, "a list of `a`"),
            (r#"{"a":{"b":{"c":{"d":{"e":1}}}}}"#, "nested deeper"),
        ] {
            assert!(of(wrong).is_err_and(|error| error.contains(problem)), "{wrong}");
        }
    }

    #[test]
    fn text_files_have_a_fact_in_each_line() {
        let facts = lines("# where\nrack = A 7\n\nurl=a=b\n").expect("valid");
        let expected = [("rack", "A 7"), ("url", "a=b")];
        let expected = expected.map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        assert_eq!(facts, expected);
        assert_eq!(lines("a=1\nb"), Err("line 2 is not NAME=VALUE".into()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = (object(&text), lines(&text));
        }
    }
}
