//! `execute` of a probe: the shim starts the agent's own program, as the user that scripts run as. There is
//! nothing in the request that could choose what runs.

use muster_protocol::commands::probe::{PROBE, PROBE_TIMEOUT_MS};
use serde_json::Value;

use super::execute::{ExecuteRefusal, OutputLimits, request_of};
use crate::executions::ledger::record::Launch;
use crate::policy::Policy;

/// True if a command is a probe, valid or not.
pub fn is_requested(data: &Value) -> bool {
    data.get("script").and_then(Value::as_str) == Some(PROBE)
}

/// Checks that a request is a probe and nothing else.
///
/// # Errors
/// [`ExecuteRefusal::Probe`] if it has anything that only other executions have.
pub fn plan(data: &Value, policy: &Policy, bounds: OutputLimits) -> Result<Launch, ExecuteRefusal> {
    let request = request_of(data)?;
    let is_plain = request.argv.is_none()
        && request.stdin.is_none()
        && request.parameters.is_empty()
        && request.secret_parameters.is_empty()
        && !request.rehearsal
        && data.get("file").is_none();
    if !is_plain {
        return Err(ExecuteRefusal::Probe);
    }
    let timeout_ms = request.timeout_ms.unwrap_or(PROBE_TIMEOUT_MS).min(PROBE_TIMEOUT_MS);
    Ok(Launch {
        script: Some(PROBE.to_owned()),
        is_probe: true,
        timeout_ms,
        ..Launch::empty(policy.allow, bounds)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn planned(data: Value) -> Result<Launch, &'static str> {
        let bounds = OutputLimits { limit_bytes: 5, quota_bytes: 6 };
        let policy = Policy::parse("{}").expect("valid");
        plan(&data, &policy, bounds).map_err(|refusal| refusal.code())
    }

    #[test]
    fn a_probe_starts_nothing_that_the_request_chooses() {
        let launch = planned(json!({"script": PROBE})).expect("planned");
        assert!(launch.is_probe);
        assert_eq!((launch.path.as_str(), launch.argv.len(), launch.args.len()), ("", 0, 0));
        assert_eq!(launch.timeout_ms, PROBE_TIMEOUT_MS);
        let long = json!({"script": PROBE, "timeout_ms": PROBE_TIMEOUT_MS + 1});
        assert_eq!(planned(long).map(|launch| launch.timeout_ms), Ok(PROBE_TIMEOUT_MS));
        for (field, value) in [
            ("argv", json!(["/bin/sh"])),
            ("stdin", json!("aGk=")),
            ("parameters", json!({"A": "1"})),
            ("secret_parameters", json!({"A": "1"})),
            ("rehearsal", json!(true)),
            ("file", json!({"path": "/etc/passwd"})),
        ] {
            let mut data = json!({"script": PROBE});
            data[field] = value;
            assert_eq!(planned(data).err(), Some("invalid_data"), "{field}");
        }
        assert!(!is_requested(&json!({"script": "agent:probes"})));
    }
}
