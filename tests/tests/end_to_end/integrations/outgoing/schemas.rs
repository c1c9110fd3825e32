//! What the server sends, read with the schemas that the providers publish.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Script, WebhookSink, repository, run_tool, test_tools,
};
use serde_json::{Map, Value, json};

use super::super::webhooks::options;
use super::{base, delivered, integration};

/// Everything that the test makes happen.
const EVENTS: [&str; 8] = [
    "agent.enrolled",
    "agent.offline",
    "agent.online",
    "job.succeeded",
    "job.failed",
    "schedule.failed",
    "alert.opened",
    "alert.resolved",
];
/// Messages that the events above and a test of the integration make at least.
const MESSAGES: usize = EVENTS.len() + 1;

/// An integration with facts in its messages and one with a template, both to a path of their own.
async fn kind(fixture: &Fixture, receiver: &WebhookSink, kind: &str) -> Vec<String> {
    let url = match kind {
        "datadog" => format!("{}/{kind}", base(receiver)),
        _ => format!("{}/{kind}/", base(receiver)),
    };
    let template = "{{ title }} & <b>@everyone</b> {{ timestamp }}";
    let mut paths = Vec::new();
    for (name, template) in [("facts", Value::Null), ("template", template.into())] {
        let key = matches!(kind, "pagerduty" | "datadog").then_some("0123456789abcdef");
        let mut settings = json!({"url": url});
        if let Some(key) = key {
            settings["key"] = json!(key);
        }
        let more = json!({"name": format!("{kind} {name}"), "settings": settings,
            "event_types": EVENTS, "template": template});
        paths.push(integration(fixture, kind, more).await);
    }
    paths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_fit_what_the_providers_publish() {
    let fixture = Fixture::with(options()).await;
    let receiver = WebhookSink::start([]).await;
    let mut paths = Vec::new();
    for name in ["slack", "discord", "teams", "pagerduty", "datadog"] {
        paths.extend(kind(&fixture, &receiver, name).await);
    }
    for path in &paths {
        fixture.api.post(&format!("{path}/test"), json!({})).await.expect(200);
    }
    let scripts = [Script::new("good", "exit 0"), Script::new("bad", "exit 3")];
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let odd = json!({"name": "web-1 *@everyone* <https://x>"});
    fixture.api.patch(&format!("/api/agents/{id}"), odd).await.expect(200);
    let rule = json!({"name": "down", "metric": "agents_online", "threshold": 1, "for_ms": 0});
    fixture.api.post("/api/alerts/rules", rule).await.expect(201);
    for script in ["good", "bad"] {
        let job = json!({"script": script, "target": {"ids": [id]}});
        fixture.api.post("/api/jobs", job).await.expect(202);
    }
    let body = json!({"name": "nightly <!channel>", "rule": {"every_ms": 3_600_000},
        "job": {"script": "bad", "target": {"expression": "all"}}});
    let schedule = fixture.api.post("/api/schedules", body).await.expect(201);
    let run = format!("/api/schedules/{}/run", schedule.id());
    fixture.api.post(&run, json!({})).await.expect(202);
    for path in &paths {
        delivered(&fixture.api, path, "schedule.failed").await;
    }
    agent.kill_9();
    for path in &paths {
        delivered(&fixture.api, path, "alert.opened").await;
        delivered(&fixture.api, path, "agent.offline").await;
    }
    agent.resume();
    for path in &paths {
        for event in EVENTS {
            delivered(&fixture.api, path, event).await;
        }
    }
    let mut bodies = Map::new();
    for message in receiver.received() {
        let kind = match message.path.trim_matches('/').split_once('/') {
            Some(("datadog", "api/v1/events")) => "datadog_events",
            Some(("datadog", "api/v2/series")) => "datadog_metrics",
            None => message.path.trim_matches('/'),
            other => panic!("a message to {other:?}"),
        };
        let of_kind = bodies.entry(kind).or_insert_with(|| json!([]));
        of_kind.as_array_mut().expect("a list").push(message.json());
    }
    assert_eq!(bodies.len(), 6, "{:?}", bodies.keys());
    for (kind, bodies) in &bodies {
        let count = bodies.as_array().map(Vec::len).unwrap_or_default();
        assert!(count >= 2 * MESSAGES, "{kind}: {count}");
    }
    let folder = fixture.test_dir.path();
    let file = folder.join("payloads.json");
    std::fs::write(&file, Value::from(bodies).to_string()).expect("write");
    let file = file.to_str().expect("text");
    let tool = |name: &str| repository().join("tests/tools").join(name);
    let (of_node, of_python) = (tool("check_payloads.mjs"), tool("check_payloads.py"));
    let modules = test_tools("node").join("node_modules");
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let said = run_tool("node".as_ref(), &[&text(&of_node), &text(&modules), file], &[], folder);
    assert!(said.contains("teams"), "{said}");
    let python = test_tools("python").join("bin/python");
    let said = run_tool(&python, &[&text(&of_python), file], &[], folder);
    assert!(said.contains("slack"), "{said}");
}
