//! What a key that may only run scripts cannot do.

use muster_tests::{
    ALL, Api, FakeAgent, Fixture, JsonFields as _, Publisher, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_key_that_runs_scripts_sends_no_life_cycle_command,
    a_key_that_runs_scripts_cancels_only_its_own_work,
    callers_who_may_only_read_see_the_hosts_of_webhooks,
    only_callers_who_manage_releases_see_drafts_and_who_made_them,
);

/// A caller with these scopes.
async fn caller(fixture: &Fixture, scopes: Value) -> Api {
    let body = json!({"name": "narrow", "role": "owner", "scopes": scopes});
    let made = fixture.api.post("/api/keys", body).await.expect(201);
    fixture.api.with_key(made.text("key"))
}

/// A basic agent that is online, its id and the id of its key.
async fn agent(fixture: &Fixture) -> (FakeAgent, String, String) {
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ALL})).await;
    let agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let id = fixture.online(&key_id).await.id().to_owned();
    (agent, id, key_id)
}

async fn a_key_that_runs_scripts_sends_no_life_cycle_command(fixture: Fixture) {
    let (_agent, id, key_id) = agent(&fixture).await;
    let member = fixture.api.post("/api/keys", json!({"name": "m", "role": "member"})).await;
    let member = fixture.api.with_key(member.expect(201).text("key"));
    let runner = caller(&fixture, json!(["commands:run", "commands:read", "agents:write"])).await;
    let manager = caller(&fixture, json!(["agents:manage"])).await;
    for command in ["restart", "update", "redeploy", "shutdown"] {
        for path in
            [format!("/api/agents/{id}/command"), format!("/api/agents/keys/{key_id}/command")]
        {
            for narrow in [&member, &runner] {
                let refused = narrow.post(&path, json!({"command": command})).await;
                let refused = refused.expect_problem(403, "missing_scope");
                assert!(refused["detail"].to_string().contains("agents:manage"), "{refused}");
            }
        }
    }
    let path = format!("/api/agents/{id}/command");
    manager.post(&path, json!({"command": "restart"})).await.expect(202);
    manager.post(&path, json!({"command": "ping"})).await.expect_problem(403, "missing_scope");
    let group = json!({"name": "g", "target": {"tags": ["a"]}});
    runner.post("/api/groups", group).await.expect_problem(403, "missing_scope");
}

async fn a_key_that_runs_scripts_cancels_only_its_own_work(fixture: Fixture) {
    let (_agent, id, _) = agent(&fixture).await;
    let own = caller(&fixture, json!(["commands:run"])).await;
    let manager = caller(&fixture, json!(["commands:manage"])).await;
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "rollout": {"wave_size": 1}});
    let job = async |api: &Api| {
        let job = api.post("/api/jobs", body.clone()).await.expect(202);
        job.id().to_owned()
    };
    let (theirs, mine) = (job(&fixture.api).await, job(&own).await);
    let theirs_run = fixture.api.get(&format!("/api/jobs/{theirs}/executions")).await.expect(200);
    let theirs_run = theirs_run["items"][0].id().to_owned();
    for path in [
        format!("/api/jobs/{theirs}/cancel"),
        format!("/api/jobs/{theirs}/pause"),
        format!("/api/jobs/{theirs}/resume"),
        format!("/api/jobs/{theirs}/abort"),
        format!("/api/commands/{theirs_run}/cancel"),
        format!("/api/executions/{theirs_run}/cancel"),
    ] {
        let refused = own.post(&path, json!({})).await.expect_problem(403, "missing_scope");
        assert!(refused["detail"].to_string().contains("commands:manage"), "{refused}");
    }
    own.post(&format!("/api/jobs/{mine}/pause"), json!({})).await.expect(202);
    own.post(&format!("/api/jobs/{mine}/abort"), json!({})).await.expect(202);
    manager.post(&format!("/api/jobs/{theirs}/pause"), json!({})).await.expect(202);
    manager.post(&format!("/api/jobs/{theirs}/abort"), json!({})).await.expect(202);
}

async fn callers_who_may_only_read_see_the_hosts_of_webhooks(fixture: Fixture) {
    let (mut agent, id, _) = agent(&fixture).await;
    let url = "https://hooks.invalid:8443/services/a-secret?token=another";
    let job = json!({"script": "deploy", "target": {"ids": [id]}, "webhook": {"url": url}});
    let job = fixture.api.post("/api/jobs", job).await.expect(202);
    let command = agent.expect("command").await;
    let id = &command["command_id"];
    agent.send(json!({"type": "response", "command_id": id, "success": true})).await;
    let path = format!("/api/jobs/{}", job.id());
    let deliveries = "/api/webhooks/deliveries";
    let delivery = eventually("the webhook is stored", async || {
        let page = fixture.api.get(deliveries).await.expect(200);
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let delivery = format!("{deliveries}/{delivery}");
    let reader = caller(&fixture, json!(["commands:read"])).await;
    let (host, full) = ("https://hooks.invalid:8443", url.split('?').next().expect("a part"));
    for (api, shown) in [(&reader, host), (&fixture.api, full)] {
        assert_eq!(api.get(&path).await.expect(200)["webhook_url"], shown);
        assert_eq!(api.get("/api/jobs").await.expect(200)["items"][0]["webhook_url"], shown);
        assert_eq!(api.get(deliveries).await.expect(200)["items"][0]["url"], shown);
        assert_eq!(api.get(&delivery).await.expect(200)["url"], shown);
    }
}

async fn only_callers_who_manage_releases_see_drafts_and_who_made_them(fixture: Fixture) {
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("read");
    let draft = json!({"manifest": read("release.json"), "signature": read("release.sig")});
    fixture.api.post("/api/releases", draft).await.expect(201);
    let reader = caller(&fixture, json!(["agents:read"])).await;
    assert_eq!(reader.get("/api/releases").await.expect(200)["items"], json!([]));
    reader.get("/api/releases/0.2.0").await.expect_problem(404, "not_found");
    assert!(fixture.api.get("/api/releases/0.2.0").await.expect(200)["created_by"].is_string());

    publisher.publish("0.2.0").await.expect(0);
    let shown = reader.get("/api/releases").await.expect(200)["items"][0].clone();
    assert_eq!((&shown["version"], shown["created_by"].is_null()), (&json!("0.2.0"), true));
    assert!(shown["published_by"].is_null() && shown["state"] == "published", "{shown}");
    let shown = reader.get("/api/releases/0.2.0").await.expect(200);
    assert!(shown["created_by"].is_null() && shown["programs"].is_array(), "{shown}");
    assert!(fixture.api.get("/api/releases/0.2.0").await.expect(200)["published_by"].is_string());

    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let uploads = audit.list("items").iter();
    let uploads = uploads.filter(|entry| entry["action"] == "release.upload");
    let uploads: Vec<_> = uploads.map(|entry| entry["detail"]["program"].clone()).collect();
    assert_eq!(uploads.len(), 2, "{audit}");
    assert!(uploads.contains(&json!("muster-agent")), "{uploads:?}");
}
