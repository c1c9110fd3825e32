//! One schedule that can't be read or run never stops the others.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, on_both_databases, write_policy};
use serde_json::{Value, json};

use super::{disabled, with_fires};

on_both_databases!(a_step_that_is_a_list_is_refused_and_a_stored_one_stops_no_other_schedule);

const BODY: &str = "true\n";

async fn a_step_that_is_a_list_is_refused_and_a_stored_one_stops_no_other_schedule(
    fixture: Fixture,
) {
    write_policy(&fixture.test_dir.folder("one"), &json!({"allow": "shell"}).to_string());
    let options = AgentOptions { name: "one".into(), ..AgentOptions::default() };
    let (_agent, id) = fixture.agent(options).await;
    let script = json!({"name": "fine", "interpreter": "sh", "body": BODY});
    fixture.api.post("/api/scripts", script).await.expect(201);
    // Its values in the order of the fields.
    let lists = json!([[null, "library:fine", null, {}, [], null, "stop"]]);
    let job = |steps: &Value| json!({"target": {"ids": [id]}, "steps": steps});
    let schedule = |name: &str, steps: &Value| json!({"name": name, "rule": {"every_ms": 1_000}, "job": job(steps)});
    fixture.api.post("/api/jobs", job(&lists)).await.expect_problem(422, "invalid_field");
    let command = fixture.api.try_execute(&id, json!({ "steps": lists })).await;
    command.expect_problem(422, "invalid_field");
    let body = schedule("bad", &lists);
    fixture.api.post("/api/schedules", body).await.expect_problem(422, "invalid_field");

    // One that was stored nevertheless.
    let good = json!([{"script": "library:fine"}]);
    let first = fixture.api.post("/api/schedules", schedule("bad", &good)).await.expect(201);
    fixture
        .api
        .post(&format!("/api/schedules/{}/disable", first.id()), json!({}))
        .await
        .expect(200);
    fixture.server.query(&format!(
        "UPDATE schedules SET state = 'active', job = replace(job, '{}', '{lists}') WHERE name = 'bad'",
        r#"[{"script":"library:fine"}]"#,
    ));
    let due = "UPDATE schedules SET next_due_at = handled_until + 1 WHERE name = 'bad'";
    fixture.server.query(due);
    let other = fixture.api.post("/api/schedules", schedule("good", &good)).await.expect(201);
    with_fires(&fixture, other.id(), "fired", 2).await;
    let refused = with_fires(&fixture, first.id(), "refused", 1).await;
    assert!(refused.iter().all(|fire| fire["job_id"].is_null()), "{refused:#?}");
    disabled(&fixture, first.id()).await;
    disabled(&fixture, other.id()).await;
}
