//! `execute`: runs one script of the host's manifest, or an ad-hoc command if the policy allows it,
//! with parameters and limits.

use std::collections::BTreeSet;

use muster_protocol::commands::argv;
use muster_protocol::commands::stdin::Stdin;
use muster_protocol::commands::step::{MAX_STEP_NAME_CHARS, MAX_STEPS};
use muster_protocol::limits::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS};
use muster_protocol::manifest::{Manifest, ManifestMismatch};
use muster_protocol::parameter::secret_parameters::{SecretDelivery, SecretParameters};
use muster_protocol::parameter::{self, Parameters};
use serde::Deserialize;
use serde_json::Value;

use super::file_refusal::FileRefusal;
use super::library_refusal::LibraryRefusal;
use crate::executions::ledger::record::{Launch, ParameterRecord};
use crate::policy::Allow;

/// The data of an `execute`. Unknown fields are ignored: they are for later agents.
#[derive(Debug, Deserialize)]
pub(super) struct ExecuteData {
    /// The script's name in the manifest, or `library:` and its name in the library.
    #[serde(default)]
    pub script: Option<String>,
    /// A program and its arguments, instead of a script.
    #[serde(default)]
    pub argv: Option<Vec<String>>,
    #[serde(default)]
    pub parameters: Parameters,
    #[serde(default)]
    pub secret_parameters: SecretParameters,
    /// It gets dummy secrets, and where they come out is reported.
    #[serde(default)]
    pub rehearsal: bool,
    /// What the program reads from standard input.
    #[serde(default)]
    pub stdin: Option<Stdin>,
    /// May shorten the time that the manifest allows, never lengthen it.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// The host's limits on stored output.
#[derive(Debug, Clone, Copy)]
pub struct OutputLimits {
    pub limit_bytes: u64,
    pub quota_bytes: u64,
}

/// Why an `execute` is refused. The messages are shown to the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteRefusal {
    #[error("the data of `execute` is invalid: {0}; send `script`, and `parameters` as strings")]
    Malformed(serde_json::Error),
    #[error("`execute` needs either `script`, `argv` or `steps`; send exactly one of them")]
    Ambiguous,
    #[error("`steps` must have 1 to {MAX_STEPS} steps")]
    StepCount,
    #[error("the name of a step must be 1 to {MAX_STEP_NAME_CHARS} characters")]
    StepName,
    #[error("it gets a secret parameter that the command does not have")]
    UnknownSecret,
    #[error("a package can't be a step; run it as a job of its own")]
    PackageStep,
    #[error("a transfer of a file can't be a step; send it alone")]
    FileStep,
    #[error("a probe has no parameters, input or program, and is no step; send it alone")]
    Probe,
    #[error("step {1}: {0}")]
    Step(Box<Self>, usize),
    #[error("{0}")]
    ManifestMismatch(#[from] ManifestMismatch),
    #[error("{0}")]
    Library(#[from] LibraryRefusal),
    #[error("{0}")]
    File(#[from] FileRefusal),
    #[error("timeout_ms must be between 1 and {MAX_TIMEOUT_MS}")]
    Timeout,
}

impl ExecuteRefusal {
    /// The refusal itself, without the step that has it.
    pub fn of_any_step(&self) -> &Self {
        match self {
            Self::Step(refusal, _) => refusal.of_any_step(),
            refusal => refusal,
        }
    }

    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_)
            | Self::Ambiguous
            | Self::StepCount
            | Self::StepName
            | Self::UnknownSecret
            | Self::PackageStep
            | Self::FileStep
            | Self::Probe
            | Self::Timeout => "invalid_data",
            Self::Step(refusal, _) => refusal.code(),
            Self::ManifestMismatch(mismatch) => mismatch.code(),
            Self::Library(refusal) => refusal.code(),
            Self::File(refusal) => refusal.code(),
        }
    }
}

/// What the host permits the server to run.
#[derive(Debug, Clone, Copy)]
pub struct AllowedScripts<'a> {
    pub manifest: &'a Manifest,
    pub allow: Allow,
}

/// Checks a request against what the host permits.
///
/// # Errors
/// [`ExecuteRefusal`] with a message that says what to do.
pub fn plan(
    data: &Value,
    allowed: AllowedScripts<'_>,
    bounds: OutputLimits,
) -> Result<(Launch, ParameterRecord), ExecuteRefusal> {
    let request = request_of(data)?;
    let asked_ms = request.timeout_ms;
    let launch = Launch {
        timeout_ms: asked_ms.unwrap_or(DEFAULT_TIMEOUT_MS),
        ..Launch::empty(allowed.allow, bounds)
    };
    let (parameters, secrets) = (request.parameters, request.secret_parameters);
    let stdin = request.stdin;
    match (request.script, request.argv) {
        (Some(name), None) => {
            let has_stdin = stdin.is_some();
            let script =
                allowed.manifest.allowed_script(&name, &parameters, &secrets, has_stdin)?;
            let launch = Launch {
                path: script.path.clone(),
                interpreter: script.interpreter.clone(),
                args: script.args.clone(),
                sha256: script.sha256.clone(),
                script: Some(name),
                secrets: script.secrets,
                timeout_ms: match (asked_ms, script.timeout_ms) {
                    (Some(asked), Some(allowed)) => asked.min(allowed),
                    (None, Some(allowed)) => allowed,
                    (_, None) => launch.timeout_ms,
                },
                ..launch
            };
            let accepted = &script.parameters;
            let given: BTreeSet<String> = names(&parameters, &secrets).collect();
            let (parameters, secret_parameters) = parameter::resolve(parameters, secrets, accepted)
                .map_err(ManifestMismatch::from)?;
            let defaults =
                names(&parameters, &secret_parameters).filter(|name| !given.contains(name));
            let defaults = defaults.collect();
            let steps = Vec::new();
            let record = ParameterRecord { parameters, secret_parameters, defaults, stdin, steps };
            Ok((launch, record))
        }
        (None, Some(argv)) => {
            if allowed.allow != Allow::Shell {
                return Err(ManifestMismatch::ArgvNotAllowed.into());
            }
            argv::check(&argv).map_err(ManifestMismatch::from)?;
            parameter::check(&parameters, &secrets).map_err(ManifestMismatch::from)?;
            let record = ParameterRecord {
                parameters,
                secret_parameters: secrets,
                stdin,
                ..ParameterRecord::default()
            };
            Ok((Launch { argv, ..launch }, record))
        }
        _ => Err(ExecuteRefusal::Ambiguous),
    }
}

/// Reads the data of an `execute`.
///
/// # Errors
/// [`ExecuteRefusal`] if it has another form, or an invalid time limit.
pub(super) fn request_of(data: &Value) -> Result<ExecuteData, ExecuteRefusal> {
    let request = ExecuteData::deserialize(data).map_err(ExecuteRefusal::Malformed)?;
    if request.timeout_ms.is_some_and(|asked| asked == 0 || asked > MAX_TIMEOUT_MS) {
        return Err(ExecuteRefusal::Timeout);
    }
    Ok(request)
}

impl Launch {
    /// Nothing to run yet.
    pub(super) fn empty(allow: Allow, bounds: OutputLimits) -> Self {
        Self {
            path: String::new(),
            argv: Vec::new(),
            interpreter: None,
            args: Vec::new(),
            sha256: None,
            script: None,
            library: None,
            package: None,
            file: None,
            service: None,
            call: None,
            requirements: None,
            is_rehearsal: false,
            is_probe: false,
            file_parameters: Vec::new(),
            steps: Vec::new(),
            policy: Some(allow.as_str().to_owned()),
            run_as: None,
            secrets: SecretDelivery::Environment,
            timeout_ms: DEFAULT_TIMEOUT_MS,
            output_limit_bytes: bounds.limit_bytes,
            output_quota_bytes: bounds.quota_bytes,
        }
    }
}

pub(super) fn names(
    parameters: &Parameters,
    secrets: &SecretParameters,
) -> impl Iterator<Item = String> {
    parameters.keys().cloned().chain(secrets.iter().map(|(name, _)| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        let text = json!({"scripts": [
            {"name": "free", "path": "a.sh"},
            {"name": "any", "path": "c.sh", "parameters": "any"},
            {"name": "reads", "path": "d.sh", "stdin": true},
            {"name": "tight", "path": "b.sh", "timeout_ms": 1000, "parameters": [{"name": "WHO", "required": true}]},
        ]});
        Manifest::parse(&text.to_string()).expect("valid")
    }

    fn planned(data: Value) -> Result<(Launch, ParameterRecord), &'static str> {
        let bounds = OutputLimits { limit_bytes: 1, quota_bytes: 2 };
        let allowed = AllowedScripts { manifest: &manifest(), allow: Allow::Manifest };
        plan(&data, allowed, bounds).map_err(|refusal| refusal.code())
    }

    #[test]
    fn an_ad_hoc_command_needs_a_policy_that_allows_the_shell() {
        let bounds = OutputLimits { limit_bytes: 1, quota_bytes: 2 };
        let planned = |allow, data: Value| {
            let allowed = AllowedScripts { manifest: &manifest(), allow };
            let planned = plan(&data, allowed, bounds).map_err(|refusal| refusal.code());
            planned.map(|(launch, record)| (launch.argv.join(" "), record.parameters.len()))
        };
        let data = json!({"argv": ["uname", "-a"], "parameters": {"A": "1"}});
        assert_eq!(planned(Allow::Shell, data.clone()), Ok(("uname -a".into(), 1)));
        for allow in [Allow::Manifest, Allow::Library] {
            assert_eq!(planned(allow, data.clone()), Err("argv_not_allowed"));
        }
        for (data, code) in [
            (json!({"argv": []}), "invalid_argv"),
            (json!({"argv": ["./x"]}), "invalid_argv"),
            (json!({"argv": "uname"}), "invalid_data"),
            (json!({"argv": ["x"], "script": "free"}), "invalid_data"),
            (json!({}), "invalid_data"),
            (json!({"argv": ["x"], "parameters": {"PATH": "y"}}), "invalid_parameters"),
        ] {
            assert_eq!(planned(Allow::Shell, data.clone()), Err(code), "{data}");
        }
    }

    #[test]
    fn input_reaches_only_scripts_that_read_it() {
        let input = |script: &str, stdin: &str| {
            let planned = planned(json!({"script": script, "stdin": stdin}));
            planned.map(|(_, record)| record.stdin.map(|stdin| stdin.bytes().to_vec()))
        };
        assert_eq!(input("reads", "aGk="), Ok(Some(b"hi".to_vec())));
        assert_eq!(input("free", "aGk="), Err("stdin_not_allowed"));
        assert_eq!(input("reads", "no base64"), Err("invalid_data"));
        let without = planned(json!({"script": "reads"})).expect("planned").1;
        assert_eq!((without.stdin.as_ref(), without.is_empty()), (None, true));
    }

    #[test]
    fn a_caller_may_shorten_the_time_limit_but_not_lengthen_it() {
        let timeout = |data| planned(data).map(|(launch, _)| launch.timeout_ms);
        assert_eq!(timeout(json!({"script": "free"})), Ok(DEFAULT_TIMEOUT_MS));
        assert_eq!(timeout(json!({"script": "free", "timeout_ms": 5})), Ok(5));
        let tight = |asked: u64| {
            timeout(json!({"script": "tight", "timeout_ms": asked, "parameters": {"WHO": "x"}}))
        };
        assert_eq!(tight(5), Ok(5));
        assert_eq!(tight(5000), Ok(1000));
        assert_eq!(tight(0), Err("invalid_data"));
    }

    #[test]
    fn an_invalid_request_is_refused_with_a_stable_code() {
        let code = |data| planned(data).err();
        assert_eq!(code(json!({"script": "none"})), Some("unknown_script"));
        assert_eq!(code(json!({"script": "tight"})), Some("invalid_parameters"));
        for (script, name) in [
            ("free", "PATH"),
            ("free", "WHO"),
            ("free", "TAR_OPTIONS"),
            ("any", "TAR_OPTIONS"),
            ("any", "GIT_SSH_COMMAND"),
        ] {
            for field in ["parameters", "secret_parameters"] {
                let data = json!({"script": script, field: {name: "x"}});
                assert_eq!(code(data.clone()), Some("invalid_parameters"), "{data}");
            }
        }
        assert_eq!(code(json!({"script": "any", "parameters": {"WHO": "x"}})), None);
        assert_eq!(code(json!({"script": 7})), Some("invalid_data"));
        assert_eq!(code(json!(null)), Some("invalid_data"));
    }
}
