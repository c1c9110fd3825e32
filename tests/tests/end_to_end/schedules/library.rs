//! Schedules and hooks that run scripts of the library.

use muster_tests::{Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(
    schedule_of_a_library_script_is_checked_when_it_is_saved,
    script_that_schedules_and_hooks_run_is_deleted_only_by_force,
);

/// Saves a script with a required parameter, one with a default and a secret.
async fn script(fixture: &Fixture, name: &str) -> String {
    let parameters = json!([{"name": "SERVICE", "pattern": "[a-z]+", "required": true},
        {"name": "COUNT", "type": "integer", "default": "1"}, {"name": "TOKEN", "type": "secret", "required": true}]);
    let body = json!({"name": name, "body": "echo $SERVICE\n", "interpreter": "sh",
        "parameters": parameters});
    fixture.api.post("/api/scripts", body).await.expect(201).id().to_owned()
}

fn schedule(job: Value) -> Value {
    json!({"name": "nightly", "rule": {"every_ms": 3_600_000}, "job": job})
}

fn job(script: &str, parameters: Value) -> Value {
    json!({"script": script, "target": {"tags": ["web"]}, "parameters": parameters})
}

async fn schedule_of_a_library_script_is_checked_when_it_is_saved(fixture: Fixture) {
    script(&fixture, "restart").await;
    let create = async |job: Value, secrets: Value| {
        let mut body = schedule(job);
        body["secret_parameters"] = secrets;
        fixture.api.post("/api/schedules", body).await
    };
    let token = || json!({"TOKEN": "t"});
    let valid = json!({"SERVICE": "nginx"});
    for (job, secrets, code, said) in [
        (job("library:gone", json!({})), token(), "unknown_library_script", "no script `gone`"),
        (job("library:restart@7", json!({})), token(), "unknown_version", "no version 7"),
        (
            job("library:restart", json!({})),
            token(),
            "invalid_parameters",
            "add `SERVICE=VALUE` to the parameters",
        ),
        (
            job("library:restart", valid.clone()),
            Value::Null,
            "invalid_parameters",
            "add `TOKEN=VALUE` to the secret parameters",
        ),
        (
            job("library:restart", json!({"SERVICE": "NGINX"})),
            token(),
            "invalid_parameters",
            "must match the pattern",
        ),
        (
            job("library:restart", json!({"SERVICE": "nginx", "ODD": "1"})),
            token(),
            "invalid_parameters",
            "`ODD` is not declared",
        ),
    ] {
        let problem = create(job, secrets).await.expect_problem(422, code);
        assert!(problem.text("detail").contains(said), "{problem}");
    }
    let created = create(job("library:restart", valid), token()).await.expect(201);
    let path = format!("/api/schedules/{}", created.id());
    let changed = json!({"job": job("library:restart", json!({})), "secret_parameters": token()});
    fixture.api.patch(&path, changed).await.expect_problem(422, "invalid_parameters");
    let without = json!({"secret_parameters": null});
    fixture.api.patch(&path, without).await.expect_problem(422, "invalid_parameters");
    fixture.api.patch(&path, json!({"name": "weekly"})).await.expect(200);
    // The script of a host is checked by the host.
    let host = schedule(job("anything", json!({"ODD": "1"})));
    fixture.api.post("/api/schedules", host).await.expect(201);
}

async fn script_that_schedules_and_hooks_run_is_deleted_only_by_force(fixture: Fixture) {
    let plain = |name: &str| {
        json!({"name": name, "body": "echo\n", "interpreter": "sh",
        "parameters": [{"name": "REF", "required": true}]})
    };
    let script = fixture.api.post("/api/scripts", plain("deploy")).await.expect(201);
    fixture.api.post("/api/scripts", plain("deploy-all")).await.expect(201);
    let hook = |field: &str| {
        json!({"name": "push", "authentication": "github",
        "job": {"script": "library:deploy", "target": {"tags": ["web"]}}, "parameters": {field: "/after"}})
    };
    let odd = fixture.api.post("/api/hooks", hook("ODD")).await;
    odd.expect_problem(422, "invalid_parameters");
    // Its value comes with each delivery.
    fixture.api.post("/api/hooks", hook("REF")).await.expect(201);
    let other = schedule(job("library:deploy-all", json!({"REF": "main"})));
    fixture.api.post("/api/schedules", other).await.expect(201);
    let mut pinned = schedule(job("library:deploy@1", json!({"REF": "main"})));
    pinned["name"] = json!("pinned");
    let pinned = fixture.api.post("/api/schedules", pinned).await.expect(201);
    let path = format!("/api/scripts/{}", script.id());
    let problem = fixture.api.delete(&path).await.expect_problem(409, "script_in_use");
    let detail = problem.text("detail");
    assert!(detail.contains("schedule `pinned`, hook `push`"), "{problem}");
    assert!(!detail.contains("nightly"), "another script: {problem}");
    let blind =
        json!({"name": "blind", "role": "admin", "scopes": ["scripts:read", "scripts:write"]});
    let blind = fixture.api.post("/api/keys", blind).await.expect(201);
    let blind = fixture.api.with_key(blind.text("key"));
    let problem = blind.delete(&path).await.expect_problem(409, "script_in_use");
    assert!(!problem.text("detail").contains("push"), "{problem}");
    fixture.api.delete(&format!("/api/schedules/{}", pinned.id())).await.expect(204);
    fixture.api.delete(&path).await.expect_problem(409, "script_in_use");
    fixture.api.delete(&format!("{path}?force=true")).await.expect(204);
    fixture.api.get(&path).await.expect(404);
}
