//! Compares an execution and its output with what the agent signed. Pure.

use muster_protocol::commands::attestation::{
    Attestation, AttestedExecution, AttestedRun, parameters_message, words_message,
};
use muster_protocol::frame::ExecuteResult;
use muster_protocol::identity::Fingerprint;
use muster_protocol::parameter::Parameters;
use serde_json::{Value, json};

use super::fields::{field, sha256};
use super::finding::Finding;
use super::steps;

/// What is stored about an execution.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The id that the person asked for; absent for a file.
    pub requested: Option<String>,
    /// As the API shows it.
    pub execution: Value,
    /// The output of both streams; absent if it is stored no more.
    pub stored: Option<StoredOutput>,
    /// Of the agent's key.
    pub expected: Option<Fingerprint>,
    /// The person named the key; otherwise the server did.
    pub is_key_given: bool,
}

/// The stored output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutput {
    /// Both streams in the order read.
    pub both: StreamOutput,
    pub stdout: StreamOutput,
    pub stderr: StreamOutput,
}

/// The stored output of one stream or of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOutput {
    pub bytes: u64,
    /// Hex.
    pub sha256: String,
}

/// An execution that is as its agent signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub signed: AttestedExecution,
    /// What the signature says nothing about, for people.
    pub not_checked: Vec<String>,
}

/// What the agent signed, if all of it is as stored.
///
/// # Errors
/// [`Finding`] for the first difference.
pub fn check(evidence: &Evidence) -> Result<Checked, Finding> {
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
    if evidence.requested.as_ref().is_some_and(|id| id.parse() != Ok(signed.command_id)) {
        return Err(Finding::NotRequested(signed.command_id.to_string()));
    }
    if signed.agent_id.to_string() != text("agent_id") {
        return Err(Finding::OtherAgent(signed.agent_id.to_string()));
    }
    compare_result(execution, &signed)?;
    compare_output(evidence, &signed)?;
    let mut not_checked = Vec::new();
    if !evidence.is_key_given {
        not_checked.push(
            "the key, because the server showed it; pass the fingerprint that `muster-agent status` prints on the \
             host with --public-key"
                .to_owned(),
        );
    }
    match &signed.run {
        Some(run) => compare_request(execution, run, &mut not_checked)?,
        None => not_checked.push(
            "script, words, parameters and times, which an agent signs only for a run whose end it saw".to_owned(),
        ),
    }
    not_checked.push("who requested it, the server's times and the text of the error".to_owned());
    Ok(Checked { signed, not_checked })
}

/// Compares what was requested with what was run.
fn compare_request(
    execution: &Value,
    run: &AttestedRun,
    not_checked: &mut Vec<String>,
) -> Result<(), Finding> {
    if let Some(steps) = field::<Vec<Value>>(execution, "steps").filter(|all| !all.is_empty()) {
        return steps::compare(&steps, run, not_checked);
    }
    if let Some(argv) = field::<Vec<String>>(execution, "argv") {
        if run.script.is_some() || run.program_sha256 != Some(sha256(&words_message(&argv))) {
            return Err(Finding::RequestChanged("words of the ad-hoc command were"));
        }
    } else if run.script.is_none() {
        return Err(Finding::RequestChanged("words of the ad-hoc command were"));
    }
    let changed = Finding::RequestChanged("parameters were");
    let Some(parameters) = field::<Parameters>(execution, "parameters") else {
        return Err(changed);
    };
    let mut names = field::<Vec<String>>(execution, "secret_names").unwrap_or_default();
    let count = run.secret_count;
    if count > 0 && names.is_empty() {
        not_checked.push(
            "the parameters, because the server does not show the names of the secret ones"
                .to_owned(),
        );
        return Ok(());
    }
    // The order in which the agent signs them.
    names.sort_unstable();
    let open = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let message = parameters_message(open, names.iter().map(String::as_str));
    if u32::try_from(names.len()) != Ok(count) || run.parameters_sha256 != sha256(&message) {
        return Err(changed);
    }
    if count > 0 {
        not_checked.push(format!("values of secret parameters ({count}), which no hash contains"));
    }
    Ok(())
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
    // Without a result the server shows how much is stored, which must be nothing.
    if execution.get("output_bytes").is_some_and(|stored| !stored.is_null()) || result.is_some() {
        let output_bytes = result.map_or(0, |result| result.output_bytes);
        fields.push(("output_bytes", json!(output_bytes)));
    }
    if let Some(run) = &signed.run {
        fields.push(("script", json!(run.script)));
    }
    steps::compare_results(execution, result.map_or(&[], |result| &result.steps))?;
    for (field, signed) in fields {
        let stored = execution.get(field).cloned().unwrap_or_default();
        if stored != signed {
            return Err(Finding::Changed { field, stored, signed });
        }
    }
    Ok(())
}

fn compare_output(evidence: &Evidence, signed: &AttestedExecution) -> Result<(), Finding> {
    let stored = evidence.stored.as_ref();
    let bytes =
        stored.map_or(0, |stored| stored.both.bytes.max(stored.stdout.bytes + stored.stderr.bytes));
    let signed_bytes = signed.result.as_ref().map_or(0, |result| result.output_bytes);
    if signed_bytes == 0 {
        return if bytes == 0 { Ok(()) } else { Err(Finding::AddedOutput(bytes)) };
    }
    let result = signed.result.as_ref();
    let Some(stored) = stored.filter(|stored| stored.both.bytes >= signed_bytes) else {
        let stored = stored.map_or(0, |stored| stored.both.bytes);
        return Err(Finding::Incomplete { stored, signed: signed_bytes });
    };
    let hash = |of: fn(&ExecuteResult) -> &Option<String>| {
        result.and_then(|result| of(result).as_ref()).ok_or(Finding::UnsignedOutput)
    };
    if stored.both.sha256 != *hash(|result| &result.output_sha256)? {
        return Err(Finding::OutputChanged);
    }
    let is_same = stored.stdout.sha256 == *hash(|result| &result.stdout_sha256)?
        && stored.stderr.sha256 == *hash(|result| &result.stderr_sha256)?;
    if is_same { Ok(()) } else { Err(Finding::StreamsChanged) }
}

#[cfg(test)]
mod tests {
    use muster_protocol::commands::attestation::ATTESTATION_VERSION;
    use muster_protocol::frame::Outcome;
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
            run: Some(AttestedRun {
                script: None,
                library_version: None,
                program_sha256: Some(sha256(&words_message(&["echo".into(), "a".into()]))),
                parameters_sha256: sha256(&parameters_message(
                    [("A", "1")].into_iter(),
                    ["S"].into_iter(),
                )),
                secret_count: 1,
                defaults_sha256: None,
                policy: None,
                started_at_ms: 1,
                ended_at_ms: 2,
                steps: Vec::new(),
            }),
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
                stdout_sha256: Some("bb".into()),
                stderr_sha256: Some("cc".into()),
                steps: Vec::new(),
                rehearsal: None,
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
            "argv": ["echo", "a"], "parameters": {"A": "1"}, "secret_names": ["S"],
        });
        let requested = Some(Uuid::from_u128(1).to_string());
        let expected = Some(pair(1).public_key().fingerprint());
        let stored = Some(output(2, ["aa", "bb", "cc"]));
        Evidence { requested, execution, stored, expected, is_key_given: true }
    }

    fn output(bytes: u64, hashes: [&str; 3]) -> StoredOutput {
        let stream = |bytes, sha256: &str| StreamOutput { bytes, sha256: sha256.into() };
        StoredOutput {
            both: stream(bytes, hashes[0]),
            stdout: stream(bytes, hashes[1]),
            stderr: stream(0, hashes[2]),
        }
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
        let cases: [(Change, &str); 21] = [
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
            (|of| of.stored = Some(output(2, ["ab", "bb", "cc"])), "SHA-256"),
            (|of| of.stored = Some(output(1, ["aa", "bb", "cc"])), "incomplete"),
            (|of| of.stored = Some(output(2, ["aa", "b1", "cc"])), "bytes of one stream"),
            (|of| of.stored = Some(output(2, ["aa", "bb", "c1"])), "bytes of one stream"),
            (|of| of.requested = Some(Uuid::from_u128(5).to_string()), "that you asked for"),
            (|of| of.execution["argv"] = json!(["echo", "b"]), "words of the ad-hoc"),
            (|of| of.execution["argv"] = Value::Null, "words of the ad-hoc"),
            (|of| of.execution["script"] = json!("deploy"), "`script` is \"deploy\""),
            (|of| of.execution["parameters"] = json!({"A": "2"}), "parameters were changed"),
            (|of| of.execution["parameters"] = json!({}), "parameters were changed"),
            (|of| of.execution["secret_names"] = json!(["T"]), "parameters were changed"),
            (|of| of.execution["secret_names"] = json!(["S", "T"]), "parameters were changed"),
            (|of| of.stored = None, "0 bytes are stored, and the agent signed 2"),
            (|of| of.expected = None, "--public-key"),
        ];
        for (index, (change, words)) in cases.into_iter().enumerate() {
            let found = finding(change);
            assert!(found.contains(words), "case {index}: {found}");
        }
    }

    /// An execution of which the agent signed an end without a result.
    fn without_result(change: fn(&mut Value)) -> Result<Checked, Finding> {
        let execution = AttestedExecution {
            version: ATTESTATION_VERSION,
            command_id: Uuid::from_u128(1),
            agent_id: Uuid::from_u128(9),
            public_key: pair(1).public_key(),
            outcome: Outcome::Rejected,
            error_code: Some("unknown_script".into()),
            run: None,
            result: None,
        };
        let mut shown = json!({
            "id": execution.command_id, "agent_id": execution.agent_id, "state": "rejected",
            "error_code": "unknown_script", "script": "gone", "output_bytes": 0,
            "attestation": Attestation::sign(&execution, &pair(1)),
        });
        change(&mut shown);
        let bytes = shown["stored"].as_u64().unwrap_or(0);
        check(&Evidence {
            execution: shown,
            stored: Some(output(bytes, ["", "", ""])),
            ..evidence()
        })
    }

    #[test]
    fn a_refused_execution_has_no_output_and_its_script_counts_as_not_checked() {
        let checked = without_result(|_| ()).expect("as signed");
        assert!(checked.not_checked[0].starts_with("script, words, parameters"));
        let added = without_result(|of| of["output_bytes"] = json!(4)).expect_err("found");
        assert!(added.to_string().contains("`output_bytes` is 4"), "{added}");
        assert_eq!(without_result(|of| of["stored"] = json!(4)), Err(Finding::AddedOutput(4)));
    }

    #[test]
    fn names_of_secrets_that_the_server_hides_are_named_as_not_checked() {
        let mut hidden = evidence();
        hidden.execution["secret_names"] = Value::Null;
        hidden.is_key_given = false;
        let found = check(&hidden).expect("as signed").not_checked;
        assert!(found[0].starts_with("the key, because"), "{found:?}");
        assert!(found[1].starts_with("the parameters, because"), "{found:?}");
    }
}
