//! `execute`: one script of the host's manifest, with parameters, within limits.

use muster_protocol::limits::{DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS};
use muster_protocol::manifest::Manifest;
use muster_protocol::parameter::{self, ParameterError, Parameters};
use muster_protocol::secret_parameters::SecretParameters;
use serde::Deserialize;
use serde_json::Value;

use crate::ledger::record::{Launch, ParameterRecord};

/// The data of an `execute`. Fields that are not known are for later agents, and ignored.
#[derive(Debug, Deserialize)]
struct Request {
    /// Its name in the manifest.
    script: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    secret_parameters: SecretParameters,
    /// May shorten what the manifest allows, never lengthen it.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// The host's bounds on output.
#[derive(Debug, Clone, Copy)]
pub struct OutputBounds {
    pub limit_bytes: u64,
    pub quota_bytes: u64,
}

/// Why an `execute` is refused. The texts go to the person who asked for it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the data of `execute` does not fit: {0}; send `script`, and `parameters` as texts")]
    Malformed(serde_json::Error),
    #[error("no script `{0}` on this host's list; add it to the host's script_manifest.json")]
    UnknownScript(String),
    #[error("{0}")]
    Parameters(#[from] ParameterError),
    #[error("timeout_ms must be 1 to {MAX_TIMEOUT_MS}")]
    Timeout,
}

impl Refusal {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Timeout => "invalid_data",
            Self::UnknownScript(_) => "unknown_script",
            Self::Parameters(_) => "invalid_parameters",
        }
    }
}

/// Checks a request against the manifest.
///
/// # Errors
/// [`Refusal`] with a sentence that says what to do.
pub fn plan(
    data: &Value,
    manifest: &Manifest,
    bounds: OutputBounds,
) -> Result<(Launch, ParameterRecord), Refusal> {
    let request = Request::deserialize(data).map_err(Refusal::Malformed)?;
    let Some(script) = manifest.script(&request.script) else {
        return Err(Refusal::UnknownScript(request.script.chars().take(128).collect()));
    };
    let (parameters, secret_parameters) = parameter::resolve(
        request.parameters,
        request.secret_parameters,
        script.parameters.as_deref(),
    )?;
    if request.timeout_ms.is_some_and(|asked| asked == 0 || asked > MAX_TIMEOUT_MS) {
        return Err(Refusal::Timeout);
    }
    let allowed = script.timeout_ms;
    let timeout_ms = match (request.timeout_ms, allowed) {
        (Some(asked), Some(allowed)) => asked.min(allowed),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => DEFAULT_TIMEOUT_MS,
    };
    let launch = Launch {
        path: script.path.clone(),
        interpreter: script.interpreter.clone(),
        args: script.args.clone(),
        sha256: script.sha256.clone(),
        script: Some(script.name.clone()),
        run_as: None,
        timeout_ms,
        output_limit_bytes: bounds.limit_bytes,
        output_quota_bytes: bounds.quota_bytes,
    };
    Ok((launch, ParameterRecord { parameters, secret_parameters }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        let text = json!({"scripts": [
            {"name": "free", "path": "a.sh"},
            {"name": "tight", "path": "b.sh", "timeout_ms": 1000, "parameters": [{"name": "WHO", "required": true}]},
        ]});
        Manifest::parse(&text.to_string()).expect("valid")
    }

    fn planned(data: Value) -> Result<(Launch, ParameterRecord), &'static str> {
        let bounds = OutputBounds { limit_bytes: 1, quota_bytes: 2 };
        plan(&data, &manifest(), bounds).map_err(|refusal| refusal.code())
    }

    #[test]
    fn a_caller_may_shorten_the_time_but_not_lengthen_it() {
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
    fn what_does_not_fit_is_refused_by_a_stable_word() {
        let code = |data| planned(data).err();
        assert_eq!(code(json!({"script": "none"})), Some("unknown_script"));
        assert_eq!(code(json!({"script": "tight"})), Some("invalid_parameters"));
        assert_eq!(
            code(json!({"script": "free", "parameters": {"PATH": "x"}})),
            Some("invalid_parameters")
        );
        assert_eq!(code(json!({"script": 7})), Some("invalid_data"));
        assert_eq!(code(json!(null)), Some("invalid_data"));
    }
}
