//! What a fire does while the previous job has not ended.

use muster_tests::{Agent, AgentOptions, Fixture, JsonFields as _, Script, eventually};
use serde_json::{Value, json};

use super::{disabled, fires, schedule, with_fires};

/// An agent whose script `count` runs until a file exists.
async fn blocked_agent(fixture: &Fixture) -> (Agent, std::path::PathBuf) {
    let file = fixture.test_dir.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", file.display());
    let scripts = [Script::new("count", &script)];
    let (agent, _) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    (agent, file)
}

async fn states_of_jobs(fixture: &Fixture) -> Vec<String> {
    let page = fixture.api.get("/api/jobs?limit=500").await.expect(200);
    page.list("items").iter().map(|job| job.text("state").to_owned()).collect()
}

fn reasons<'a>(fires: &'a [Value], reason: &'a str) -> impl Iterator<Item = &'a Value> {
    fires.iter().filter(move |fire| fire["reason"] == reason)
}

#[tokio::test]
async fn fires_are_skipped_while_the_previous_job_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, file) = blocked_agent(&fixture).await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({"overlap": "skip"})).await;
    with_fires(&fixture, &id, "skipped", 2).await;
    assert_eq!(states_of_jobs(&fixture).await, ["running"]);
    std::fs::write(file, "").expect("let it end");
    with_fires(&fixture, &id, "fired", 2).await;
    let fires = disabled(&fixture, &id).await;
    assert!(reasons(&fires, "overlap").count() >= 2, "{fires:#?}");
}

#[tokio::test]
async fn a_purge_of_history_starts_no_second_job_beside_one_that_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, file) = blocked_agent(&fixture).await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({"overlap": "skip"})).await;
    with_fires(&fixture, &id, "skipped", 1).await;
    let purge = json!({"older_than_ms": 0});
    fixture.api.post("/api/storage/purge", purge).await.expect(202);
    eventually("the purge is done", async || {
        let report = fixture.api.get("/api/storage").await.expect(200);
        report["purge"]["finished_at"].is_string().then_some(())
    })
    .await;
    with_fires(&fixture, &id, "skipped", 2).await;
    assert_eq!(states_of_jobs(&fixture).await, ["running"]);
    std::fs::write(file, "").expect("let it end");
    disabled(&fixture, &id).await;
}

#[tokio::test]
async fn one_fire_waits_for_the_previous_job_and_then_starts() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, file) = blocked_agent(&fixture).await;
    let id = schedule(&fixture, json!({"every_ms": 1_000}), json!({"overlap": "queue"})).await;
    let seen = with_fires(&fixture, &id, "skipped", 1).await;
    let waiting = seen.iter().find(|fire| fire["state"] == "waiting").expect("one waits").id();
    assert_eq!(states_of_jobs(&fixture).await, ["running"]);
    std::fs::write(file, "").expect("let it end");
    eventually("the fire that waited starts", async || {
        let fires = fires(&fixture, &id).await;
        let fire = fires.iter().find(|fire| fire.id() == waiting).expect("it stays");
        (fire["state"] == "fired").then_some(())
    })
    .await;
    disabled(&fixture, &id).await;
}

#[tokio::test]
async fn fire_cancels_the_previous_job_and_starts_after_its_end() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, file) = blocked_agent(&fixture).await;
    let policy = json!({"overlap": "cancel_previous"});
    let id = schedule(&fixture, json!({"every_ms": 2_000}), policy).await;
    with_fires(&fixture, &id, "fired", 3).await;
    disabled(&fixture, &id).await;
    let states = states_of_jobs(&fixture).await;
    assert!(states.iter().filter(|state| *state == "cancelled").count() >= 2, "{states:?}");
    let running = states.iter().filter(|state| *state == "running").count();
    assert!(running <= 1, "two jobs at once: {states:?}");
    std::fs::write(file, "").expect("let it end");
    eventually("the last job ends", async || {
        let states = states_of_jobs(&fixture).await;
        states.iter().all(|state| state != "running").then_some(())
    })
    .await;
}
