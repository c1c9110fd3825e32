//! `GET /api/storage` and `muster storage`: what is stored, and the quota of a tenant.

use muster_tests::{
    AgentOptions, Fixture, JsonFields as _, Script, ServerOptions, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    report_has_exactly_the_output_that_was_written_by_script_and_tenant,
    tenant_over_its_quota_gets_no_new_work_and_running_work_finishes,
);

/// Measures often, so that a test waits for the next measurement and not for a time.
async fn measure_often(fixture: &mut Fixture) {
    fixture.server.stop();
    let options = ServerOptions::default().with("MUSTER_STORAGE_MEASURE_EVERY_MS", 200);
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    fixture.api = fixture.server.api();
}

/// The usage of a script in a report; null if there is none.
fn script<'a>(report: &'a Value, name: &str) -> &'a Value {
    let scripts = report["scripts"].as_array().expect("a list");
    scripts.iter().find(|script| script["script"] == name).unwrap_or(&Value::Null)
}

async fn report_has_exactly_the_output_that_was_written_by_script_and_tenant(mut fixture: Fixture) {
    measure_often(&mut fixture).await;
    let scripts = [
        Script::new("scan", "head -c 150000 /dev/urandom; head -c 50000 /dev/urandom >&2"),
        Script::new("hello", "printf hello"),
    ];
    let (agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    for name in ["scan", "scan", "hello"] {
        let execution = fixture.api.execute(&id, name, json!({})).await;
        fixture.api.in_state(&execution, "succeeded").await;
    }
    let report = eventually("the output is measured", async || {
        let report = fixture.api.get("/api/storage").await.expect(200);
        let is_there = script(&report, "scan")["written_bytes"] == 400_000
            && script(&report, "hello")["written_bytes"] == 5;
        is_there.then_some(report)
    })
    .await;
    assert_eq!(report["written_bytes"], 400_005, "{report}");
    let (scan, hello) = (script(&report, "scan"), script(&report, "hello"));
    assert_eq!((&scan["execution_count"], &hello["execution_count"]), (&json!(2), &json!(1)));
    // Random bytes can't be compressed.
    let scan_bytes = scan["output_bytes"].as_u64().expect("a number");
    assert!((400_000..440_000).contains(&scan_bytes), "{report}");
    assert_eq!(report["scripts"][0]["script"], "scan", "the largest is first");
    assert_eq!(report["forecast"]["outcome"], "too_little_history");
    let writer = &report["forecast"]["largest_writer"];
    assert_eq!(writer["script"], "scan");
    assert!(writer["share_percent"].as_u64().is_some_and(|share| share > 95), "{report}");
    assert!(report["server"]["database_bytes"].as_u64() > Some(0), "{report}");
    assert!(report["server"]["disk_free_bytes"] != Value::Null, "{report}");
    // The files that the disk has are the files of the report.
    eventually("the output is compacted", async || {
        let report = fixture.api.get("/api/storage").await.expect(200);
        let causes = report["causes"].as_array().expect("a list").clone();
        let output = causes.into_iter().find(|cause| cause["cause"] == "output");
        let files = output.and_then(|output| output["file_bytes"].as_u64());
        (files == Some(size_of(&fixture.server.data_dir().join("output"))) && files > Some(0))
            .then_some(())
    })
    .await;
    let metrics = fixture.api.get("/metrics").await;
    let metrics = String::from_utf8(metrics.bytes).expect("text");
    let output = metrics
        .lines()
        .find_map(|line| line.strip_prefix("muster_storage_bytes{cause=\"output\"} "));
    let output: u64 = output.and_then(|bytes| bytes.parse().ok()).expect("a gauge");
    assert!(output >= 400_000, "{metrics}");
    // Another tenant sees its own storage only.
    let made = fixture.api.post("/api/tenants", json!({"name": "other", "plan": "starter"})).await;
    let other = fixture.api.with_key(made.expect(201).text("key"));
    let seen = other.get("/api/storage").await.expect(200);
    assert_eq!((&seen["scripts"], &seen["server"]), (&json!([]), &Value::Null), "{seen}");
    assert_eq!(seen["quota"]["limit_bytes"], 5_u64 << 30);
    let cli = fixture.cli().await;
    let shown = cli.run(&["storage"]).await.expect(0);
    assert!(shown.contains("scan") && shown.contains("No forecast yet"), "{shown}");
    assert_eq!(cli.run(&["storage", "--json"]).await.json()["written_bytes"], 400_005);
    // Without a server, the same.
    drop(agent);
    fixture.server.stop();
    let offline = fixture.server.run(&["storage"]);
    let text = String::from_utf8_lossy(&offline.stdout).into_owned();
    assert!(offline.status.success(), "{offline:?}");
    assert!(text.contains("script scan: 2 executions"), "{text}");
    assert!(text.contains("400000 written"), "{text}");
    fixture.server.resume();
    fixture.server.ready().await;
}

/// The size of the files in a folder, without the lock of the folder, which is empty.
fn size_of(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            match entry.metadata() {
                Ok(found) if found.is_dir() => size_of(&entry.path()),
                Ok(found) => found.len(),
                // It was removed meanwhile.
                Err(_) => 0,
            }
        })
        .sum()
}

async fn tenant_over_its_quota_gets_no_new_work_and_running_work_finishes(mut fixture: Fixture) {
    measure_often(&mut fixture).await;
    let gate = fixture.test_dir.path().join("gate");
    let slow = format!(
        "printf begun; while [ ! -e {} ]; do sleep 0.1; done; head -c 100000 /dev/urandom",
        gate.display()
    );
    let scripts = [Script::new("scan", "head -c 2000000 /dev/urandom"), Script::new("slow", &slow)];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let schedule = json!({"name": "often", "rule": {"every_ms": 1_000},
        "job": {"script": "scan", "target": {"ids": [id]}}});
    let running = fixture.api.execute(&id, "slow", json!({})).await;
    fixture.api.in_state(&running, "running").await;
    let big = fixture.api.execute(&id, "scan", json!({})).await;
    fixture.api.in_state(&big, "succeeded").await;
    let tenant = fixture.api.get("/api/tenant").await.expect(200).id().to_owned();
    let path = format!("/api/tenants/{tenant}");
    let too_small = fixture.api.patch(&path, json!({"storage_quota_bytes": 1})).await;
    too_small.expect_problem(422, "invalid_field");
    let set = fixture.api.patch(&path, json!({"storage_quota_bytes": 1 << 20})).await.expect(200);
    assert_eq!(set["limits"]["storage_bytes"], 1 << 20);
    let before = eventually("new work is refused", async || {
        let problem = fixture.api.try_execute(&id, json!({"script": "scan"})).await.json();
        (problem["code"] == "storage_quota_reached").then_some(problem)
    })
    .await;
    assert_eq!(before["errors"][0]["limit"], 1 << 20, "{before}");
    let report = fixture.api.get("/api/storage").await.expect(200);
    assert_eq!(report["quota"]["state"], "reached", "{report}");
    assert_eq!(
        (&report["forecast"]["full_first"], &report["forecast"]["days"]),
        (&json!("quota"), &json!(0))
    );
    let job = json!({"script": "scan", "target": {"ids": [id]}});
    let refused = fixture.api.post("/api/jobs", job.clone()).await;
    refused.expect_problem(409, "storage_quota_reached");
    // A due time is kept with its reason.
    let schedule = fixture.api.post("/api/schedules", schedule).await.expect(201).id().to_owned();
    let fires = format!("/api/schedules/{schedule}/fires");
    let fire = eventually("a fire is refused", async || {
        let fires = fixture.api.get(&fires).await.expect(200);
        fires["items"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|fire| fire["state"] == "refused")
            .cloned()
    })
    .await;
    assert!(fire.text("detail").contains("quota"), "{fire}");
    assert_eq!(fire["job_id"], Value::Null);
    fixture.api.delete(&format!("/api/schedules/{schedule}")).await;
    // What was accepted before ends with all of its output.
    std::fs::write(&gate, "").expect("open the gate");
    fixture.api.in_state(&running, "succeeded").await;
    fixture.api.output_reaches(&running, 100_005).await;
    // Pings go through.
    fixture.ask(&id, "ping", json!({})).await;
    fixture.api.patch(&path, json!({"storage_quota_bytes": null})).await.expect(200);
    eventually("work is accepted again", async || {
        let answer = fixture.api.post("/api/jobs", job.clone()).await;
        (answer.json()["state"] == "running").then_some(())
    })
    .await;
}
