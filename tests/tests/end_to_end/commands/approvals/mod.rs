//! Work that waits for another person's yes.

mod command_line;

use muster_tests::{
    Agent, AgentOptions, Api, Fixture, JsonFields as _, LiveStream, Script, eventually_shown,
    install, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_job_waits_for_another_persons_approval_and_then_runs_as_requested,
    a_person_approves_no_own_request_on_any_path,
    a_rotation_never_hides_whose_key_it_is,
    people_who_run_the_server_are_one_person,
    every_kind_of_work_waits_and_no_action_releases_it,
    refused_and_expired_requests_end_their_work_and_stay,
);

/// A real agent with the tag `prod` and scripts.
async fn agent(fixture: &Fixture) -> (Agent, String) {
    let scripts = [
        Script::new("deploy", "echo deployed $WHAT $TOKEN").taking(["WHAT", "TOKEN"]),
        Script::new("status", "true"),
    ];
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let tags = json!({"tags": ["prod"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tags).await.expect(200);
    (agent, id)
}

async fn made(api: &Api, fields: Value) -> (String, Api) {
    let made = api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), api.with_key(made.text("key")))
}

async fn rule(fixture: &Fixture, fields: Value) -> String {
    fixture.api.post("/api/approvals/rules", fields).await.expect(201).id().to_owned()
}

/// A key of another person: an owner who was invited.
async fn another_person(fixture: &Fixture) -> Api {
    let grace = fixture.owner().await.add("grace@example.com", "owner").await;
    made(&grace.api, json!({"name": "grace", "role": "owner"})).await.1
}

async fn pending(api: &Api) -> Value {
    let page = api.get("/api/approvals?state=pending").await.expect(200);
    page["items"][0].clone()
}

async fn job_in(api: &Api, id: &str, state: &str) -> Value {
    eventually_shown(&format!("job {id} is {state}"), async || {
        let job = api.get(&format!("/api/jobs/{id}")).await.expect(200);
        if job["state"] == state { Ok(job) } else { Err(job) }
    })
    .await
}

async fn a_job_waits_for_another_persons_approval_and_then_runs_as_requested(fixture: Fixture) {
    let (agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    rule(&fixture, json!({"name": "production", "target": "tag:prod", "scripts": ["deploy"]}))
        .await;
    let mut events =
        LiveStream::open(&fixture.api, "/api/events?types=approval", "").await.expect("a stream");
    events.expect("ready").await;
    let body = json!({"script": "deploy", "target": {"ids": [id]}, "parameters": {"WHAT": "it"},
        "secret_parameters": {"TOKEN": "hunter2-secret"}, "rollout": {"wave_size": 1}});
    let job = fixture.api.post_once("/api/jobs", "once", body.clone()).await.expect(202);
    assert_eq!((&job["state"], &job["counts"]["queued"]), (&json!("awaiting_approval"), &json!(1)));
    let again = fixture.api.post_once("/api/jobs", "once", body).await.expect(202);
    assert_eq!(again.id(), job.id(), "a repeated request waits for the same approval");
    let request = pending(&grace).await;
    let event = events.expect("approval").await;
    assert_eq!((event.data.id(), &event.data["state"]), (request.id(), &json!("pending")));
    let path = format!("/api/approvals/{}", request.id());
    let shown = grace.get(&path).await.expect(200);
    assert_eq!(shown["agent_ids"], json!([id]));
    assert_eq!((&shown["job_id"], &shown["rules"]), (&job["id"], &json!(["production"])));
    assert_eq!(shown["data"]["parameters"], json!({"WHAT": "it"}));
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    // Nothing else is released: neither by resuming nor by a reconnection of the agent.
    let resume = format!("/api/jobs/{}/resume", job.id());
    fixture.api.post(&resume, json!({})).await.expect_problem(409, "wrong_state");
    assert!(agent.log().contains("registered") && !agent.log().contains("accepted"));

    // The host changes its script: what would run is not what was requested.
    let changed = [Script::new("deploy", "echo other")
        .taking(["WHAT", "TOKEN"])
        .with("args", json!(["--other"]))];
    install(agent.state_dir(), &changed);
    eventually_shown("the changed script is noticed", async || {
        let scripts = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
        let is_new = scripts["items"][0]["args"] == json!(["--other"]);
        if is_new {
            return Ok(());
        }
        fixture.ask(&id, "scripts", json!({})).await;
        Err(scripts)
    })
    .await;
    let approve = format!("{path}/approve");
    let outdated = grace.post(&approve, json!({})).await;
    outdated.expect_problem(409, "approval_outdated");
    let original = [
        Script::new("deploy", "echo deployed $WHAT $TOKEN").taking(["WHAT", "TOKEN"]),
        Script::new("status", "true"),
    ];
    install(agent.state_dir(), &original);
    eventually_shown("the script is back", async || {
        fixture.ask(&id, "scripts", json!({})).await;
        let answer = grace.post(&approve, json!({"reason": "looks right"})).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.json()) }
    })
    .await;
    let job = job_in(&fixture.api, job.id(), "succeeded").await;
    assert_eq!(job["counts"], json!({"succeeded": 1}));
    let decided = grace.get(&path).await.expect(200);
    assert_eq!(
        (&decided["state"], &decided["reason"]),
        (&json!("approved"), &json!("looks right"))
    );
    assert_eq!(events.expect("approval").await.data["state"], "approved");
    grace.post(&approve, json!({})).await.expect_problem(409, "approval_ended");
    let audit = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let mut entries = audit.list("items").iter();
    let entry = entries.find(|entry| entry["action"] == "approval.approve").expect("an entry");
    assert_eq!(entry["detail"]["requested_by"], decided["requested_by"], "{entry}");
    assert!(entry["detail"]["pinned"]["script_sha256"].is_string(), "{entry}");
}

async fn a_person_approves_no_own_request_on_any_path(fixture: Fixture) {
    let (_agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    rule(&fixture, json!({"name": "all"})).await;
    let owner = json!({"name": "a", "role": "owner"});
    let (_, ada) = made(&fixture.api, owner.clone()).await;
    let (_, child) = made(&ada, owner.clone()).await;
    let (_, sibling) = made(&fixture.api, owner.clone()).await;
    let (other_id, _) = made(&grace, owner.clone()).await;
    let body = json!({"script": "status", "target": {"ids": [id]}});
    ada.post("/api/jobs", body).await.expect(202);
    let path = format!("/api/approvals/{}", pending(&ada).await.id());
    // A key that one person rotated is known to that person, also if another one created it.
    let rotated = ada.post(&format!("/api/keys/{other_id}/rotate"), json!({})).await.expect(200);
    let taken = ada.with_key(rotated.text("key"));
    for own in [&fixture.api, &ada, &child, &sibling, &taken] {
        let yes = own.post(&format!("{path}/approve"), json!({})).await;
        yes.expect_problem(403, "own_request");
        let no = own.post(&format!("{path}/refuse"), json!({"reason": "no"})).await;
        no.expect_problem(403, "own_request");
    }
    let narrow = json!({"name": "n", "role": "owner", "target": "tag:none"});
    let (_, narrow) = made(&grace, narrow).await;
    let outside = narrow.post(&format!("{path}/approve"), json!({})).await;
    outside.expect_problem(403, "outside_key_target");
    let (_, member) = made(&grace, json!({"name": "m", "role": "member"})).await;
    let missing = member.post(&format!("{path}/approve"), json!({})).await;
    missing.expect_problem(403, "missing_scope");
    let (_, admin) = made(&grace, json!({"name": "admin", "role": "admin"})).await;
    let rules = admin.post("/api/approvals/rules", json!({"name": "x"})).await;
    rules.expect_problem(403, "missing_scope");
    let approved = admin.post(&format!("{path}/approve"), json!({})).await.expect(200);
    assert_eq!(approved["state"], "approved");
}

/// A request of a person for a script, and its path.
async fn requested(api: &Api, agent_id: &str) -> String {
    let body = json!({"script": "status", "target": {"ids": [agent_id]}});
    api.post("/api/jobs", body).await.expect(202);
    format!("/api/approvals/{}", pending(api).await.id())
}

async fn a_rotation_never_hides_whose_key_it_is(fixture: Fixture) {
    let (_agent, id) = agent(&fixture).await;
    let ada = fixture.owner().await;
    let carl = ada.add("carl@example.com", "owner").await;
    rule(&fixture, json!({"name": "all"})).await;
    let (key, _) = made(&ada.api, json!({"name": "monitoring", "role": "owner"})).await;
    let path = requested(&carl.api, &id).await;
    let rotate = format!("/api/keys/{key}/rotate");
    let taken = carl.api.post(&rotate, json!({})).await.expect(200);
    let taken = carl.api.with_key(taken.text("key"));
    // The key rotates itself, so who rotated it last is the key.
    let again = taken.post(&rotate, json!({})).await.expect(200);
    let again = carl.api.with_key(again.text("key"));
    let yes = again.post(&format!("{path}/approve"), json!({})).await;
    yes.expect_problem(403, "own_request");
    // It ends with the member who knows its secret.
    ada.api.delete(&format!("/api/members/{}", carl.member_id)).await.expect(204);
    again.get("/api/me").await.expect_problem(401, "invalid_api_key");
}

async fn people_who_run_the_server_are_one_person(fixture: Fixture) {
    let (_agent, id) = agent(&fixture).await;
    let ada = fixture.owner().await;
    let carl = ada.add("carl@example.com", "owner").await;
    rule(&fixture, json!({"name": "all"})).await;
    let (_, of_first) = made(&fixture.api, json!({"name": "ci", "role": "owner"})).await;
    let (_, of_ada) = made(&ada.api, json!({"name": "ada", "role": "owner"})).await;
    let of_server = [&fixture.api, &of_first, &ada.api, &of_ada];
    for requester in of_server {
        let path = requested(requester, &id).await;
        for decider in of_server {
            let yes = decider.post(&format!("{path}/approve"), json!({})).await;
            yes.expect_problem(403, "own_request");
        }
        carl.api.post(&format!("{path}/approve"), json!({})).await.expect(200);
    }
    let path = requested(&carl.api, &id).await;
    fixture.api.post(&format!("{path}/approve"), json!({})).await.expect(200);
}

async fn every_kind_of_work_waits_and_no_action_releases_it(fixture: Fixture) {
    let (agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    let done = fixture.api.execute(&id, "status", json!({})).await;
    fixture.api.finished(&done).await;
    let job = json!({"script": "status", "target": {"ids": [id]}});
    let before = fixture.api.post("/api/jobs", job.clone()).await.expect(202).id().to_owned();
    job_in(&fixture.api, &before, "succeeded").await;
    let accepted = agent.log().matches("accepted").count();
    let all = rule(&fixture, json!({"name": "all"})).await;

    let command = format!("/api/agents/{id}/command");
    let argv = json!({"command": "execute", "data": {"argv": ["true"]}, "on_mismatch": "send"});
    let key = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let by_key = format!("/api/agents/keys/{}/command", key.text("key_id"));
    let mut held = Vec::new();
    for (path, body) in [
        (&command, json!({"command": "execute", "data": {"script": "status"}})),
        (&by_key, json!({"command": "execute", "data": {"script": "status"}})),
        (&command, argv),
        (&command, json!({"command": "restart"})),
    ] {
        let sent = fixture.api.post(path, body).await.expect(202);
        assert_eq!((&sent["state"], &sent["is_held"]), (&json!("queued"), &json!(true)), "{sent}");
        held.push(sent.id().to_owned());
    }
    let mut jobs = Vec::new();
    let argv = json!({"argv": ["true"], "target": {"ids": [id]}, "on_mismatch": "send"});
    let waves = json!({"script": "status", "target": {"ids": [id]}, "rollout": {"wave_size": 1}});
    for body in [job, argv, waves] {
        jobs.push(fixture.api.post("/api/jobs", body).await.expect(202));
    }
    let retry = json!({"executions": "all"});
    jobs.push(fixture.api.post(&format!("/api/jobs/{before}/retry"), retry).await.expect(202));
    for job in &jobs {
        assert_eq!(job["state"], "awaiting_approval", "{job}");
        for action in ["pause", "resume"] {
            let path = format!("/api/jobs/{}/{action}", job.id());
            assert_eq!(fixture.api.post(&path, json!({})).await.status, 409);
        }
    }
    let group = json!({"name": "g", "target": {"tags": ["prod"]}, "desired_version": "9.9.9"});
    fixture.api.post("/api/groups", group).await.expect_problem(403, "approval_needed");
    // Questions change nothing on the host.
    fixture.api.post(&format!("/api/agents/{id}/ping"), json!({})).await.expect(200);
    // A rule that is deleted releases nothing that already waits.
    fixture.api.delete(&format!("/api/approvals/rules/{all}")).await.expect(204);
    let free = fixture.api.execute(&id, "status", json!({})).await;
    fixture.api.finished(&free).await;
    assert_eq!(agent.log().matches("accepted").count(), accepted + 1, "{}", agent.log());

    // Work that is cancelled needs no decision any more.
    fixture.api.post(&format!("/api/commands/{}/cancel", held[0]), json!({})).await.expect(202);
    fixture.api.post(&format!("/api/jobs/{}/cancel", jobs[0].id()), json!({})).await.expect(202);
    fixture.api.post(&format!("/api/jobs/{}/abort", jobs[2].id()), json!({})).await.expect(202);
    eventually_shown("three requests are withdrawn", async || {
        let page = grace.get("/api/approvals?state=withdrawn").await.expect(200);
        if page.list("items").len() == 3 { Ok(()) } else { Err(page) }
    })
    .await;
    // The rest runs after a yes, each once.
    let page = grace.get("/api/approvals?state=pending").await.expect(200);
    let left = page.list("items");
    assert_eq!(left.len(), 5, "{page}");
    for request in left.iter().filter(|request| request["command"] == "execute") {
        let path = format!("/api/approvals/{}/approve", request.id());
        grace.post(&path, json!({})).await.expect(200);
    }
    assert_eq!(fixture.api.finished(&held[1]).await["state"], "succeeded");
    job_in(&fixture.api, jobs[3].id(), "succeeded").await;
    assert_eq!(fixture.api.command(&held[3]).await["is_held"], true, "the restart waits");
}

async fn refused_and_expired_requests_end_their_work_and_stay(fixture: Fixture) {
    let (_agent, id) = agent(&fixture).await;
    let grace = another_person(&fixture).await;
    rule(&fixture, json!({"name": "all", "fan_out_above": 0})).await;
    let refused = fixture.api.execute(&id, "status", json!({})).await;
    let path = format!("/api/approvals/{}", pending(&grace).await.id());
    let without = grace.post(&format!("{path}/refuse"), json!({})).await;
    without.expect_problem(422, "invalid_field");
    let reason = json!({"reason": "not today"});
    grace.post(&format!("{path}/refuse"), reason).await.expect(200);
    let ended = fixture.api.finished(&refused).await;
    let seen = (&ended["state"], &ended["error_code"]);
    assert_eq!(seen, (&json!("rejected"), &json!("approval_refused")));

    rule(&fixture, json!({"name": "brief", "wait_ms": 1})).await;
    let body = json!({"script": "status", "target": {"ids": [id]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let job = job_in(&fixture.api, job.id(), "failed").await;
    assert_eq!(job["counts"], json!({"expired": 1}), "{job}");
    let page = grace.get("/api/approvals").await.expect(200);
    let states: Vec<_> = page.list("items").iter().map(|item| &item["state"]).collect();
    assert_eq!(states, [&json!("expired"), &json!("refused")], "{page}");
    let expired = format!("/api/approvals/{}/approve", page["items"][0].id());
    grace.post(&expired, json!({})).await.expect_problem(409, "approval_ended");
    let other = fixture.other_tenant().await;
    other.get(&path).await.expect_problem(404, "not_found");
    let nothing = other.get("/api/approvals").await.expect(200);
    assert_eq!(nothing["items"], json!([]));
}
