//! Compares the steps of an execution, and their results, with what the agent signed. Pure.

use muster_protocol::commands::attestation::{AttestedRun, parameters_message, words_message};
use muster_protocol::commands::step::StepResult;
use muster_protocol::parameter::Parameters;
use serde_json::{Value, json};

use super::fields::{field, sha256};
use super::finding::Finding;

/// Compares what was requested with what was run.
pub fn compare(
    steps: &[Value],
    run: &AttestedRun,
    not_checked: &mut Vec<String>,
) -> Result<(), Finding> {
    if steps.len() != run.steps.len() {
        return Err(Finding::RequestChanged("steps were"));
    }
    for (step, signed) in steps.iter().zip(&run.steps) {
        let argv = field::<Vec<String>>(step, "argv");
        let is_same = match &argv {
            // A step that was not started has no hash.
            Some(argv) => {
                let words = sha256(&words_message(argv));
                signed.script.is_none()
                    && signed.program_sha256.as_ref().is_none_or(|signed| *signed == words)
            }
            None => signed.script.is_some() && field(step, "script") == signed.script,
        };
        if !is_same {
            return Err(Finding::RequestChanged("scripts and words of the steps were"));
        }
        let open = field::<Parameters>(step, "parameters").unwrap_or_default();
        let mut secrets = field::<Vec<String>>(step, "secrets").unwrap_or_default();
        // The order in which the agent signs them.
        secrets.sort_unstable();
        secrets.dedup();
        let open = open.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let open: Vec<_> = open.collect();
        let names = secrets.iter().map(String::as_str);
        let message = parameters_message(open.into_iter(), names);
        let is_same = u32::try_from(secrets.len()) == Ok(signed.secret_count)
            && signed.parameters_sha256 == sha256(&message);
        if !is_same {
            return Err(Finding::RequestChanged("parameters of the steps were"));
        }
    }
    if run.steps.iter().any(|step| step.secret_count > 0) {
        not_checked.push("values of secret parameters, which no hash contains".to_owned());
    }
    Ok(())
}

/// Compares the results of the steps.
pub fn compare_results(execution: &Value, signed: &[StepResult]) -> Result<(), Finding> {
    let mut stored = field::<Vec<Value>>(execution, "steps").unwrap_or_default();
    let is_lost = execution.get("state").and_then(Value::as_str) == Some("lost");
    // Of a lost execution, the server may show what the agent told before, which it did not sign.
    if signed.is_empty() && is_lost {
        return Ok(());
    }
    // Without a result a step is as it was requested.
    let has_result =
        |step: &Value| step["state"].as_str().is_some_and(|state| !(is_lost && state == "unknown"));
    while stored.len() > signed.len() && stored.last().is_some_and(|step| !has_result(step)) {
        stored.pop();
    }
    let shown = |step: &Value| {
        json!([
            step.get("state"),
            step.get("exit_code"),
            step.get("signal"),
            step.get("duration_ms"),
            step.get("output_from_bytes"),
            step.get("output_to_bytes"),
        ])
    };
    let of_signed = |step: &StepResult| {
        json!([
            step.state,
            step.exit_code,
            step.signal,
            step.duration_ms,
            step.from_bytes,
            step.to_bytes
        ])
    };
    let stored: Value = stored.iter().map(shown).collect();
    let signed: Value = signed.iter().map(of_signed).collect();
    if stored != signed {
        return Err(Finding::Changed { field: "steps", stored, signed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use muster_protocol::commands::attestation::AttestedStep;
    use muster_protocol::commands::step::StepState;

    use super::*;

    fn signed() -> (AttestedRun, Vec<StepResult>) {
        let step = |script: Option<&str>, program: Option<String>, parameters: &[(&str, &str)]| {
            AttestedStep {
                script: script.map(str::to_owned),
                library_version: None,
                program_sha256: program,
                parameters_sha256: sha256(&parameters_message(
                    parameters.iter().copied(),
                    std::iter::empty(),
                )),
                secret_count: 0,
                defaults_sha256: None,
            }
        };
        let words = sha256(&words_message(&["true".into()]));
        let steps = vec![step(Some("deploy"), None, &[("A", "1")]), step(None, Some(words), &[])];
        let run = AttestedRun {
            script: Some("steps:deploy,(argv)".into()),
            library_version: None,
            program_sha256: None,
            parameters_sha256: String::new(),
            secret_count: 0,
            defaults_sha256: None,
            policy: None,
            started_at_ms: 1,
            ended_at_ms: 2,
            steps,
        };
        let result = StepResult { state: StepState::Succeeded, ..StepResult::skipped(None, 0) };
        (run, vec![result.clone(), StepResult { exit_code: Some(0), to_bytes: 3, ..result }])
    }

    #[test]
    fn every_change_of_a_step_is_found() {
        let (run, results) = signed();
        let step = |requested: Value, exit_code: Value, to: u64| {
            let mut step = json!({"state": "succeeded", "exit_code": exit_code, "signal": null,
                "duration_ms": null, "output_from_bytes": 0, "output_to_bytes": to});
            for (name, value) in requested.as_object().expect("an object") {
                step[name] = value.clone();
            }
            step
        };
        let deploy = json!({"script": "deploy", "argv": null, "parameters": {"A": "1"}});
        let program = json!({"script": null, "argv": ["true"], "parameters": {}});
        let steps = json!([step(deploy, Value::Null, 0), step(program, json!(0), 3)]);
        let check = |steps: &Value| {
            let list: Vec<Value> = steps.as_array().expect("a list").clone();
            compare(&list, &run, &mut Vec::new())
                .and_then(|()| compare_results(&json!({ "steps": steps }), &results))
        };
        assert_eq!(check(&steps), Ok(()));
        for (pointer, value) in [
            ("/0/script", json!("other")),
            ("/0/parameters/A", json!("2")),
            ("/0/secrets", json!(["B"])),
            ("/0/argv", json!(["true"])),
            ("/0/state", json!("failed")),
            ("/0/output_to_bytes", json!(1)),
            ("/1/argv", json!(["false"])),
            ("/1/exit_code", json!(1)),
        ] {
            let mut changed = steps.clone();
            let (at, name) = pointer.rsplit_once('/').expect("a path");
            match changed.pointer_mut(pointer) {
                Some(field) => *field = value,
                None => changed.pointer_mut(at).expect("a step")[name] = value,
            }
            assert!(check(&changed).is_err(), "{pointer}");
        }
        let shorter = json!([steps[0]]);
        assert!(check(&shorter).is_err(), "a step is missing");
    }
}
