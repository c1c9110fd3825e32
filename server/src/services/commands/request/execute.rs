//! The data of an `execute`: a script, an ad-hoc command, or steps of both.

use muster_protocol::commands::argv;
use muster_protocol::commands::file_transfer::{
    FILE_PREFIX, FileOperation, FileTransfer, MAX_FILE_BYTES,
};
use muster_protocol::commands::stdin::Stdin;
use muster_protocol::commands::step::{MAX_STEPS, MAX_TITLE_BYTES, OnFailure, is_step_name, title};
use muster_protocol::library::{LIBRARY_PREFIX, LibraryReference};
use muster_protocol::limits::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS};
use muster_protocol::manifest::{ManifestMismatch, is_script_name};
use muster_protocol::object::Object;
use muster_protocol::package::{PACKAGE_PREFIX, PackageReference};
use muster_protocol::parameter::secret_parameters::SecretParameters;
use muster_protocol::parameter::{self, Parameters};
use serde::Deserialize;
use serde_json::Value;

use super::super::preflight::{Executable, StepWork};
use crate::services::error::{Result, ServiceError};

/// `data` of an `execute`: exactly one of a script, an ad-hoc command and steps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Execute {
    script: Option<String>,
    argv: Option<Vec<String>>,
    steps: Option<Vec<StepRequest>>,
    #[serde(default)]
    parameters: Parameters,
    timeout_ms: Option<u64>,
    stdin: Option<Stdin>,
    file: Option<FileTransfer>,
    /// The script gets dummy secrets.
    #[serde(default)]
    rehearsal: bool,
}

/// One step, as a request has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepRequest {
    name: Option<String>,
    script: Option<String>,
    argv: Option<Vec<String>>,
    #[serde(default)]
    parameters: Parameters,
    /// Names of secret parameters of the request.
    #[serde(default)]
    secrets: Vec<String>,
    timeout_ms: Option<u64>,
    /// Read only to be checked: hosts get the data as it was sent.
    #[serde(default, rename = "on_failure")]
    _on_failure: OnFailure,
}

/// What the data of an `execute` asks for: its timeout, what to run, the secrets and the size of its input.
type ValidExecute = (u64, Executable, SecretParameters, Option<usize>);

/// Validates the data of an `execute` and takes its secrets out.
pub(super) fn validate_execute(data: &mut Value) -> Result<ValidExecute> {
    let mismatch = |error: serde_json::Error| ServiceError::Invalid {
        code: "invalid_field",
        detail: format!("`data` of `execute`: {error}"),
    };
    let secrets = data.as_object_mut().and_then(|data| data.remove("secret_parameters"));
    let secrets = secrets.map(SecretParameters::deserialize).transpose().map_err(mismatch)?;
    let secrets = secrets.unwrap_or_default();
    // Steps may not be lists of their values: what is pinned is written into them.
    let Object(execute) = Object::<Execute>::deserialize(&*data).map_err(mismatch)?;
    let timeout_ms = valid_timeout("data.timeout_ms", execute.timeout_ms)?;
    let stdin_bytes = execute.stdin.map(|stdin| stdin.bytes().len());
    let executable = match execute.steps {
        None if execute.script.as_deref().is_some_and(|name| name.starts_with(FILE_PREFIX)) => {
            let is_alone = execute.argv.is_none()
                && execute.parameters.is_empty()
                && secrets.is_empty()
                && stdin_bytes.is_none();
            if !is_alone {
                let problem = "and parameters, input or a program exclude each other";
                return Err(ServiceError::conflicting("file", "parameters", problem));
            }
            transfer_of(execute.script.unwrap_or_default(), execute.file)?
        }
        None if execute.file.is_some() => {
            let problem = "needs the script `file:push` or `file:pull`";
            return Err(ServiceError::invalid_field("file", problem));
        }
        None => {
            check_values(&execute.parameters, &secrets)?;
            one_of("data.", execute.script, execute.argv, execute.parameters)?
        }
        Some(steps) => {
            let given = [
                ("script", execute.script.is_some()),
                ("argv", execute.argv.is_some()),
                ("parameters", !execute.parameters.is_empty()),
                ("stdin", stdin_bytes.is_some()),
                ("file", execute.file.is_some()),
            ];
            if let Some((field, _)) = given.iter().find(|(_, is_given)| *is_given) {
                let problem = "and `steps` exclude each other; give it to a step, or leave it out";
                return Err(ServiceError::conflicting(field, "steps", problem));
            }
            validate_steps(steps, &secrets)?
        }
    };
    if execute.rehearsal && !matches!(executable, Executable::Library { .. }) {
        let problem = "needs a script of the library: `library:NAME`";
        return Err(ServiceError::invalid_field("data.rehearsal", problem));
    }
    Ok((timeout_ms, executable, secrets, stdin_bytes))
}

/// A transfer of a file.
fn transfer_of(name: String, file: Option<FileTransfer>) -> Result<Executable> {
    let Some(operation) = FileOperation::of(&name) else {
        let problem = "must be `file:push` or `file:pull`";
        return Err(ServiceError::invalid_field("script", problem));
    };
    let Some(file) = file else {
        return Err(ServiceError::invalid_field("file", "is missing; send the path on the host"));
    };
    let checked = file.check(operation);
    checked.map_err(|error| {
        ServiceError::invalid_field(
            &format!("file.{}", error.field()),
            &format!("is refused: {error}"),
        )
    })?;
    if let Some(bytes) = file.bytes.filter(|bytes| *bytes > MAX_FILE_BYTES) {
        return Err(ServiceError::out_of_range("file.bytes", bytes, 0..=MAX_FILE_BYTES));
    }
    // The server adds the size of what was uploaded.
    Ok(Executable::File { name, file: FileTransfer { bytes: None, ..file } })
}

/// Validates steps. Each gets the secrets that it names.
fn validate_steps(steps: Vec<StepRequest>, secrets: &SecretParameters) -> Result<Executable> {
    if !(1..=MAX_STEPS).contains(&steps.len()) {
        let count = steps.len() as u64;
        return Err(ServiceError::out_of_range("data.steps", count, 1..=MAX_STEPS as u64));
    }
    let mut work = Vec::with_capacity(steps.len());
    for (number, step) in steps.into_iter().enumerate() {
        let at = format!("data.steps[{number}].");
        let invalid = |field: &str, problem: &str| {
            ServiceError::invalid_field(&format!("{at}{field}"), problem)
        };
        if step.name.as_deref().is_some_and(|name| !is_step_name(name)) {
            let problem =
                "must be 1 to 64 characters, without control characters and without spaces around";
            return Err(invalid("name", problem));
        }
        valid_timeout(&format!("{at}timeout_ms"), step.timeout_ms)?;
        let mut given = SecretParameters::default();
        for name in &step.secrets {
            let Some(value) = secrets.get(name) else {
                return Err(invalid("secrets", "must be names in `secret_parameters`"));
            };
            given.insert(name.clone(), value.to_owned());
        }
        check_values(&step.parameters, &given)?;
        let executable = one_of(&at, step.script, step.argv, step.parameters)?;
        if let Executable::Package { .. } = executable {
            return Err(invalid("script", "can't be a package; run it as a job of its own"));
        }
        work.push(StepWork { executable, secrets: given });
    }
    let is_used = |name: &str| work.iter().any(|step| step.secrets.get(name).is_some());
    if secrets.iter().any(|(name, _)| !is_used(name)) {
        let problem = "has a parameter that no step names in `secrets`";
        return Err(ServiceError::invalid_field("secret_parameters", problem));
    }
    // From what was parsed: rules name scripts without a version.
    let title = title(work.iter().map(|step| step.executable.ruled_name()));
    if title.len() > MAX_TITLE_BYTES {
        let problem = "has scripts whose names have more than 1,000 bytes together";
        return Err(ServiceError::invalid_field("data.steps", problem));
    }
    Ok(Executable::Steps { title, steps: work })
}

/// A script of a manifest, of the library or of a package, or an ad-hoc command: exactly one of them. `at`:
/// what stands before the names of its fields.
fn one_of(
    at: &str,
    script: Option<String>,
    argv: Option<Vec<String>>,
    parameters: Parameters,
) -> Result<Executable> {
    let invalid = |problem: &str| Err(ServiceError::invalid_field(&format!("{at}script"), problem));
    match (script, argv) {
        (Some(script), None) if script.starts_with(PACKAGE_PREFIX) => {
            let Some(reference) = PackageReference::parse(&script) else {
                return invalid("must be `package:NAME` or `package:NAME@VERSION`");
            };
            Ok(Executable::Package { name: reference.full_name(), reference, parameters })
        }
        (Some(script), None) if script.starts_with(LIBRARY_PREFIX) => {
            let Some(reference) = LibraryReference::parse(&script) else {
                return invalid("must be `library:NAME` or `library:NAME@VERSION`");
            };
            Ok(Executable::Library { name: reference.full_name(), reference, parameters })
        }
        (Some(name), None) if is_script_name(&name) => Ok(Executable::Script { name, parameters }),
        (Some(_), None) => invalid(
            "must be 1 to 128 of letters, digits, `.`, `_`, `-`, no dot at the start, or `library:` or `package:` and such a name",
        ),
        (None, Some(argv)) => {
            argv::check(&argv).map_err(|error| mismatched(error.into()))?;
            Ok(Executable::Argv)
        }
        (None, None) => {
            let problem = "is missing; send `script`, or `argv` for an ad-hoc command";
            let field = format!("{}script", at.trim_start_matches("data."));
            Err(ServiceError::invalid_field(&field, problem))
        }
        (Some(_), Some(_)) => {
            let problem = "and `argv` exclude each other; send one of them";
            let field = format!("{}script", at.trim_start_matches("data."));
            Err(ServiceError::conflicting(&field, "argv", problem))
        }
    }
}

fn check_values(parameters: &Parameters, secrets: &SecretParameters) -> Result<()> {
    parameter::check(parameters, secrets).map_err(|error| mismatched(error.into()))
}

fn valid_timeout(field: &str, timeout_ms: Option<u64>) -> Result<u64> {
    let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    match (1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
        true => Ok(timeout_ms),
        false => Err(ServiceError::out_of_range(field, timeout_ms, 1..=MAX_TIMEOUT_MS)),
    }
}

fn mismatched(mismatch: ManifestMismatch) -> ServiceError {
    ServiceError::Invalid { code: mismatch.code(), detail: mismatch.to_string() }
}
