//! Keys that are limited to some agents, scripts and numbers of agents.

use muster_tests::{
    ALL, Agent, AgentOptions, Api, FakeAgent, Fixture, JsonFields as _, Script, eventually_shown,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_key_with_a_target_reaches_no_other_agent_by_any_path,
    a_key_with_a_list_of_scripts_and_a_fan_out_runs_nothing_else,
    queued_work_that_leaves_the_limits_of_its_key_is_never_sent,
    a_child_key_has_at_most_the_limits_of_its_maker,
);

/// Two real agents, of which one has the tag `web`.
struct Fleet {
    web: String,
    db: String,
    _agents: [Agent; 2],
}

async fn fleet(fixture: &Fixture) -> Fleet {
    let scripts = || [Script::new("deploy", "echo deployed"), Script::new("other", "true")];
    let options =
        |name: &str| AgentOptions { name: name.into(), ..AgentOptions::with_scripts(scripts()) };
    let (one, web) = fixture.agent(options("web")).await;
    let (two, db) = fixture.agent(options("db")).await;
    let tags = json!({"tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{web}"), tags).await.expect(200);
    Fleet { web, db, _agents: [one, two] }
}

/// A new key: its id, and a caller with it.
async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), api.with_key(made.text("key")))
}

async fn a_key_with_a_target_reaches_no_other_agent_by_any_path(fixture: Fixture) {
    let fleet = fleet(&fixture).await;
    let (web, db) = (&fleet.web, &fleet.db);
    let fields = json!({"name": "ci", "role": "owner", "target": "tag:web"});
    let (_, limited) = made(&fixture.api, fields).await;
    let db_key = fixture.api.get(&format!("/api/agents/{db}")).await.expect(200);
    let db_key = db_key.text("key_id").to_owned();

    // Work of another person, on the agent outside and on both.
    let foreign = fixture.api.execute(db, "deploy", json!({})).await;
    fixture.api.finished(&foreign).await;
    let job = json!({"script": "deploy", "target": {"ids": [web, db]}});
    let both = fixture.api.post("/api/jobs", job).await.expect(202).id().to_owned();
    eventually_shown("the job has ended", async || {
        let job = fixture.api.get(&format!("/api/jobs/{both}")).await.expect(200);
        if job["state"] == "succeeded" { Ok(()) } else { Err(job) }
    })
    .await;
    let rollout = json!({"script": "deploy", "target": {"ids": [web, db]},
        "rollout": {"wave_size": 1, "pause_ms": 3_600_000}});
    let rollout = fixture.api.post("/api/jobs", rollout).await.expect(202).id().to_owned();
    fixture.api.post(&format!("/api/jobs/{rollout}/pause"), json!({})).await.expect(202);

    let mut refused = Vec::new();
    let execute = json!({"command": "execute", "data": {"script": "deploy"}});
    let argv = json!({"command": "execute", "data": {"argv": ["true"]}, "on_mismatch": "send"});
    for body in [
        execute.clone(),
        argv,
        json!({"command": "ping"}),
        json!({"command": "info"}),
        json!({"command": "echo", "data": {}}),
        json!({"command": "scripts"}),
        json!({"command": "restart"}),
        json!({"command": "update"}),
        json!({"command": "redeploy"}),
        json!({"command": "shutdown"}),
    ] {
        refused.push((format!("/api/agents/{db}/command"), body.clone()));
        refused.push((format!("/api/agents/keys/{db_key}/command"), body));
    }
    for target in [json!({"ids": [db]}), json!({"ids": [web, db]}), json!({"expression": "all"})] {
        refused.push(("/api/jobs".into(), json!({"script": "deploy", "target": target})));
        refused.push(("/api/jobs".into(), json!({"argv": ["true"], "target": target})));
        let wave = json!({"script": "deploy", "target": target, "rollout": {"wave_size": 1}});
        refused.push(("/api/jobs".into(), wave));
    }
    let empty = json!({});
    let fingerprint = format!("SHA256:{}", "A".repeat(43));
    for (path, body) in [
        (format!("/api/agents/{db}/ping"), empty.clone()),
        (format!("/api/agents/keys/{db_key}/ping"), empty.clone()),
        (format!("/api/jobs/{both}/retry"), json!({"executions": "all"})),
        (format!("/api/jobs/{rollout}/resume"), empty.clone()),
        (format!("/api/jobs/{rollout}/abort"), empty.clone()),
        (format!("/api/jobs/{rollout}/cancel"), empty.clone()),
        (format!("/api/commands/{foreign}/cancel"), empty.clone()),
        (format!("/api/executions/{foreign}/cancel"), empty.clone()),
        (format!("/api/agents/{db}/adopt"), json!({"fingerprint": fingerprint})),
    ] {
        refused.push((path, body));
    }
    let before = fixture.api.get("/api/commands?limit=500").await.expect(200);
    for (path, body) in refused {
        let problem = limited.post(&path, body.clone()).await;
        let problem = problem.expect_problem(403, "outside_key_target");
        let detail = problem.text("detail");
        assert!(detail.contains("`tag:web`") && detail.contains("`ci`"), "{path} {body}: {detail}");
    }
    let path = format!("/api/agents/{db}");
    limited.patch(&path, json!({"tags": ["web"]})).await.expect_problem(403, "outside_key_target");
    limited.delete(&path).await.expect_problem(403, "outside_key_target");
    let group = json!({"name": "g", "target": {"tags": ["web"]}});
    limited.post("/api/groups", group).await.expect_problem(403, "key_has_limits");
    let agent_key = json!({"name": "k", "tags": ["web"]});
    limited.post("/api/agents/keys", agent_key).await.expect_problem(403, "key_has_limits");
    let path = format!("/api/agents/keys/{db_key}");
    limited.delete(&path).await.expect_problem(403, "key_has_limits");
    let after = fixture.api.get("/api/commands?limit=500").await.expect(200);
    assert_eq!(before["items"].as_array().map(Vec::len), after["items"].as_array().map(Vec::len));

    // Reading is not limited, and inside the target everything works.
    limited.get(&format!("/api/agents/{db}")).await.expect(200);
    limited.post(&format!("/api/agents/{web}/ping"), empty).await.expect(200);
    let own = limited.execute(web, "deploy", json!({})).await;
    assert_eq!(limited.finished(&own).await["state"], "succeeded");
    let job = json!({"script": "deploy", "target": {"tags": ["web"]}});
    let job = limited.post("/api/jobs", job).await.expect(202);
    assert_eq!(job["agent_count"], 1, "{job}");
}

async fn a_key_with_a_list_of_scripts_and_a_fan_out_runs_nothing_else(fixture: Fixture) {
    let fleet = fleet(&fixture).await;
    let (web, db) = (&fleet.web, &fleet.db);
    let fields = json!({"name": "ci", "role": "owner", "scripts": ["deploy"], "max_fan_out": 1});
    let (_, limited) = made(&fixture.api, fields).await;
    let path = format!("/api/agents/{web}/command");
    for body in [
        json!({"command": "execute", "data": {"script": "other"}}),
        json!({"command": "execute", "data": {"argv": ["true"]}}),
        json!({"command": "restart"}),
    ] {
        limited.post(&path, body).await.expect_problem(403, "script_not_in_key");
    }
    let both = json!({"ids": [web, db]});
    let other = json!({"script": "other", "target": {"ids": [web]}});
    limited.post("/api/jobs", other).await.expect_problem(403, "script_not_in_key");
    let wide = json!({"script": "deploy", "target": both});
    limited.post("/api/jobs", wide.clone()).await.expect_problem(403, "fan_out_exceeded");
    let waves = json!({"script": "deploy", "target": both, "rollout": {"wave_size": 1}});
    limited.post("/api/jobs", waves).await.expect_problem(403, "fan_out_exceeded");
    let done = fixture.api.post("/api/jobs", wide).await.expect(202).id().to_owned();
    eventually_shown("the job has ended", async || {
        let job = fixture.api.get(&format!("/api/jobs/{done}")).await.expect(200);
        if job["state"] == "succeeded" { Ok(()) } else { Err(job) }
    })
    .await;
    let path = format!("/api/jobs/{done}/retry");
    let retry = limited.post(&path, json!({"executions": "all"})).await;
    retry.expect_problem(403, "fan_out_exceeded");
    // Who resumes a rollout starts the rest of it.
    let rollout = json!({"script": "other", "target": both,
        "rollout": {"wave_size": 1, "pause_ms": 3_600_000}});
    let rollout = fixture.api.post("/api/jobs", rollout).await.expect(202).id().to_owned();
    fixture.api.post(&format!("/api/jobs/{rollout}/pause"), json!({})).await.expect(202);
    let resume = limited.post(&format!("/api/jobs/{rollout}/resume"), json!({})).await;
    resume.expect_problem(403, "script_not_in_key");
    limited.post(&format!("/api/agents/{web}/ping"), json!({})).await.expect(200);
    let own = limited.execute(web, "deploy", json!({})).await;
    assert_eq!(limited.finished(&own).await["state"], "succeeded");
}

async fn queued_work_that_leaves_the_limits_of_its_key_is_never_sent(fixture: Fixture) {
    let fields = json!({"permissions": ALL, "tags": ["web"], "max_agents": 1});
    let (agent_key_id, agent_key) = fixture.api.agent_key(fields).await;
    let agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
    let id = fixture.online(&agent_key_id).await.id().to_owned();
    drop(agent);
    fixture.with_status(&agent_key_id, "offline").await;
    let (narrowed_id, narrowed) =
        made(&fixture.api, json!({"name": "narrowed", "scripts": ["deploy"]})).await;
    let (_, bound) = made(&fixture.api, json!({"name": "bound", "target": "tag:web"})).await;
    let (_, free) = made(&fixture.api, json!({"name": "free"})).await;
    let deploy = || json!({"script": "deploy"});
    let by_narrowed = narrowed.execute_anyway(&id, deploy()).await;
    let by_bound = bound.execute_anyway(&id, deploy()).await;
    let by_free = free.execute_anyway(&id, deploy()).await;
    // The agent leaves the target of one key, and the script the list of the other.
    fixture.api.patch(&format!("/api/agents/{id}"), json!({"tags": ["db"]})).await.expect(200);
    let path = format!("/api/keys/{narrowed_id}");
    fixture.api.patch(&path, json!({"scripts": ["status"]})).await.expect(200);
    let mut agent = FakeAgent::registered(&fixture.server.address(), &agent_key, "one").await;
    let sent = agent.expect("command").await;
    assert_eq!(sent["command_id"], by_free.as_str(), "a command outside the limits was sent");
    for command in [by_narrowed, by_bound] {
        let ended = fixture.api.finished(&command).await;
        let seen = (&ended["state"], &ended["error_code"], &ended["delivered_at"]);
        assert_eq!(seen, (&json!("rejected"), &json!("outside_key_limits"), &Value::Null));
    }
}

async fn a_child_key_has_at_most_the_limits_of_its_maker(fixture: Fixture) {
    let limits = json!({"name": "maker", "role": "owner", "target": "tag:web",
        "scripts": ["deploy", "status"], "max_fan_out": 5});
    let (maker_id, maker) = made(&fixture.api, limits).await;
    let child = maker.post("/api/keys", json!({"name": "c", "role": "owner"})).await.expect(201);
    assert_eq!(child["target"], "tag:web");
    assert_eq!(child["scripts"], json!(["deploy", "status"]));
    assert_eq!(child["max_fan_out"], 5);
    for wider in [json!({"scripts": ["other"]}), json!({"max_fan_out": 6})] {
        let mut body = json!({"name": "wider"});
        body.as_object_mut().expect("fields").extend(wider.as_object().cloned().expect("fields"));
        maker.post("/api/keys", body).await.expect_problem(403, "limit_not_held");
    }
    // A target is added to the one of the maker, so another one reaches no agent.
    let other = json!({"name": "other", "role": "owner", "target": "tag:db", "max_fan_out": 1});
    let other = maker.post("/api/keys", other).await.expect(201);
    assert_eq!(other["target"], "(tag:db) & (tag:web)");
    let (child_id, child) = (child.id().to_owned(), maker.with_key(child.text("key")));
    let grandchild = json!({"name": "g", "role": "owner"});
    let grandchild = child.post("/api/keys", grandchild).await.expect(201);

    // Neither the key itself, nor its maker, nor an owner widens it beyond its maker.
    let path = format!("/api/keys/{child_id}");
    for caller in [&child, &maker, &fixture.api] {
        let freed = json!({"target": null, "scripts": null, "max_fan_out": null});
        let shown = caller.patch(&path, freed).await.expect(200);
        assert_eq!((&shown["target"], &shown["max_fan_out"]), (&json!("tag:web"), &json!(5)));
        caller.patch(&path, json!({"max_fan_out": 6})).await.expect_problem(403, "limit_not_held");
    }
    let other_id = other.id();
    child.patch(&format!("/api/keys/{other_id}"), json!({"name": "x"})).await.expect(200);
    child.patch(&format!("/api/keys/{maker_id}"), json!({"name": "x"})).await.expect(200);
    let (_, narrow) = made(&maker, json!({"name": "n", "role": "owner", "max_fan_out": 1})).await;
    for (method_path, body) in [
        (format!("/api/keys/{maker_id}"), json!({"name": "mine"})),
        (format!("/api/keys/{child_id}"), json!({"name": "mine"})),
    ] {
        narrow.patch(&method_path, body).await.expect_problem(403, "key_not_held");
        let rotate = narrow.post(&format!("{method_path}/rotate"), json!({})).await;
        rotate.expect_problem(403, "key_not_held");
        narrow.delete(&method_path).await.expect_problem(403, "key_not_held");
    }

    // Narrowing a key narrows all that came from it.
    let narrower = json!({"max_fan_out": 2, "scripts": ["deploy"],
        "scopes": ["commands:run", "api_keys:write", "api_keys:read"]});
    let changed = fixture.api.patch(&format!("/api/keys/{maker_id}"), narrower).await.expect(200);
    assert_eq!(changed["narrowed_keys"].as_array().map(Vec::len), Some(4), "{changed}");
    for id in [&child_id, grandchild.id()] {
        let shown = fixture.api.get(&format!("/api/keys/{id}")).await.expect(200);
        assert_eq!((&shown["max_fan_out"], &shown["scripts"]), (&json!(2), &json!(["deploy"])));
        assert!(!shown["scopes"].to_string().contains("agents:read"), "{shown}");
    }
    child.get("/api/agents").await.expect_problem(403, "missing_scope");
    for field in ["os:linux", "name:web-*", "(", ""] {
        let body = json!({"name": "x", "target": field});
        fixture.api.post("/api/keys", body).await.expect_problem(422, "invalid_field");
    }
}
