//! Every rule about what runs sees each step.

use muster_tests::{
    ALL, FakeAgent, Fixture, JsonFields as _, Script, eventually_shown, install, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{agent, agent_named, execution, made, run, shell, states};

on_both_databases!(
    limits_of_a_key_hold_for_each_step,
    queued_steps_that_leave_the_limits_of_their_key_are_never_sent,
    a_rule_of_approval_and_the_ladder_see_each_step,
    a_host_decides_about_each_step_before_the_first_one_starts,
);

const LEDGER: &str = "00000000-0000-4000-8000-000000000001";

async fn limits_of_a_key_hold_for_each_step(fixture: Fixture) {
    let (_agent, id) = agent(&fixture, shell()).await;
    let (_second, both) = agent_named(&fixture, "two", shell()).await;
    let (_, scripts) =
        made(&fixture.api, json!({"name": "ci", "role": "owner", "scripts": ["deploy"]})).await;
    let fields =
        json!({"name": "narrow", "role": "admin", "scopes": ["commands:run", "commands:read"]});
    let (_, narrow) = made(&fixture.api, fields).await;
    let job = |steps: Value| json!({"steps": steps, "target": {"ids": [id]}});
    let (deploy, other, program) =
        (json!({"script": "deploy"}), json!({"script": "other"}), json!({"argv": ["true"]}));
    for bad in [&other, &program] {
        for steps in [json!([deploy, bad]), json!([bad, deploy])] {
            let refused = scripts.try_execute(&id, json!({ "steps": steps })).await;
            refused.expect_problem(403, "script_not_in_key");
            let refused = scripts.post("/api/jobs", job(steps)).await;
            refused.expect_problem(403, "script_not_in_key");
        }
    }
    // The right to run scripts does not include ad-hoc commands.
    let steps = json!([deploy, program]);
    let refused = narrow.try_execute(&id, json!({ "steps": steps })).await;
    refused.expect_problem(403, "missing_scope");
    narrow.post("/api/jobs", job(steps.clone())).await.expect_problem(403, "missing_scope");
    let schedule = json!({"name": "s", "rule": {"every_ms": 3_600_000}, "job": job(steps)});
    let fields = json!({"name": "planner", "role": "admin",
        "scopes": ["commands:run", "schedules:write", "schedules:read"]});
    let (_, planner) = made(&fixture.api, fields).await;
    planner.post("/api/schedules", schedule).await.expect_problem(403, "missing_scope");
    // Others continue no rollout of steps that they may not run.
    let rollout = json!({"steps": [deploy, other], "target": {"ids": [id, both]},
        "rollout": {"wave_size": 1, "pause_ms": 3_600_000}});
    let rollout = fixture.api.post("/api/jobs", rollout).await.expect(202).id().to_owned();
    fixture.api.post(&format!("/api/jobs/{rollout}/pause"), json!({})).await.expect(202);
    let resume = scripts.post(&format!("/api/jobs/{rollout}/resume"), json!({})).await;
    resume.expect_problem(403, "script_not_in_key");
    let two = json!([deploy, deploy]);
    let free = scripts.try_execute(&id, json!({ "steps": two })).await.expect(202);
    assert_eq!(execution(&fixture.api, free.id()).await["state"], "succeeded");
    narrow.try_execute(&id, json!({"steps": [deploy]})).await.expect(202);
}

async fn queued_steps_that_leave_the_limits_of_their_key_are_never_sent(fixture: Fixture) {
    let fields = json!({"permissions": ALL, "tags": ["web"], "max_agents": 1});
    let (agent_key_id, agent_key) = fixture.api.agent_key(fields).await;
    let address = fixture.server.address();
    let registration = || {
        json!({"capabilities": ["execute", "steps"], "policy": "shell",
            "machine_id": "0".repeat(32), "ledger_id": LEDGER})
    };
    let (first, _) = FakeAgent::registered_full(&address, &agent_key, registration()).await;
    let id = fixture.online(&agent_key_id).await.id().to_owned();
    drop(first);
    fixture.with_status(&agent_key_id, "offline").await;
    let fields = json!({"name": "narrowed", "role": "owner", "scripts": ["deploy", "other"]});
    let (narrowed_id, narrowed) = made(&fixture.api, fields).await;
    let steps = json!({"steps": [{"script": "deploy"}, {"script": "other"}]});
    let queued = narrowed.execute_anyway(&id, steps).await;
    let path = format!("/api/keys/{narrowed_id}");
    fixture.api.patch(&path, json!({"scripts": ["deploy"]})).await.expect(200);
    let (_again, _) = FakeAgent::registered_full(&address, &agent_key, registration()).await;
    let ended = fixture.api.finished(&queued).await;
    let seen = (&ended["state"], &ended["error_code"], &ended["delivered_at"]);
    assert_eq!(seen, (&json!("rejected"), &json!("outside_key_limits"), &Value::Null), "{ended}");
}

async fn a_rule_of_approval_and_the_ladder_see_each_step(fixture: Fixture) {
    let (host, id) = agent(&fixture, shell()).await;
    let grace = fixture.owner().await.add("grace@example.com", "owner").await;
    let (_, grace) = made(&grace.api, json!({"name": "grace", "role": "owner"})).await;
    let rule = json!({"name": "other", "scripts": ["other"], "ad_hoc": true});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let deploy = || json!({"script": "deploy"});
    for bad in [json!({"script": "other"}), json!({"argv": ["true"]})] {
        for steps in [json!([deploy(), bad]), json!([bad, deploy()])] {
            let data = json!({ "steps": steps });
            let command = fixture.api.try_execute(&id, data).await.expect(202);
            assert_eq!(command["is_held"], true, "{steps}");
            let job = json!({"steps": steps, "target": {"ids": [id]}});
            let job = fixture.api.post("/api/jobs", job).await.expect(202);
            assert_eq!(job["state"], "awaiting_approval", "{steps}");
        }
    }
    let free = run(&fixture, &id, json!({"steps": [deploy(), deploy()]})).await;
    assert_eq!(free["state"], "succeeded", "{free}");
    // What the hosts report about each script is pinned, and what is approved runs.
    let page = grace.get("/api/approvals?state=pending").await.expect(200);
    let request = page["items"].as_array().expect("a list").last().expect("the first").clone();
    assert_eq!(request["script"], "steps:deploy,other", "{request}");
    assert!(request["script_sha256"].is_string() && request["data"]["steps"].is_array());
    let path = format!("/api/approvals/{}/approve", request.id());
    let entries = |args: Value| {
        [
            Script::new("deploy", "echo deployed $WHAT").taking(["WHAT"]),
            Script::new("other", "echo other; exit 3").with("args", args),
        ]
    };
    let reported = async |args: Value| {
        install(host.state_dir(), &entries(args.clone()));
        eventually_shown("the manifest is reported", async || {
            fixture.ask(&id, "scripts", json!({})).await;
            let scripts = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
            let items = scripts["items"].as_array().expect("scripts");
            let other = items.iter().find(|script| script["name"] == "other").expect("a script");
            let is_new = match args.as_array().is_some_and(Vec::is_empty) {
                true => other["args"].as_array().is_none_or(Vec::is_empty),
                false => other["args"] == args,
            };
            if is_new { Ok(()) } else { Err(scripts.clone()) }
        })
        .await;
    };
    reported(json!(["--changed"])).await;
    grace.post(&path, json!({})).await.expect_problem(409, "approval_outdated");
    reported(json!([])).await;
    let data = json!({"steps": [deploy(), {"script": "other"}]});
    let again = fixture.api.try_execute(&id, data).await.expect(202);
    let page = grace.get("/api/approvals?state=pending").await.expect(200);
    let items = page["items"].as_array().expect("a list");
    let request = items.iter().find(|item| item["command_id"] == again["id"]).expect("a request");
    let path = format!("/api/approvals/{}/approve", request.id());
    grace.post(&path, json!({})).await.expect(200);
    let ran = execution(&fixture.api, request["command_id"].as_str().expect("an id")).await;
    assert_eq!(states(&ran), ["succeeded", "failed"], "{ran}");

    let ladder = json!({"steps": [{"from_agents": 1, "demand": "refuse"}]});
    fixture.api.send(Method::PUT, "/api/access/ladder", Some(ladder)).await.expect(200);
    let refused = fixture.api.try_execute(&id, json!({"steps": [deploy()]})).await;
    refused.expect_problem(403, "refused_by_ladder");
}

async fn a_host_decides_about_each_step_before_the_first_one_starts(fixture: Fixture) {
    let (agent, id) = agent(&fixture, json!({"allow": "manifest"})).await;
    let marker = agent.state_dir().join("scripts/ran");
    let good = json!({"script": "deploy"});
    for (bad, code) in [
        (json!({"argv": ["true"]}), "argv_not_allowed"),
        (json!({"script": "none"}), "unknown_script"),
        (json!({"script": "other", "parameters": {"WHAT": "x"}}), "invalid_parameters"),
    ] {
        let data = json!({"steps": [good, bad]});
        let status = if code == "argv_not_allowed" { 409 } else { 422 };
        let problem = fixture.api.try_execute(&id, data.clone()).await;
        let problem = problem.expect_problem(status, code);
        assert!(problem.text("detail").contains("step 2"), "{problem}");
        // The host refuses it too, and nothing of it has run.
        let sent = fixture.api.execute_anyway(&id, data).await;
        let ended = fixture.api.finished(&sent).await;
        let seen = (&ended["state"], &ended["error_code"]);
        assert_eq!(seen, (&json!("rejected"), &json!(code)), "{ended}");
        assert!(fixture.api.output(&sent).await.is_empty() && !marker.exists());
    }
    let skipped = json!({"steps": [good, {"argv": ["true"]}], "target": {"ids": [id]},
        "on_mismatch": "skip"});
    fixture.api.post("/api/jobs", skipped).await.expect_problem(422, "all_agents_skipped");
}
