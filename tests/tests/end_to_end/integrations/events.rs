//! The event stream: for viewers that follow, viewers that reconnect, and no one else.

use muster_tests::{
    AgentOptions, Api, Fixture, JsonFields as _, LiveEvent, LiveStream, Script, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    events_are_streamed_as_they_happen,
    reconnecting_client_misses_no_event_or_is_notified
);

const ALL: &str = "/api/events";

/// An agent with two scripts, and its id.
async fn agent(fixture: &Fixture) -> (muster_tests::Agent, String) {
    let scripts = [Script::new("hello", "echo hello"), Script::new("bye", "exit 1")];
    fixture.agent(AgentOptions::with_scripts(scripts)).await
}

/// Opens a stream. Everything after this is published to it.
async fn looking_on(api: &Api, path: &str) -> LiveStream {
    let mut stream = LiveStream::open(api, path, "").await.expect("a live stream");
    let first = stream.next().await.expect("a first event");
    assert_eq!((first.name.as_str(), first.data), ("ready", json!({})));
    stream
}

/// The next event with this name and all of `fields`.
async fn next_event(stream: &mut LiveStream, name: &str, fields: Value) -> LiveEvent {
    loop {
        let event = stream.expect(name).await;
        let is_equal = |(field, value): (&String, &Value)| event.data[field] == *value;
        if fields.as_object().expect("fields").iter().all(is_equal) {
            return event;
        }
    }
}

async fn run(fixture: &Fixture, agent: &str, script: &str) -> String {
    let id = fixture.api.execute(agent, script, json!({})).await;
    fixture.api.finished(&id).await;
    id
}

async fn job(fixture: &Fixture, script: &str, agent: &str) -> String {
    let body = json!({"script": script, "target": {"ids": [agent]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    job.id().to_owned()
}

async fn events_are_streamed_as_they_happen(fixture: Fixture) {
    let (mut agent, id) = agent(&fixture).await;
    let mut stream = looking_on(&fixture.api, ALL).await;
    let mut jobs = looking_on(&fixture.api, "/api/events?types=job&script=bye").await;
    let mut of_agent =
        looking_on(&fixture.api, &format!("{ALL}?types=agent,execution&agent={id}")).await;
    let command = run(&fixture, &id, "hello").await;
    let event =
        next_event(&mut stream, "execution", json!({"id": command, "state": "succeeded"})).await;
    let expected = json!({"id": command, "job_id": null, "agent_id": id, "script": "hello",
                          "state": "succeeded"});
    assert_eq!(event.data, expected);

    job(&fixture, "hello", &id).await;
    let bye = job(&fixture, "bye", &id).await;
    let event =
        next_event(&mut stream, "execution", json!({"job_id": bye, "state": "failed"})).await;
    assert_eq!(event.data["script"], "bye");
    for stream in [&mut stream, &mut jobs] {
        let event = next_event(stream, "job", json!({"id": bye, "state": "failed"})).await;
        assert_eq!(event.data["counts"], json!({"failed": 1}));
        assert!(event.data["finished_at"].is_string(), "{event:?}");
    }
    agent.stop();
    for stream in [&mut stream, &mut of_agent] {
        next_event(stream, "agent", json!({"id": id, "status": "offline"})).await;
    }
    agent.resume();
    next_event(&mut of_agent, "agent", json!({"id": id, "status": "online"})).await;
}

async fn reconnecting_client_misses_no_event_or_is_notified(mut fixture: Fixture) {
    let (_agent, id) = agent(&fixture).await;
    let mut stream = looking_on(&fixture.api, "/api/events?types=execution").await;
    let first = run(&fixture, &id, "hello").await;
    let seen =
        next_event(&mut stream, "execution", json!({"id": first, "state": "succeeded"})).await;
    drop(stream);
    let missed = run(&fixture, &id, "bye").await;
    let again = async |last_id: &str| {
        let stream = LiveStream::open(&fixture.api, "/api/events?types=execution", last_id).await;
        stream.expect("a live stream")
    };
    let mut stream = again(&seen.id).await;
    let next = stream.next().await.expect("what was missed");
    assert_eq!((next.name.as_str(), &next.data["id"]), ("execution", &json!(missed)));
    let last = match next.data["state"] == "failed" {
        true => next,
        false => {
            next_event(&mut stream, "execution", json!({"id": missed, "state": "failed"})).await
        }
    };
    for id in ["nonsense", "0-0", "x-18446744073709551615"] {
        assert_eq!(again(id).await.next().await.expect("an event").name, "reset", "{id}");
    }
    fixture.server.stop();
    assert_eq!(stream.next().await, None, "the server has left its viewers hanging");
    fixture.server.resume();
    fixture.server.ready().await;
    let stream = LiveStream::open(&fixture.api, "/api/events?types=execution", &last.id).await;
    let reset = stream.expect("a live stream").next().await.expect("an event");
    assert_eq!((reset.name.as_str(), reset.data), ("reset", json!({})));
}

#[tokio::test]
async fn invalid_event_stream_requests_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let refused =
        async |api: &Api, path: &str| LiveStream::open(api, path, "").await.expect_err("a refusal");
    for path in [
        "/api/events?types=weather",
        "/api/events?types=",
        "/api/events?agent=x",
        "/api/events?x=1",
    ] {
        refused(&fixture.api, path).await.expect_problem(400, "invalid_query");
    }
    let key = json!({"name": "r", "role": "member", "scopes": ["agents:read"]});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    let reader = fixture.api.with_key(key.text("key"));
    refused(&reader, "/api/events?types=job,agent").await.expect_problem(403, "missing_scope");
    // Without a filter it gets everything that it may see.
    let mut stream = looking_on(&reader, ALL).await;
    let (_agent, id) = agent(&fixture).await;
    run(&fixture, &id, "hello").await;
    let path = format!("/api/keys/{}", key.id());
    fixture.api.delete(&path).await.expect(200);
    let mut names = Vec::new();
    while let Some(event) = stream.next().await {
        names.push(event.name);
    }
    // One when it enrols, and one when it has reported its facts.
    names.dedup();
    assert_eq!(names, ["agent"]);
}

#[tokio::test]
async fn another_tenant_sees_nothing() {
    let fixture = Fixture::on_sqlite().await;
    let other_tenant = fixture.other_tenant().await;
    let mut stream = looking_on(&other_tenant, ALL).await;
    let (mut agent, id) = agent(&fixture).await;
    let command = run(&fixture, &id, "hello").await;
    job(&fixture, "hello", &id).await;
    agent.stop();
    for path in ["output", "output/live"] {
        let answer = other_tenant.get(&format!("/api/executions/{command}/{path}")).await;
        answer.expect_problem(404, "not_found");
    }
    let own = other_tenant.get("/api/keys").await.expect(200);
    let own = own["items"][0].id().to_owned();
    other_tenant.delete(&format!("/api/keys/{own}")).await.expect(200);
    assert_eq!(stream.next().await, None);
}
