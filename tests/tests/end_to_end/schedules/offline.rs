//! Fires and agents that are offline.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::json;

on_both_databases!(fire_skips_offline_agents_and_delays_no_other_if_the_schedule_says_so);

async fn fire_skips_offline_agents_and_delays_no_other_if_the_schedule_says_so(fixture: Fixture) {
    let scripts = || vec![Script::new("hi", "echo hi")];
    let here = AgentOptions { scripts: scripts(), ..AgentOptions::named("here") };
    let gone = AgentOptions { scripts: scripts(), ..AgentOptions::named("gone") };
    let (_here, here_id) = fixture.agent(here).await;
    let (mut gone, gone_id) = fixture.agent(gone).await;
    gone.stop();
    eventually("it is offline", async || {
        let shown = fixture.api.get(&format!("/api/agents/{gone_id}")).await.expect(200);
        (shown["status"] == "offline").then_some(())
    })
    .await;
    let job = json!({"script": "hi", "target": {"ids": [here_id, gone_id]}, "offline": "skip"});
    let body = json!({"name": "hourly", "rule": {"every_ms": 3_600_000}, "job": job});
    let created = fixture.api.post("/api/schedules", body).await.expect(201);
    assert_eq!(created["job"]["offline"], "skip", "{created}");
    let path = format!("/api/schedules/{}/run", created.id());
    let started = fixture.api.post(&path, json!({})).await.expect(202);
    let job = format!("/api/jobs/{}", started.text("job_id"));
    let ended = eventually("the job has ended", async || {
        let job = fixture.api.get(&job).await.expect(200);
        job["finished_at"].is_string().then_some(job)
    })
    .await;
    assert_eq!(ended["counts"], json!({"succeeded": 1, "skipped": 1}), "{ended}");
}
