//! `execute` of several steps: each must pass the checks of the same work sent alone, all of them before the
//! first one starts.

use muster_protocol::commands::step::{MAX_STEPS, Step, is_step_name, title};
use muster_protocol::frame::Command;
use muster_protocol::library::{LIBRARY_PREFIX, ScriptContent, sha256_hex};
use muster_protocol::limits::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use serde::Deserialize;
use serde_json::{Value, json};

use super::execute::ExecuteRefusal;
use super::library_refusal::LibraryRefusal;
use super::planned::{HostRules, Planned};
use crate::executions::ledger::record::{Launch, ParameterRecord, StepLaunch};
use crate::policy::minimum_versions::Minimum;

/// The data of an `execute` with steps.
#[derive(Deserialize)]
struct StepsData {
    steps: Vec<Step>,
    #[serde(default)]
    secret_parameters: SecretParameters,
    /// Of all steps together.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// Fields of an `execute` that steps exclude: what they mean beside steps is not defined.
const EXCLUDED: [&str; 6] = ["script", "argv", "parameters", "stdin", "library", "package"];

/// True if a command is for steps, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("steps").is_some_and(|steps| !steps.is_null())
}

/// Checks all steps.
///
/// # Errors
/// [`ExecuteRefusal`] with the number of the step.
pub fn plan(
    command: &Command,
    rules: HostRules<'_>,
    plan_one: impl Fn(&Command) -> Result<Planned, ExecuteRefusal>,
) -> Result<Planned, ExecuteRefusal> {
    let request = StepsData::deserialize(&command.data).map_err(ExecuteRefusal::Malformed)?;
    if EXCLUDED.iter().any(|field| command.data.get(field).is_some_and(|value| !value.is_null())) {
        return Err(ExecuteRefusal::Ambiguous);
    }
    if !(1..=MAX_STEPS).contains(&request.steps.len()) {
        return Err(ExecuteRefusal::StepCount);
    }
    let timeout_ms = request.timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        return Err(ExecuteRefusal::Timeout);
    }
    let mut all = Planned {
        launch: Launch { timeout_ms, ..Launch::empty(rules.policy.allow, rules.output) },
        parameters: ParameterRecord::default(),
        files: Vec::new(),
        minimums: Vec::new(),
    };
    for (number, step) in (1..).zip(request.steps) {
        let in_step = |refusal| ExecuteRefusal::Step(Box::new(refusal), number);
        let one = command_of(command, &step, &request.secret_parameters).map_err(in_step)?;
        let planned = plan_one(&one).map_err(in_step)?;
        if planned.launch.package.is_some() {
            return Err(in_step(ExecuteRefusal::PackageStep));
        }
        if planned.launch.is_probe {
            return Err(in_step(ExecuteRefusal::Probe));
        }
        if planned.launch.file.is_some() {
            return Err(in_step(ExecuteRefusal::FileStep));
        }
        for file in planned.files {
            if all.files.iter().all(|known| known.name != file.name) {
                all.files.push(file);
            }
        }
        all.minimums.extend(planned.minimums);
        all.parameters.steps.push(planned.parameters);
        let (name, on_failure) = (step.name, step.on_failure);
        all.launch.steps.push(StepLaunch { name, on_failure, launch: planned.launch });
    }
    check_minimums(&all)?;
    // From what was planned: names without versions.
    let scripts = all.launch.steps.iter().map(|step| step.launch.script.as_deref());
    all.launch.script = Some(title(scripts));
    Ok(all)
}

/// The command that would run the step alone.
fn command_of(
    command: &Command,
    step: &Step,
    secrets: &SecretParameters,
) -> Result<Command, ExecuteRefusal> {
    if step.name.as_deref().is_some_and(|name| !is_step_name(name)) {
        return Err(ExecuteRefusal::StepName);
    }
    let mut given = SecretParameters::default();
    for name in &step.secrets {
        let value = secrets.get(name).ok_or(ExecuteRefusal::UnknownSecret)?;
        given.insert(name.clone(), value.to_owned());
    }
    let mut data = json!({
        "script": step.script, "argv": step.argv, "parameters": step.parameters,
        "timeout_ms": step.timeout_ms,
    });
    if !given.is_empty() {
        data["secret_parameters"] = json!(given);
    }
    let mut content = None;
    if let Some(pin) = &step.library {
        data["library"] = json!(pin);
        let is_pinned =
            |known: &&ScriptContent| sha256_hex(known.document.as_bytes()) == pin.document_sha256;
        content = command.step_contents.iter().find(is_pinned).cloned().map(Box::new);
    }
    // Neither a capsule nor a call is about one step.
    Ok(Command {
        command_id: command.command_id,
        command: command.command.clone(),
        data,
        timestamp: String::new(),
        start_within_ms: None,
        capsule: None,
        content,
        step_contents: Vec::new(),
        call: None,
        request_id: None,
    })
}

/// A statement that comes with one step counts for all others: sent alone they would run after it.
fn check_minimums(all: &Planned) -> Result<(), ExecuteRefusal> {
    for (number, step) in (1..).zip(&all.launch.steps) {
        let (Some(version), Some(script)) = (step.launch.library, &step.launch.script) else {
            continue;
        };
        let of_script = |minimum: &Minimum| match minimum {
            Minimum::Script { name, version }
                if script.strip_prefix(LIBRARY_PREFIX) == Some(name) =>
            {
                Some(*version)
            }
            _ => None,
        };
        let minimums = all.minimums.iter().filter_map(of_script);
        let minimum = minimums.max().unwrap_or(0);
        if version.version < minimum {
            let name = script.trim_start_matches(LIBRARY_PREFIX).to_owned();
            let refusal = LibraryRefusal::Outdated { name, minimum }.into();
            return Err(ExecuteRefusal::Step(Box::new(refusal), number));
        }
    }
    Ok(())
}
