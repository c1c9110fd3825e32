//! A rule names a script of the library, and means each of its versions, alone and as a step.

use muster_tests::{Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

use super::{agent, made, shell};

on_both_databases!(a_version_in_a_step_goes_around_no_rule_and_no_limit);

async fn a_version_in_a_step_goes_around_no_rule_and_no_limit(fixture: Fixture) {
    let (_agent, id) = agent(&fixture, shell()).await;
    for name in ["danger", "fine"] {
        let script = json!({"name": name, "interpreter": "sh", "body": "true\n"});
        fixture.api.post("/api/scripts", script).await.expect(201);
    }
    let fields = json!({"name": "ci", "role": "owner", "scripts": ["library:danger"]});
    let (_, limited) = made(&fixture.api, fields).await;
    let step = |script: &str| json!({"steps": [{ "script": script }]});
    // The limit of a key is about the same name.
    limited.try_execute(&id, step("library:danger@1")).await.expect(202);
    limited.try_execute(&id, step("library:fine@1")).await.expect_problem(403, "script_not_in_key");

    let rule = json!({"name": "danger", "scripts": ["library:danger"]});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    for script in ["library:danger", "library:danger@1"] {
        for data in [json!({ "script": script }), step(script)] {
            let command = fixture.api.try_execute(&id, data.clone()).await.expect(202);
            assert_eq!(command["is_held"], true, "{data}");
            let mut job = data;
            job["target"] = json!({"ids": [id]});
            let job = fixture.api.post("/api/jobs", job).await.expect(202);
            assert_eq!(job["state"], "awaiting_approval", "{script}");
        }
    }
    let free = fixture.api.try_execute(&id, step("library:fine@1")).await.expect(202);
    assert_ne!(free["is_held"], true, "{free}");
    // A schedule that names the version waits too.
    let job = json!({"steps": [{"script": "library:danger@1"}], "target": {"ids": [id]}});
    let schedule = json!({"name": "s", "rule": {"every_ms": 3_600_000}, "job": job});
    let schedule = fixture.api.post("/api/schedules", schedule).await.expect(201);
    let path = format!("/api/schedules/{}/run", schedule.id());
    let run = fixture.api.post(&path, json!({})).await.expect(202);
    let job: Value =
        fixture.api.get(&format!("/api/jobs/{}", run.text("job_id"))).await.expect(200);
    assert_eq!(job["state"], "awaiting_approval", "{job}");
}
