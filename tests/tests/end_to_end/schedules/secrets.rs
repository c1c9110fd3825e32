//! Secret parameters of a schedule: sealed, never shown, and only for its own job.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::json;

on_both_databases!(secrets_of_a_schedule_reach_its_job_alone_and_are_never_shown);

const SECRET: &str = "hunter2-hunter2";

async fn secrets_of_a_schedule_reach_its_job_alone_and_are_never_shown(fixture: Fixture) {
    let file = fixture.test_dir.path().join("token");
    let text = format!("printf %s \"$TOKEN\" > {}", file.display());
    let script = Script::new("keep", &text).taking(["TOKEN"]);
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let job = json!({"script": "keep", "target": {"ids": [id]}});
    let body = json!({"name": "nightly", "rule": {"every_ms": 3_600_000}, "job": job,
        "secret_parameters": {"TOKEN": SECRET}});
    let mut by_facts = body.clone();
    by_facts["job"]["target"] = json!({"expression": "os:linux"});
    let refused = fixture.api.post("/api/schedules", by_facts).await;
    refused.expect_problem(422, "secrets_need_ids_or_tags");
    let created = fixture.api.post("/api/schedules", body).await.expect(201);
    assert_eq!(created["secret_parameter_names"], json!(["TOKEN"]));
    let path = format!("/api/schedules/{}", created.id());
    fixture.api.post(&format!("{path}/run"), json!({})).await.expect(202);
    eventually("the job has the secret", async || {
        (std::fs::read_to_string(&file).ok()? == SECRET).then_some(())
    })
    .await;
    for shown in [&path, "/api/schedules", "/api/audit", "/api/jobs"] {
        let shown = fixture.api.get(shown).await.expect(200).to_string();
        assert!(!shown.contains(SECRET), "{shown}");
    }
    assert!(!fixture.server.log().contains(SECRET), "the log shows a secret");
    let other = json!({"job": {"script": "other", "target": {"ids": [id]}}});
    let refused = fixture.api.patch(&path, other.clone()).await;
    refused.expect_problem(422, "secrets_not_given_again");
    let same = fixture.api.patch(&path, json!({"job": job, "jitter_ms": 0})).await.expect(200);
    assert_eq!(same["secret_parameter_names"], json!(["TOKEN"]));
    let mut without = other;
    without["secret_parameters"] = json!(null);
    let removed = fixture.api.patch(&path, without).await.expect(200);
    assert_eq!(removed["secret_parameter_names"], json!([]));
}
