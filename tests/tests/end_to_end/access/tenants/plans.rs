//! Tenants of the operator and their plans: what a plan allows holds on every way in.

use futures_util::future::join_all;
use muster_tests::{
    ALL, AgentOptions, Closed, ExchangeAgent, FakeAgent, Fixture, JsonFields as _, LiveStream,
    eventually, full_registration, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    starter_enrols_three_agents_though_eight_come_at_once_over_both_transports,
    lowered_plan_keeps_what_is_there_and_a_refused_agent_enters_once_there_is_room,
    operator_creates_tenants_and_sets_their_plans,
    starter_creates_five_schedules_though_eight_come_at_once,
);

/// A client of a new tenant's owner, and the tenant's id.
async fn tenant(fixture: &Fixture, plan: &str) -> (muster_tests::Api, String) {
    let made = fixture.api.post("/api/tenants", json!({"name": "small", "plan": plan})).await;
    let made = made.expect(201);
    (fixture.api.with_key(made.text("key")), made.id().to_owned())
}

fn plan_limit() -> Closed {
    Closed::new(4004, "plan_limit")
}

async fn over_websocket(address: &str, key: &str, host: &str) -> Result<FakeAgent, Closed> {
    let mut agent = FakeAgent::connect_with_header(address, key).await;
    agent.expect("connected").await;
    agent.register(full_registration(json!({"hostname": host}))).await;
    agent.next().await.map(|registered| {
        assert_eq!(registered["type"], "registered", "{registered}");
        agent
    })
}

async fn over_http(address: &str, key: &str, host: &str) -> Result<ExchangeAgent, Closed> {
    let mut agent = ExchangeAgent::connect(address, key).await;
    let data = agent.proven(full_registration(json!({"hostname": host})));
    agent.register(data).await.map(|registered| {
        assert_eq!(registered["type"], "registered", "{registered}");
        agent
    })
}

async fn starter_enrols_three_agents_though_eight_come_at_once_over_both_transports(
    fixture: Fixture,
) {
    let (owner, _) = tenant(&fixture, "starter").await;
    let (_, key) = owner.agent_key(json!({"permissions": ALL, "max_agents": 50})).await;
    let address = fixture.server.address();
    let hosts: Vec<_> = (0..4).map(|number| format!("host-{number}")).collect();
    let sockets = join_all(hosts.iter().map(|host| over_websocket(&address, &key, host)));
    let exchanges = join_all(hosts.iter().map(|host| over_http(&address, &key, host)));
    let (sockets, exchanges) = tokio::join!(sockets, exchanges);
    let refused: Vec<_> = sockets.iter().filter_map(|result| result.as_ref().err()).collect();
    let also_refused = exchanges.iter().filter_map(|result| result.as_ref().err());
    let refused: Vec<_> = refused.into_iter().chain(also_refused).collect();
    assert_eq!(refused.len(), 5, "{refused:?}");
    assert!(refused.iter().all(|close| **close == plan_limit()), "{refused:?}");
    let agents = owner.get("/api/agents").await.expect(200);
    assert_eq!(agents["items"].as_array().map(Vec::len), Some(3), "{agents}");
    // A basic agent over HTTP, which gets a problem document instead of a close code.
    let (_, basic) = owner.agent_key(json!({})).await;
    let beat = json!({"status": {}, "data": {"hostname": "basic"}});
    let answer = owner.with_key(&basic).post("/api/agents/heartbeat", beat).await;
    answer.expect_problem(409, "plan_limit");
    let own = owner.get("/api/tenant").await.expect(200);
    assert_eq!((&own["usage"]["agents"], &own["limits"]["max_agents"]), (&json!(3), &json!(3)));
    assert_eq!(own["limits_reached"], json!(["agents"]));
}

async fn lowered_plan_keeps_what_is_there_and_a_refused_agent_enters_once_there_is_room(
    fixture: Fixture,
) {
    let (owner, id) = tenant(&fixture, "pro").await;
    let (_, key) = owner.agent_key(json!({"permissions": ALL, "max_agents": 50})).await;
    let address = fixture.server.address();
    let mut data = Vec::new();
    for host in ["a", "b", "c", "d"] {
        let registration = json!({"hostname": host, "machine_id": host.repeat(64)});
        let (_, registered) =
            FakeAgent::registered_full(&address, &key, registration.clone()).await;
        data.push((registration, registered["agent_id"].clone()));
    }
    let path = format!("/api/tenants/{id}");
    let lowered = fixture.api.patch(&path, json!({"plan": "starter"})).await.expect(200);
    assert_eq!(lowered["usage"]["agents"], 4, "{lowered}");
    let (mut known, agent_id) = data.pop().expect("four");
    known["agent_id"] = agent_id.clone();
    let (_agent, again) = FakeAgent::registered_full(&address, &key, known).await;
    assert_eq!(again["agent_id"], agent_id, "a known agent returns");
    let mut events = LiveStream::open(&owner, "/api/events", "").await.expect("a stream");
    let refused = over_websocket(&address, &key, "new").await.err();
    assert_eq!(refused, Some(plan_limit()));
    let event = events.expect("agent_refused").await.data;
    assert_eq!((&event["hostname"], &event["limit"]), (&json!("new"), &json!(3)), "{event}");
    let entries = owner.get("/api/audit").await.expect(200);
    let entry = entries["items"].as_array().into_iter().flatten();
    let entry = entry.filter(|entry| entry["action"] == "tenant.limit").collect::<Vec<_>>();
    assert_eq!(entry.len(), 1, "{entries}");
    assert_eq!(entry[0]["detail"]["limit"], 3);
    // Attempts of the same host are one report.
    assert_eq!(over_http(&address, &key, "new").await.err(), Some(plan_limit()));
    for (_, agent_id) in &data[..2] {
        let path = format!("/api/agents/{}", agent_id.as_str().expect("an id"));
        owner.delete(&path).await.expect(204);
    }
    over_websocket(&address, &key, "new").await.expect("there is room");
    // The real program does not stop for good.
    let options = AgentOptions::default();
    let mut agent =
        muster_tests::Agent::start(&fixture.test_dir, &fixture.server.url(), &key, options);
    eventually("the agent is refused", async || {
        agent.log().contains("plan of the tenant allows no more agents").then_some(())
    })
    .await;
    assert!(agent.process().status().is_none(), "{}", agent.log());
    let path = format!("/api/agents/{}", data[2].1.as_str().expect("an id"));
    owner.delete(&path).await.expect(204);
}

async fn operator_creates_tenants_and_sets_their_plans(fixture: Fixture) {
    let (owner, id) = tenant(&fixture, "starter").await;
    let own = owner.get("/api/tenant").await.expect(200);
    assert_eq!((own.id(), own.text("plan")), (id.as_str(), "starter"));
    assert_eq!(
        own["limits"],
        json!({"max_agents": 3, "max_schedules": 5, "history_days": 7, "storage_bytes": 5_u64 << 30})
    );
    assert_eq!(own["limits_reached"], json!([]));
    // An owner sets no plan, and sees no other tenant.
    owner.patch("/api/tenant", json!({"plan": "pro"})).await.expect_problem(422, "invalid_body");
    let renamed = owner.patch("/api/tenant", json!({"name": "Small Ltd"})).await.expect(200);
    assert_eq!(renamed.text("name"), "Small Ltd");
    for answer in [
        owner.get("/api/tenants").await,
        owner.get(&format!("/api/tenants/{id}")).await,
        owner.patch(&format!("/api/tenants/{id}"), json!({"plan": "pro"})).await,
        owner.post("/api/tenants", json!({"name": "third"})).await,
    ] {
        answer.expect_problem(403, "missing_scope");
    }
    let body = json!({"name": "k", "role": "owner", "scopes": ["tenants:manage"]});
    owner.post("/api/keys", body).await.expect_problem(403, "scope_not_held");
    // The server's own tenant has no limits.
    let first = fixture.api.get("/api/tenant").await.expect(200);
    assert_eq!((first.text("plan"), &first["limits"]["max_agents"]), ("pro", &Value::Null));
    let listed = fixture.api.get("/api/tenants").await.expect(200);
    let names: Vec<_> = listed["items"].as_array().into_iter().flatten().collect();
    assert_eq!(
        names.iter().map(|item| item.text("name")).collect::<Vec<_>>(),
        ["default", "Small Ltd"]
    );
    let unknown = format!("/api/tenants/{}", uuid::Uuid::now_v7());
    fixture.api.get(&unknown).await.expect_problem(404, "not_found");
    let path = format!("/api/tenants/{id}");
    for (body, code) in
        [(json!({"plan": "free"}), "invalid_body"), (json!({"name": " "}), "invalid_field")]
    {
        fixture.api.patch(&path, body).await.expect_problem(422, code);
    }
    fixture.api.patch(&path, json!({"plan": "pro"})).await.expect(200);
    // The tenant's log says that the operator did it, and does not name a key of another tenant.
    let entries = owner.get("/api/audit").await.expect(200);
    let newest = &entries["items"][0];
    assert_eq!((newest.text("action"), newest.text("actor_kind")), ("tenant.update", "operator"));
    assert_eq!(newest["actor_id"], uuid::Uuid::nil().to_string());
    let entries = fixture.api.get("/api/audit").await.expect(200);
    assert_eq!(entries["items"][0].text("actor_kind"), "api_key");
    assert_eq!(entries["items"][0]["subject_id"], id);
    let cli = fixture.cli().await;
    let shown = cli.run(&["tenants"]).await.expect(0);
    assert!(shown.contains("Small Ltd") && shown.contains("MOST AGENTS"), "{shown}");
    cli.run(&["tenants", "update", "Small Ltd", "--plan", "starter"]).await.expect(0);
    let shown = cli.run(&["tenants", "show", "Small"]).await.expect(0);
    assert!(shown.contains("starter") && shown.contains("max_agents"), "{shown}");
    let key = cli.run(&["tenants", "create", "third", "--plan", "starter"]).await.expect(0);
    let third = fixture.api.with_key(key.trim()).get("/api/tenant").await.expect(200);
    assert_eq!(third.text("name"), "third");
    let refused = cli.run(&["tenants", "create", "fourth", "--plan", "free"]).await;
    refused.expect(1);
    let shown = cli.run(&["tenant", "rename", "Mine"]).await.expect(0);
    assert!(shown.contains("Mine"), "{shown}");
    assert!(cli.run(&["tenant"]).await.expect(0).contains("pro"));
}

async fn starter_creates_five_schedules_though_eight_come_at_once(fixture: Fixture) {
    let (owner, _) = tenant(&fixture, "starter").await;
    let create = |n: usize| {
        let owner = owner.clone();
        let body = json!({"name": format!("s{n}"), "rule": {"every_ms": 86_400_000},
            "job": {"script": "status", "target": {"expression": "all"}}});
        async move { owner.post("/api/schedules", body).await }
    };
    let answers = join_all((0..8).map(create)).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 5);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        answer.expect_problem(409, "plan_limit");
    }
    let list = owner.get("/api/schedules").await.expect(200);
    let id = list["items"][0].id().to_owned();
    owner.delete(&format!("/api/schedules/{id}")).await.expect(204);
    create(9).await.expect(201);
}
