//! Compares an execution and its output with what the agent signed. Pure.

use muster_protocol::attestation::{Attestation, AttestationError, AttestedExecution};
use muster_protocol::identity::Fingerprint;
use serde_json::{Value, json};

/// What is stored about an execution.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// As the API shows it.
    pub execution: Value,
    /// The output of both streams; absent if it is stored no more.
    pub stored: Option<StoredOutput>,
    /// Of the agent's key.
    pub expected: Option<Fingerprint>,
}

/// The stored output of both streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutput {
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
}

/// Why an execution is not what its agent signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error(
        "the execution is not signed: it has not ended, its agent signs no results, or its attestation was removed"
    )]
    Unsigned,
    #[error("the agent's public key is not known; pass it with --public-key")]
    NoKey,
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    #[error(
        "the attestation was signed with {signed}, and the agent's key pair is {expected}; if the agent was adopted since, \
         pass its former key with --public-key"
    )]
    OtherKey { signed: Fingerprint, expected: Fingerprint },
    #[error("the attestation is of another execution: {0}")]
    OtherExecution(String),
    #[error("the attestation is of another agent: {0}")]
    OtherAgent(String),
    #[error("the result was changed: `{field}` is {stored}, and the agent signed {signed}")]
    Changed { field: &'static str, stored: Value, signed: Value },
    #[error(
        "the output is incomplete: {stored} bytes are stored, and the agent signed {signed} bytes"
    )]
    Incomplete { stored: u64, signed: u64 },
    #[error("the output was changed: its SHA-256 is not the one that the agent signed")]
    OutputChanged,
}

/// What the agent signed, if all of it is as stored.
///
/// # Errors
/// [`Finding`] for the first difference.
pub fn check(evidence: &Evidence) -> Result<AttestedExecution, Finding> {
    let execution = &evidence.execution;
    let attestation = execution.get("attestation").filter(|value| !value.is_null());
    let attestation: Attestation = attestation
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .ok_or(Finding::Unsigned)?;
    let claimed = attestation.read()?;
    let signed = attestation.open(&claimed.public_key)?;
    let expected = evidence.expected.ok_or(Finding::NoKey)?;
    let fingerprint = signed.public_key.fingerprint();
    if fingerprint != expected {
        return Err(Finding::OtherKey { signed: fingerprint, expected });
    }
    let text = |name: &str| execution.get(name).and_then(Value::as_str).unwrap_or_default();
    if signed.command_id.to_string() != text("id") {
        return Err(Finding::OtherExecution(signed.command_id.to_string()));
    }
    if signed.agent_id.to_string() != text("agent_id") {
        return Err(Finding::OtherAgent(signed.agent_id.to_string()));
    }
    compare_result(execution, &signed)?;
    compare_output(evidence, &signed)?;
    Ok(signed)
}

fn compare_result(execution: &Value, signed: &AttestedExecution) -> Result<(), Finding> {
    let result = signed.result.as_ref();
    let mut fields = vec![
        ("state", json!(signed.outcome)),
        ("error_code", json!(signed.error_code)),
        ("exit_code", json!(result.and_then(|result| result.exit_code))),
        ("signal", json!(result.and_then(|result| result.signal))),
        ("duration_ms", json!(result.map(|result| result.duration_ms))),
        ("stdout_bytes", json!(result.map(|result| result.stdout_bytes))),
        ("stderr_bytes", json!(result.map(|result| result.stderr_bytes))),
        ("dropped_bytes", json!(result.map(|result| result.dropped_bytes))),
        ("is_output_incomplete", json!(result.map(|result| !result.output_complete))),
    ];
    if let Some(result) = result {
        fields.push(("output_bytes", json!(result.output_bytes)));
    }
    if let Some(run) = &signed.run {
        fields.push(("script", json!(run.script)));
    }
    for (field, signed) in fields {
        let stored = execution.get(field).cloned().unwrap_or_default();
        if stored != signed {
            return Err(Finding::Changed { field, stored, signed });
        }
    }
    Ok(())
}

fn compare_output(evidence: &Evidence, signed: &AttestedExecution) -> Result<(), Finding> {
    let Some(result) = &signed.result else { return Ok(()) };
    let stored = evidence.stored.as_ref().map_or(0, |stored| stored.bytes);
    if stored < result.output_bytes {
        return Err(Finding::Incomplete { stored, signed: result.output_bytes });
    }
    let is_same = match (&result.output_sha256, &evidence.stored) {
        (Some(signed), Some(stored)) => *signed == stored.sha256,
        // The result of a lost execution: the agent knows the length and no hash.
        (None, _) | (_, None) => stored == result.output_bytes,
    };
    if is_same { Ok(()) } else { Err(Finding::OutputChanged) }
}

#[cfg(test)]
mod tests {
    use muster_protocol::attestation::ATTESTATION_VERSION;
    use muster_protocol::frame::{ExecuteResult, Outcome};
    use muster_protocol::identity::AgentKeyPair;
    use uuid::Uuid;

    use super::*;

    fn pair(seed: u8) -> AgentKeyPair {
        AgentKeyPair::from_seed(&[seed; 32]).expect("a seed")
    }

    fn signed(id: u128, seed: u8) -> Value {
        let execution = AttestedExecution {
            version: ATTESTATION_VERSION,
            command_id: Uuid::from_u128(id),
            agent_id: Uuid::from_u128(9),
            public_key: pair(seed).public_key(),
            outcome: Outcome::Failed,
            error_code: Some("exit_code".into()),
            run: None,
            result: Some(ExecuteResult {
                exit_code: Some(3),
                signal: None,
                duration_ms: 5,
                output_bytes: 2,
                stdout_bytes: 2,
                stderr_bytes: 0,
                dropped_bytes: 0,
                output_complete: true,
                output_sha256: Some("aa".into()),
            }),
        };
        json!(Attestation::sign(&execution, &pair(seed)))
    }

    fn evidence() -> Evidence {
        let execution = json!({
            "id": Uuid::from_u128(1), "agent_id": Uuid::from_u128(9), "state": "failed",
            "error_code": "exit_code", "exit_code": 3, "signal": null, "duration_ms": 5,
            "output_bytes": 2, "stdout_bytes": 2, "stderr_bytes": 0, "dropped_bytes": 0,
            "is_output_incomplete": false, "attestation": signed(1, 1),
        });
        let stored = Some(StoredOutput { bytes: 2, sha256: "aa".into() });
        Evidence { execution, stored, expected: Some(pair(1).public_key().fingerprint()) }
    }

    #[test]
    fn every_change_is_found_and_named() {
        assert!(check(&evidence()).is_ok());
        let finding = |change: fn(&mut Evidence)| {
            let mut changed = evidence();
            change(&mut changed);
            check(&changed).expect_err("found").to_string()
        };
        type Change = fn(&mut Evidence);
        let cases: [(Change, &str); 11] = [
            (|of| of.execution["exit_code"] = json!(0), "`exit_code` is 0, and the agent signed 3"),
            (|of| of.execution["state"] = json!("succeeded"), "`state` is \"succeeded\""),
            (|of| of.execution["attestation"] = Value::Null, "is not signed"),
            (|of| of.execution["attestation"] = signed(2, 1), "another execution"),
            (|of| of.execution["agent_id"] = json!(Uuid::nil()), "another agent"),
            (|of| of.execution["attestation"] = signed(1, 2), "was signed with SHA256:"),
            (
                |of| {
                    let document = of.execution["attestation"]["document"].as_str();
                    let changed = document.expect("text").replace(":3", ":0");
                    of.execution["attestation"]["document"] = json!(changed);
                },
                "document was changed",
            ),
            (|of| of.stored = Some(StoredOutput { bytes: 2, sha256: "ab".into() }), "SHA-256"),
            (|of| of.stored = Some(StoredOutput { bytes: 1, sha256: "aa".into() }), "incomplete"),
            (|of| of.stored = None, "0 bytes are stored, and the agent signed 2"),
            (|of| of.expected = None, "--public-key"),
        ];
        for (index, (change, words)) in cases.into_iter().enumerate() {
            let found = finding(change);
            assert!(found.contains(words), "case {index}: {found}");
        }
    }
}
