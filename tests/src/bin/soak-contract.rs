//! Schemathesis against a server on each database: requests made from the OpenAPI document, with ids of
//! resources that exist. Ends with an error if any answer differs from the document.

use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use clap::Parser;
use muster_tests::{
    ALL, AgentOptions, Api, Fixture, JsonFields as _, Script, repository, test_tools,
};
use serde_json::{Value, json};

/// Compare the server with its OpenAPI document.
#[derive(Parser)]
struct Arguments {
    /// How long to send requests to each server, in minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Where Schemathesis' random choices start; a new one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only on one database: `sqlite` or `postgres`.
    #[arg(long, value_parser = ["sqlite", "postgres"])]
    store: Option<String>,
    /// Requests to each operation in a phase, at most.
    #[arg(long)]
    cases: Option<u64>,
    /// The phases, with commas between them.
    #[arg(long, default_value = "examples,coverage,fuzzing,stateful")]
    phases: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut is_good = true;
    for is_postgres in [false, true] {
        let store = if is_postgres { "postgres" } else { "sqlite" };
        if arguments.store.as_ref().is_some_and(|only| only != store) {
            continue;
        }
        let fixture =
            if is_postgres { Fixture::on_postgres().await } else { Fixture::on_sqlite().await };
        println!("=== {}", if is_postgres { "PostgreSQL" } else { "SQLite" });
        is_good &= one(&fixture, &arguments).await;
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run against one server; true if nothing was found.
async fn one(fixture: &Fixture, arguments: &Arguments) -> bool {
    let scripts = [Script::new("greet", "echo hello"), Script::new("guarded", "echo hello")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let config = configuration(fixture, &agent).await;
    let folder = fixture.test_dir.path();
    std::fs::write(folder.join("schemathesis.toml"), config).expect("write the configuration");
    let document = fixture.api.get("/openapi.json").await;
    std::fs::write(folder.join("openapi.json"), document.bytes).expect("write the document");
    let mut command = Command::new(test_tools("python").join("bin/schemathesis"));
    command
        .args(["--config-file", "schemathesis.toml", "run", "openapi.json"])
        .args(["--url", &fixture.server.url(), "--checks", "all", "--no-color"])
        .args(["--phases", &arguments.phases])
        .args(["--max-time", &(arguments.minutes * 60).to_string()])
        .args(["--request-timeout", "75", "--max-response-time", "70", "--continue-on-failure"]);
    for (option, value) in [("--seed", arguments.seed), ("--max-examples", arguments.cases)] {
        if let Some(value) = value {
            command.args([option, &value.to_string()]);
        }
    }
    command.current_dir(folder).env("HOME", folder).status().expect("run schemathesis").success()
}

/// The committed configuration, with ids that exist.
async fn configuration(fixture: &Fixture, agent: &str) -> String {
    let api = &fixture.api;
    let template = repository().join("tests/tools/schemathesis.toml");
    let mut text = std::fs::read_to_string(template).expect("read the configuration");
    let (key, secret) = api.agent_key(json!({"permissions": ALL})).await;
    let job = json!({"script": "greet", "target": {"ids": [agent]},
        "webhook": {"url": "https://hooks.invalid/x"}});
    let job = created(api, "/api/jobs", job, 202).await;
    let executions = api.get(&format!("/api/jobs/{job}/executions")).await.expect(200);
    let execution = executions["items"][0].id().to_owned();
    api.finished(&execution).await;
    let group = json!({"name": "a group", "target": {"tags": ["none"]}});
    let group = created(api, "/api/groups", group, 201).await;
    let rollout = json!({"script": "greet", "target": {"ids": [agent]},
        "rollout": {"wave_size": 1, "pause_ms": 1000}});
    let rollout = created(api, "/api/jobs", rollout, 202).await;
    for (secret, variable) in [(api.key(), "API_KEY"), (secret.as_str(), "AGENT_KEY")] {
        text = text.replace(variable, secret);
    }
    for (path, ids, more) in resources(fixture, agent).await {
        let [kept, doomed] = ids;
        // What is deleted is missing for all requests after that.
        for (filter, id) in [("exclude-method", kept), ("include-method", doomed)] {
            write!(text, "\n[[operations]]\ninclude-path-regex = '{path}'\n{filter} = \"DELETE\"\nparameters = {{ \"path.id\" = \"{id}\"{more} }}\n")
                .expect("a string");
        }
    }
    let existing = [
        (r"^/api/agents/\{id\}/", vec![agent.to_owned()]),
        (r"^/api/agents/keys/\{id\}/(command|ping)", vec![key.clone()]),
        (r"^/api/commands/\{id\}", vec![execution.clone()]),
        (r"^/api/executions/\{id\}", vec![execution]),
        (r"^/api/jobs/\{id\}", vec![job, rollout]),
        (r"^/api/groups/\{id\}/", vec![group]),
    ];
    for (path, ids) in existing {
        let ids = json!(ids);
        write!(text, "\n[[operations]]\ninclude-path-regex = '{path}'\nparameters = {{ \"path.id\" = {ids} }}\n")
            .expect("a string");
    }
    text
}

/// Paths, and for each a resource to call and one to delete.
async fn resources(fixture: &Fixture, agent: &str) -> Vec<(&'static str, [String; 2], String)> {
    let api = &fixture.api;
    let job = json!({"script": "greet", "target": {"ids": [agent]}});
    let of_disks = json!({"metric": "disk_percent", "threshold": 90});
    let kinds = [
        (r"^/(api/)?hooks/\{id\}", "/api/hooks", json!({"authentication": "bearer", "job": job})),
        (
            r"^/api/schedules/\{id\}",
            "/api/schedules",
            json!({"rule": {"every_ms": 86_400_000}, "job": job}),
        ),
        (
            r"^/api/integrations/\{id\}",
            "/api/integrations",
            json!({"kind": "slack",
            "event_types": ["job.failed"], "settings": {"url": "https://hooks.invalid/x"}}),
        ),
        (r"^/api/alerts/rules/\{id\}", "/api/alerts/rules", of_disks),
        (
            r"^/api/calendars/\{id\}",
            "/api/calendars",
            json!({"entries": [
            {"kind": "exclusion", "dates": ["2026-12-25"]}]}),
        ),
        (r"^/api/scripts/\{id\}", "/api/scripts", json!({"body": "true\n", "interpreter": "sh"})),
        (r"^/api/keys/\{id\}", "/api/keys", json!({"role": "member"})),
        (r"^/api/approvals/rules/\{id\}", "/api/approvals/rules", json!({"scripts": ["guarded"]})),
    ];
    let mut resources = Vec::new();
    for (path, list, body) in kinds {
        let mut ids = [String::new(), String::new()];
        for (number, id) in ids.iter_mut().enumerate() {
            let mut body = body.clone();
            body["name"] = json!(format!("contract-{number}"));
            *id = created(api, list, body, 201).await;
        }
        let more = if list == "/api/scripts" { r#", "path.version" = 1"# } else { "" };
        resources.push((path, ids, more.to_owned()));
    }
    let owner = fixture.owner().await;
    let mut members = [String::new(), String::new()];
    for (id, email) in members.iter_mut().zip(["grace@example.com", "joan@example.com"]) {
        *id = owner.add(email, "member").await.member_id;
    }
    resources.push((r"^/api/members/\{id\}", members, String::new()));
    let mut approvals = [String::new(), String::new()];
    for id in &mut approvals {
        let body = json!({"script": "guarded", "target": {"ids": [agent]}});
        api.post("/api/jobs", body).await.expect(202);
        let page = api.get("/api/approvals?state=pending").await.expect(200);
        *id = page["items"][0].id().to_owned();
    }
    resources.push((r"^/api/approvals/\{id\}", approvals, String::new()));
    resources
}

async fn created(api: &Api, path: &str, body: Value, status: u16) -> String {
    api.post(path, body).await.expect(status).id().to_owned()
}
