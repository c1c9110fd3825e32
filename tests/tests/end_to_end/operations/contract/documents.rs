//! The documents that a server serves are valid, by validators of other projects.

use std::path::PathBuf;

use muster_tests::{Fixture, repository, run_tool, test_tools};

/// A document as a running server serves it, in a file.
async fn served(fixture: &Fixture, path: &str, content_type: &str) -> PathBuf {
    let answer = fixture.api.get(path).await;
    assert_eq!(answer.status, 200, "{path}");
    assert_eq!(answer.header("content-type"), content_type, "{path}");
    let file = fixture.test_dir.path().join(path.trim_start_matches('/'));
    std::fs::write(&file, &answer.bytes).expect("write the document");
    file
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("plain text")
}

#[tokio::test]
async fn openapi_document_is_valid() {
    let fixture = Fixture::on_sqlite().await;
    let file = served(&fixture, "/openapi.json", "application/json").await;
    let folder = fixture.test_dir.path();
    let python = test_tools("python").join("bin/python");
    let validator = ["-m", "openapi_spec_validator", "--schema", "3.1", text(&file)];
    run_tool(&python, &validator, &[], folder);
    let redocly = test_tools("node").join("node_modules/.bin/redocly");
    let config = repository().join("tests/tools/redocly.yaml");
    let lint = ["lint", "--config", text(&config), "--format", "stylish", text(&file)];
    let report = run_tool(&redocly, &lint, &[], folder);
    assert!(!report.contains("warning"), "{report}");
}

#[tokio::test]
async fn protocol_documents_are_valid_and_describe_the_frames() {
    let fixture = Fixture::on_sqlite().await;
    let folder = fixture.test_dir.path();
    let asyncapi = served(&fixture, "/asyncapi.json", "application/json").await;
    let check = repository().join("tests/tools/check-asyncapi.mjs");
    let modules = test_tools("node").join("node_modules");
    run_tool("node".as_ref(), &[text(&check), text(&modules), text(&asyncapi)], &[], folder);
    let frames = served(&fixture, "/frames.schema.json", "application/schema+json").await;
    let python = test_tools("python").join("bin/python");
    let check = repository().join("tests/tools/check_frames.py");
    let samples = repository().join("protocol/tests/snapshots");
    run_tool(&python, &[text(&check), text(&frames), text(&samples)], &[], folder);
}
