//! Schedules whose jobs wait for another person's yes.

use muster_tests::{Fixture, JsonFields as _, eventually, eventually_shown, on_both_databases};
use serde_json::json;

use super::{counting_agent, disabled, schedule, with_fires};

on_both_databases!(a_scheduled_job_waits_and_later_fires_go_by_the_overlap_policy);

async fn a_scheduled_job_waits_and_later_fires_go_by_the_overlap_policy(fixture: Fixture) {
    let (_agent, file) = counting_agent(&fixture).await;
    let api = &fixture.api;
    let rule = json!({"name": "counts", "scripts": ["count"]});
    let rule = api.post("/api/approvals/rules", rule).await.expect(201).id().to_owned();
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({"overlap": "skip"})).await;
    // The job that waits is open, so the fires behind it are skipped.
    let seen = with_fires(&fixture, &id, "skipped", 2).await;
    let fired = seen.iter().filter(|fire| fire["state"] == "fired").collect::<Vec<_>>();
    assert_eq!(fired.len(), 1, "{seen:#?}");
    let job = format!("/api/jobs/{}", fired[0].text("job_id"));
    assert_eq!(api.get(&job).await.expect(200)["state"], "awaiting_approval");
    let pending = api.get("/api/approvals?state=pending").await.expect(200);
    let request = pending["items"][0].clone();
    assert_eq!(pending.list("items").len(), 1, "{pending}");
    assert_eq!(request["job_id"], fired[0]["job_id"]);
    assert!(request["script_sha256"].is_string(), "it pins the script: {request}");
    assert!(!file.exists(), "nothing ran");
    // A person can't approve the fires of an own schedule.
    let approve = format!("/api/approvals/{}/approve", request.id());
    api.post(&approve, json!({})).await.expect_problem(403, "own_request");

    // Its time ends: the job ends, and the next fire gets a job that waits, too.
    fixture.server.query("UPDATE approvals SET expires_at = created_at");
    // Any request wakes the worker.
    api.delete(&format!("/api/approvals/rules/{rule}")).await.expect(204);
    let brief = json!({"name": "brief", "scripts": ["count"], "wait_ms": 1});
    let brief = api.post("/api/approvals/rules", brief).await.expect(201).id().to_owned();
    let body = json!({"script": "count", "target": {"expression": "all"}});
    api.post("/api/jobs", body).await.expect(202);
    eventually_shown("the job of the fire ends", async || {
        let job = api.get(&job).await.expect(200);
        if job["counts"] == json!({"expired": 1}) { Ok(()) } else { Err(job) }
    })
    .await;
    eventually("another fire gets a job", async || {
        let fires = super::fires(&fixture, &id).await;
        (fires.iter().filter(|fire| fire["state"] == "fired").count() >= 2).then_some(())
    })
    .await;
    assert!(!file.exists(), "nothing ran");
    // Without a rule the next fires run.
    api.delete(&format!("/api/approvals/rules/{brief}")).await.expect(204);
    eventually("a fire runs", async || file.exists().then_some(())).await;
    disabled(&fixture, &id).await;
}
