//! What is checked of the examples of the OpenAPI document.

use muster_protocol::commands::attestation::Attestation;
use muster_tests::{Fixture, repository, run_tool, test_tools};
use serde_json::Value;

/// Validates requests and answers against the document.
pub fn check(fixture: &Fixture, document: &Value, examples: &Value) {
    let folder = fixture.test_dir.path();
    for (name, value) in [("openapi.json", document), ("examples.json", examples)] {
        std::fs::write(folder.join(name), value.to_string()).expect("write");
    }
    let script = repository().join("tests/tools/check_examples.py");
    let script = script.to_str().expect("plain text");
    let args = [script, "openapi.json", "examples.json"];
    run_tool(&test_tools("python").join("bin/python"), &args, &[], folder);
    let mut attestations = Vec::new();
    find_attestations(examples, &mut attestations);
    assert!(!attestations.is_empty(), "no example has an attestation");
    for attestation in attestations {
        let read = attestation.read().expect("a document of this version");
        let written = serde_json::to_string(&read).expect("plain data");
        assert_eq!(attestation.document, written, "it has the fields that agents write now");
    }
}

fn find_attestations(value: &Value, into: &mut Vec<Attestation>) {
    if let Some(found) = value.get("attestation").filter(|found| !found.is_null()) {
        into.push(serde_json::from_value(found.clone()).expect("an attestation"));
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| find_attestations(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| find_attestations(value, into)),
        _ => {}
    }
}
