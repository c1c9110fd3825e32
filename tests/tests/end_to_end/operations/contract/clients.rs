//! Clients that generators of other projects make from the OpenAPI document work against a server.

use std::path::Path;

use muster_tests::{Agent, AgentOptions, Fixture, Script, repository, run_tool, test_tools};

/// A server with an agent that has the script `greet`.
async fn fleet() -> (Fixture, Agent, String) {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([Script::new("greet", "echo hello; exit 3")]);
    let (agent, id) = fixture.agent(options).await;
    let document = fixture.api.get("/openapi.json").await;
    let file = fixture.test_dir.path().join("openapi.json");
    std::fs::write(file, document.bytes).expect("write the document");
    (fixture, agent, id)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain text")
}

#[tokio::test]
async fn generated_python_client_makes_a_round_trip() {
    let (fixture, _agent, id) = fleet().await;
    let (folder, tools) = (fixture.test_dir.path(), test_tools("python").join("bin"));
    let generate =
        ["generate", "--path", "openapi.json", "--output-path", "client", "--meta", "none"];
    let path = format!("{}:/usr/bin:/bin", tools.display());
    let environment = [("PATH", path.as_str())];
    let report = run_tool(&tools.join("openapi-python-client"), &generate, &environment, folder);
    // Streams and binary bodies have no type in Python; everything else must have one.
    for warning in report.split("WARNING").skip(1) {
        let is_expected =
            ["text/event-stream", "application/vnd.muster.exchange", "openmetrics", "x-ndjson"];
        assert!(is_expected.iter().any(|kind| warning.contains(kind)), "{report}");
    }
    let script = repository().join("tests/tools/round_trip.py");
    let environment =
        [("MUSTER", &*fixture.server.url()), ("KEY", fixture.api.key()), ("AGENT", &id)];
    let environment = [&environment[..], &[("PYTHONPATH", text(folder))]].concat();
    let said = run_tool(&tools.join("python"), &[text(&script)], &environment, folder);
    assert_eq!(said.trim(), "failed 3 hello");
}

#[tokio::test]
async fn generated_typescript_client_makes_a_round_trip() {
    let (fixture, _agent, id) = fleet().await;
    let (folder, tools) = (fixture.test_dir.path(), test_tools("node"));
    std::os::unix::fs::symlink(tools.join("node_modules"), folder.join("node_modules"))
        .expect("link the modules");
    let programs = tools.join("node_modules/.bin");
    let generate = ["openapi.json", "-o", "schema.d.ts"];
    run_tool(&programs.join("openapi-typescript"), &generate, &[], folder);
    for file in ["round_trip.ts", "tsconfig.json"] {
        std::fs::copy(repository().join("tests/tools").join(file), folder.join(file))
            .expect("copy the program");
    }
    std::fs::write(folder.join("package.json"), r#"{"type": "module"}"#).expect("write");
    run_tool(&programs.join("tsc"), &["--project", "."], &[], folder);
    let environment =
        [("MUSTER", &*fixture.server.url()), ("KEY", fixture.api.key()), ("AGENT", &id)];
    let said = run_tool("node".as_ref(), &["round_trip.js"], &environment, folder);
    assert_eq!(said.trim(), "failed 3 hello");
}
