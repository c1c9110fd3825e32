//! With whose rights schedules run, and what happens when these end.

use muster_tests::{Fixture, JsonFields as _, eventually, on_both_databases};
use serde_json::{Value, json};

use super::{counting_agent, with_fires};

on_both_databases!(
    schedule_of_a_revoked_key_stops_until_a_person_takes_it_over,
    schedule_of_a_person_who_left_passes_to_the_owner_of_a_tenant_that_asks_for_it,
);

fn body(name: &str) -> Value {
    json!({"name": name, "rule": {"every_ms": 1_000}, "overlap": "allow",
        "job": {"script": "count", "target": {"expression": "all"}}})
}

async fn key(fixture: &Fixture, fields: Value) -> (String, muster_tests::Api) {
    let made = fixture.api.post("/api/keys", fields).await.expect(201);
    (made.id().to_owned(), fixture.api.with_key(made.text("key")))
}

async fn schedule_of_a_revoked_key_stops_until_a_person_takes_it_over(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let (key_id, api) = key(&fixture, json!({"name": "leaver", "role": "member"})).await;
    let created = api.post("/api/schedules", body("counts")).await.expect(201);
    let id = created.id();
    assert_eq!(created["owner_id"], key_id.as_str());
    let fired = with_fires(&fixture, id, "fired", 1).await;
    let job = fired.iter().find_map(|fire| fire["job_id"].as_str()).expect("a job");
    let job = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
    assert_eq!(job["requested_by"], key_id.as_str());
    fixture.api.delete(&format!("/api/keys/{key_id}")).await.expect(200);
    let stopped = eventually("the schedule stops", async || {
        let shown = fixture.api.get(&format!("/api/schedules/{id}")).await.expect(200);
        (shown["state"] == "stopped").then_some(shown)
    })
    .await;
    assert!(stopped.text("stop_reason").contains("revoked"), "{stopped}");
    assert!(stopped["next_due_at"].is_null());
    let enabled = fixture.api.post(&format!("/api/schedules/{id}/enable"), json!({})).await;
    let enabled = enabled.expect(200);
    assert_eq!(
        (enabled["state"].as_str(), &enabled["stop_reason"]),
        (Some("active"), &Value::Null)
    );
    assert_ne!(enabled["owner_id"], key_id.as_str());
    let known = with_fires(&fixture, id, "fired", 1).await.len();
    with_fires(&fixture, id, "fired", known).await;
}

async fn schedule_of_a_person_who_left_passes_to_the_owner_of_a_tenant_that_asks_for_it(
    fixture: Fixture,
) {
    let (_agent, _) = counting_agent(&fixture).await;
    let owner = fixture.owner().await;
    let member = owner.add("grace@example.com", "member").await;
    let created = member.api.post("/api/schedules", body("counts")).await.expect(201);
    // The person of a revoked key could approve what the owner of the tenant then requests.
    let (revoked_id, program) = key(&fixture, json!({"name": "program", "role": "member"})).await;
    let of_key = program.post("/api/schedules", body("of-a-key")).await.expect(201);
    let on = json!({"passes_schedules_on": true});
    let tenant = owner.api.patch("/api/tenant", on).await.expect(200);
    assert_eq!(tenant["passes_schedules_on"], true);
    owner.api.delete(&format!("/api/members/{}", member.member_id)).await.expect(204);
    fixture.api.delete(&format!("/api/keys/{revoked_id}")).await.expect(200);
    let path = format!("/api/schedules/{}", created.id());
    let passed = eventually("it has another owner", async || {
        let shown = fixture.api.get(&path).await.expect(200);
        (shown["owner_id"] != member.member_id.as_str()).then_some(shown)
    })
    .await;
    assert_eq!(passed["owner_id"], owner.member_id.as_str(), "{passed}");
    assert_eq!(passed["state"], "active");
    let known = with_fires(&fixture, created.id(), "fired", 1).await.len();
    with_fires(&fixture, created.id(), "fired", known).await;
    let audit = fixture.api.get("/api/audit?action=schedule.pass_on").await.expect(200);
    let detail = &audit["items"][0]["detail"];
    assert_eq!(
        (&detail["from"], &detail["to"]),
        (&json!(member.member_id), &json!(owner.member_id))
    );
    assert_eq!(audit.list("items").len(), 1, "{audit}");
    eventually("the schedule of the key stops", async || {
        let shown = fixture.api.get(&format!("/api/schedules/{}", of_key.id())).await.expect(200);
        (shown["state"] == "stopped").then_some(())
    })
    .await;
}

#[tokio::test]
async fn schedule_can_do_what_its_maker_can_and_no_more() {
    let fixture = Fixture::on_sqlite().await;
    let (_, member) = key(&fixture, json!({"name": "member", "role": "member"})).await;
    let mut shell = body("shell");
    shell["job"] = json!({"argv": ["id"], "target": {"expression": "all"}});
    member.post("/api/schedules", shell.clone()).await.expect_problem(403, "missing_scope");
    // Neither by changing one of its own, nor one of another person.
    let own = member.post("/api/schedules", body("own")).await.expect(201);
    let change = json!({"job": shell["job"]});
    let path = format!("/api/schedules/{}", own.id());
    member.patch(&path, change).await.expect_problem(403, "missing_scope");
    let other = fixture.api.post("/api/schedules", shell).await.expect(201);
    let path = format!("/api/schedules/{}", other.id());
    let rename = json!({"name": "mine"});
    member.patch(&path, rename.clone()).await.expect_problem(403, "missing_scope");
    for action in ["run", "disable", "enable"] {
        let acted = member.post(&format!("{path}/{action}"), json!({})).await;
        acted.expect_problem(403, "missing_scope");
    }
    // With the right over the work of others, but not to run ad-hoc commands.
    let scopes = ["schedules:write", "commands:run", "commands:manage"];
    let (_, manager) =
        key(&fixture, json!({"name": "manager", "role": "admin", "scopes": scopes})).await;
    manager.patch(&path, rename).await.expect_problem(403, "missing_scope");
    manager.post(&format!("{path}/disable"), json!({})).await.expect(200);
    manager.post(&format!("{path}/enable"), json!({})).await.expect_problem(403, "missing_scope");
}
