//! Steps: an `execute` that runs several scripts or ad-hoc commands on a host, one after the other.

use serde::{Deserialize, Serialize};

use crate::library::ScriptPin;
use crate::parameter::Parameters;

/// The capability of an agent that runs steps.
pub const CAPABILITY: &str = "steps";
/// Most steps of an execution.
pub const MAX_STEPS: usize = 20;
/// Longest name of a step, in characters.
pub const MAX_STEP_NAME_CHARS: usize = 64;
/// Most bytes of the documents and bodies of the library scripts of all steps.
pub const MAX_STEP_CONTENT_BYTES: usize = 512 * 1024;
/// Most bytes that one step takes in a result and in its attestation.
pub const MAX_STEP_RESULT_BYTES: usize = 2 * 1024;
/// The start of [`title`]. Names of scripts have no such start.
pub const STEPS_PREFIX: &str = "steps:";
/// Stands for an ad-hoc command in a [`title`]. Names of scripts have no brackets.
pub const AD_HOC: &str = "(argv)";
/// Longest [`title`] of an execution, in bytes.
pub const MAX_TITLE_BYTES: usize = 1_000;

/// What happens when a step does not succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The steps after it are skipped.
    #[default]
    Stop,
    /// The next step runs. The execution has failed nevertheless.
    Continue,
}

impl OnFailure {
    /// True for the default.
    pub fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

/// One step, as it is sent to a host: a script or an ad-hoc command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The script's name in the manifest, or `library:` and its name in the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A program and its arguments, instead of a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// Names of the secret parameters of the execution that this step gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Of this step alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "OnFailure::is_stop")]
    pub on_failure: OnFailure,
    /// For a script of the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<ScriptPin>,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Succeeded,
    /// It exited with another code than 0, was killed by a signal, or could not be started.
    Failed,
    /// It exceeded its own time limit, or that of the execution.
    TimedOut,
    Cancelled,
    /// It was not started.
    Skipped,
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepResult {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub state: StepState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// By the host's clock, in milliseconds since the Unix epoch. Absent if it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// By the host's monotonic clock. Absent if it was not started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Where its output begins in the stored output of both streams.
    pub from_bytes: u64,
    /// Where its output ends.
    pub to_bytes: u64,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far an execution is whose steps have not all ended. It only grows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepProgress {
    /// The results of the steps that have ended, in their order.
    pub ended: Vec<StepResult>,
    /// The step after these, which runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningStep>,
}

/// A step that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunningStep {
    /// By the host's clock, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// Where its output begins in the stored output of both streams.
    pub from_bytes: u64,
}

impl StepProgress {
    /// True if an execution may be this far: no more steps than there can be, and each with a result of the
    /// size that a result may have.
    pub fn is_bounded(&self) -> bool {
        let bytes =
            |result: &StepResult| serde_json::to_vec(result).map_or(usize::MAX, |it| it.len());
        self.ended.len() + usize::from(self.running.is_some()) <= MAX_STEPS
            && self.ended.iter().all(|result| bytes(result) <= MAX_STEP_RESULT_BYTES)
    }
}

impl StepResult {
    /// The result of a step that was not started.
    pub fn skipped(name: Option<String>, offset_bytes: u64) -> Self {
        Self {
            name,
            state: StepState::Skipped,
            exit_code: None,
            signal: None,
            started_at_ms: None,
            duration_ms: None,
            from_bytes: offset_bytes,
            to_bytes: offset_bytes,
            error: None,
        }
    }
}

/// What an execution with steps is called wherever one with a script is called by its name: the prefix and
/// everything that it runs, each once, in the order of its first step.
///
/// Rules about scripts decide by this text, so it leaves nothing out.
pub fn title<'a>(scripts: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut known: Vec<&str> = Vec::new();
    for script in scripts {
        let word = script.unwrap_or(AD_HOC);
        if !known.contains(&word) {
            known.push(word);
        }
    }
    format!("{STEPS_PREFIX}{}", known.join(","))
}

/// What a [`title`] names: scripts, and `None` for ad-hoc commands. `None` for every other text.
pub fn parts_of(title: &str) -> Option<impl Iterator<Item = Option<&str>>> {
    let parts = title.strip_prefix(STEPS_PREFIX)?;
    Some(parts.split(',').map(|word| (word != AD_HOC).then_some(word)))
}

/// True for a name that a step may have.
pub fn is_step_name(name: &str) -> bool {
    (1..=MAX_STEP_NAME_CHARS).contains(&name.chars().count())
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::library::is_runnable_name;

    proptest! {
        #[test]
        fn a_title_names_everything_that_the_steps_run(
            steps in prop::collection::vec(prop::option::of("(library:)?[a-c][a-zA-Z0-9._-]{0,3}"), 1..MAX_STEPS),
        ) {
            let text = title(steps.iter().map(Option::as_deref));
            let parts: Vec<_> = parts_of(&text).expect("a title").collect();
            for step in &steps {
                prop_assert_eq!(parts.iter().filter(|part| **part == step.as_deref()).count(), 1);
            }
            prop_assert!(parts.iter().all(|part| steps.iter().any(|step| step.as_deref() == *part)));
            prop_assert!(!is_runnable_name(&text));
        }
    }

    #[test]
    fn the_name_of_a_script_is_no_title() {
        for name in ["deploy", "", "library:steps", "steps", "package:steps"] {
            assert!(parts_of(name).is_none(), "{name}");
        }
        assert!(is_step_name("Stop the service") && is_step_name(&"é".repeat(64)));
        for name in ["", " a", "a\n", "\u{1b}[2J", &"a".repeat(65)] {
            assert!(!is_step_name(name), "{name:?}");
        }
    }

    #[test]
    fn progress_has_at_most_as_many_steps_as_an_execution_and_results_of_their_size() {
        let result = StepResult::skipped(None, 0);
        let running = Some(RunningStep::default());
        let progress =
            |count, running| StepProgress { ended: vec![result.clone(); count], running };
        assert!(
            progress(MAX_STEPS, None).is_bounded() && progress(MAX_STEPS - 1, running).is_bounded()
        );
        assert!(
            !progress(MAX_STEPS, running).is_bounded()
                && !progress(MAX_STEPS + 1, None).is_bounded()
        );
        let error = Some("x".repeat(MAX_STEP_RESULT_BYTES));
        let ended = vec![StepResult { error, ..result.clone() }];
        assert!(!StepProgress { ended, running: None }.is_bounded());
    }

    #[test]
    fn a_step_is_written_without_its_defaults() {
        let step = Step { script: Some("deploy".into()), ..Step::default() };
        assert_eq!(serde_json::to_string(&step).expect("plain"), r#"{"script":"deploy"}"#);
        let read: Step = serde_json::from_str(r#"{"argv":["true"],"later":1}"#).expect("readable");
        assert_eq!(read.argv, Some(vec!["true".to_owned()]));
    }
}
