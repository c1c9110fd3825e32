//! What happens, told as it happens: to those who look on, who come back, and to nobody else.

use muster_tests::{AgentOptions, Api, LiveEvent, LiveStream, Script, World, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    what_happens_is_told_as_it_happens,
    whoever_comes_back_misses_nothing_or_is_told
);

const ALL: &str = "/api/events";

/// An agent that can say hello, and its id.
async fn agent(world: &World) -> (muster_tests::Agent, String) {
    let scripts = [Script::new("hello", "echo hello"), Script::new("bye", "exit 1")];
    world.agent(AgentOptions::with_scripts(scripts)).await
}

/// Looks on; everything after this is told.
async fn looking_on(api: &Api, path: &str) -> LiveStream {
    let mut stream = LiveStream::open(api, path, "").await.expect("a live stream");
    let first = stream.next().await.expect("a first event");
    assert_eq!((first.name.as_str(), first.data), ("ready", json!({})));
    stream
}

/// The next event of this name in which all of `fields` stand.
async fn told(stream: &mut LiveStream, name: &str, fields: Value) -> LiveEvent {
    loop {
        let event = stream.expect(name).await;
        let stands = |(field, value): (&String, &Value)| event.data[field] == *value;
        if fields.as_object().expect("fields").iter().all(stands) {
            return event;
        }
    }
}

async fn run(world: &World, agent: &str, script: &str) -> String {
    let id = world.api.execute(agent, script, json!({})).await;
    world.api.finished(&id).await;
    id
}

async fn job(world: &World, script: &str, agent: &str) -> String {
    let body = json!({"script": script, "target": {"ids": [agent]}});
    let job = world.api.post("/api/jobs", body).await.expect(202);
    job["id"].as_str().expect("an id").to_owned()
}

async fn what_happens_is_told_as_it_happens(world: World) {
    let (mut agent, id) = agent(&world).await;
    let mut stream = looking_on(&world.api, ALL).await;
    let mut jobs = looking_on(&world.api, "/api/events?types=job&script=bye").await;
    let mut of_agent =
        looking_on(&world.api, &format!("{ALL}?types=agent,execution&agent={id}")).await;
    let command = run(&world, &id, "hello").await;
    let event = told(&mut stream, "execution", json!({"id": command, "state": "succeeded"})).await;
    let expected = json!({"id": command, "job_id": null, "agent_id": id, "script": "hello",
                          "state": "succeeded"});
    assert_eq!(event.data, expected);

    job(&world, "hello", &id).await;
    let bye = job(&world, "bye", &id).await;
    let event = told(&mut stream, "execution", json!({"job_id": bye, "state": "failed"})).await;
    assert_eq!(event.data["script"], "bye");
    for stream in [&mut stream, &mut jobs] {
        let event = told(stream, "job", json!({"id": bye, "state": "failed"})).await;
        assert_eq!(event.data["counts"], json!({"failed": 1}));
        assert!(event.data["finished_at"].is_string(), "{event:?}");
    }
    agent.stop();
    for stream in [&mut stream, &mut of_agent] {
        told(stream, "agent", json!({"id": id, "status": "offline"})).await;
    }
    agent.resume();
    told(&mut of_agent, "agent", json!({"id": id, "status": "online"})).await;
}

async fn whoever_comes_back_misses_nothing_or_is_told(mut world: World) {
    let (_agent, id) = agent(&world).await;
    let mut stream = looking_on(&world.api, "/api/events?types=execution").await;
    let first = run(&world, &id, "hello").await;
    let seen = told(&mut stream, "execution", json!({"id": first, "state": "succeeded"})).await;
    drop(stream);
    let missed = run(&world, &id, "bye").await;
    let again = async |last_id: &str| {
        let stream = LiveStream::open(&world.api, "/api/events?types=execution", last_id).await;
        stream.expect("a live stream")
    };
    let mut stream = again(&seen.id).await;
    let next = stream.next().await.expect("what was missed");
    assert_eq!((next.name.as_str(), &next.data["id"]), ("execution", &json!(missed)));
    let last = match next.data["state"] == "failed" {
        true => next,
        false => told(&mut stream, "execution", json!({"id": missed, "state": "failed"})).await,
    };
    for id in ["nonsense", "0-0", "x-18446744073709551615"] {
        assert_eq!(again(id).await.next().await.expect("an event").name, "reset", "{id}");
    }
    world.server.stop();
    assert_eq!(stream.next().await, None, "the server has left its viewers hanging");
    world.server.resume();
    world.server.ready().await;
    let stream = LiveStream::open(&world.api, "/api/events?types=execution", &last.id).await;
    let reset = stream.expect("a live stream").next().await.expect("an event");
    assert_eq!((reset.name.as_str(), reset.data), ("reset", json!({})));
}

#[tokio::test]
async fn what_can_not_be_shown_is_refused() {
    let world = World::on_sqlite().await;
    let refused =
        async |api: &Api, path: &str| LiveStream::open(api, path, "").await.expect_err("a refusal");
    for path in [
        "/api/events?types=weather",
        "/api/events?types=",
        "/api/events?agent=x",
        "/api/events?x=1",
    ] {
        refused(&world.api, path).await.expect_problem(400, "invalid_query");
    }
    let key = json!({"name": "r", "role": "member", "scopes": ["agents:read"]});
    let key = world.api.post("/api/keys", key).await.expect(201);
    let reader = world.api.with_key(key["key"].as_str().expect("a secret"));
    refused(&reader, "/api/events?types=job,agent").await.expect_problem(403, "missing_scope");
    // Without a wish it is shown what it may see.
    let mut stream = looking_on(&reader, ALL).await;
    let (_agent, id) = agent(&world).await;
    run(&world, &id, "hello").await;
    let path = format!("/api/keys/{}", key["id"].as_str().expect("an id"));
    world.api.delete(&path).await.expect(200);
    let mut names = Vec::new();
    while let Some(event) = stream.next().await {
        names.push(event.name);
    }
    assert_eq!(names, ["agent"]);
}

#[tokio::test]
async fn another_tenant_sees_nothing() {
    let world = World::on_sqlite().await;
    let stranger = world.other_tenant();
    let mut stream = looking_on(&stranger, ALL).await;
    let (mut agent, id) = agent(&world).await;
    let command = run(&world, &id, "hello").await;
    job(&world, "hello", &id).await;
    agent.stop();
    for path in ["output", "output/live"] {
        let answer = stranger.get(&format!("/api/executions/{command}/{path}")).await;
        answer.expect_problem(404, "not_found");
    }
    let own = stranger.get("/api/keys").await.expect(200);
    let own = own["items"][0]["id"].as_str().expect("its key").to_owned();
    stranger.delete(&format!("/api/keys/{own}")).await.expect(200);
    assert_eq!(stream.next().await, None);
}
