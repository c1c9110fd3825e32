//! `/api/scripts`.

use muster_tests::{Fixture, JsonFields as _, on_both_databases, sha256};
use serde_json::{Value, json};

use super::{create, save};

on_both_databases!(
    every_save_is_a_version_and_a_roll_back_only_points,
    scripts_are_found_by_text_folder_and_tag,
    another_tenant_sees_and_changes_nothing,
);

async fn every_save_is_a_version_and_a_roll_back_only_points(fixture: Fixture) {
    let id = create(&fixture, "report", "echo one\n").await;
    let path = format!("/api/scripts/{id}");
    let saved = json!({"body": "echo two\n", "interpreter": "bash", "message": "say two",
        "parameters": [{"name": "WHO", "type": "choice", "choices": ["a", "b"], "default": "a"}],
        "timeout_ms": 5_000, "expected_version": 1});
    let versions = format!("{path}/versions");
    let two = fixture.api.post(&versions, saved.clone()).await;
    assert_eq!(two.header("location"), format!("{versions}/2"));
    let two = two.expect(201);
    assert_eq!((&two["version"], &two["message"]), (&json!(2), &json!("say two")));
    assert_eq!((two.text("sha256"), &two["is_current"]), (&*sha256(b"echo two\n"), &json!(true)));
    assert_eq!(two.text("document_sha256"), sha256(two.text("document").as_bytes()));
    // Another person saved meanwhile.
    fixture.api.post(&versions, saved).await.expect_problem(409, "script_changed");
    // Nor does a version become current for a person who does not know the latest one.
    let current = json!({"current_version": 1, "expected_version": 1});
    let script = versions.trim_end_matches("/versions");
    fixture.api.patch(script, current).await.expect_problem(409, "script_changed");

    let shown = fixture.api.get(&path).await.expect(200);
    assert_eq!((&shown["current_version"], &shown["latest_version"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&shown["interpreter"], &shown["parameters"][0]["type"]),
        (&json!("bash"), &json!("choice"))
    );
    let page = fixture.api.get(&versions).await.expect(200);
    let numbers: Vec<_> = page.list("items").iter().map(|item| item["version"].clone()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(
        (&page["items"][0]["body"], &page["items"][0]["author_name"]),
        (&Value::Null, &json!("bootstrap"))
    );

    let diff = fixture.api.get(&format!("{path}/diff?from=1&to=2")).await.expect(200);
    assert!(diff.text("body").contains("-echo one\n+echo two\n"), "{diff}");
    assert!(diff.text("document").contains("+  \"interpreter\": \"bash\""), "{diff}");
    let same = fixture.api.get(&format!("{path}/diff?from=2&to=2")).await.expect(200);
    assert_eq!((same.text("body"), same.text("document")), ("", ""));
    fixture.api.get(&format!("{path}/diff?from=1&to=9")).await.expect_problem(404, "not_found");

    let back = fixture.api.patch(&path, json!({"current_version": 1})).await.expect(200);
    assert_eq!((&back["current_version"], &back["latest_version"]), (&json!(1), &json!(2)));
    assert_eq!(back["interpreter"], "sh");
    let refused = fixture.api.patch(&path, json!({"current_version": 3})).await;
    refused.expect_problem(422, "invalid_field");
    let three = save(&fixture, &id, "echo three\n").await;
    assert_eq!(three["version"], 3);
    let one = fixture.api.get(&format!("{versions}/1")).await.expect(200);
    assert_eq!((one.text("body"), &one["is_current"]), ("echo one\n", &json!(false)));

    fixture.api.delete(&path).await.expect(204);
    fixture.api.get(&format!("{versions}/1")).await.expect_problem(404, "not_found");
    for table in ["scripts", "script_versions", "script_bodies", "script_signatures"] {
        assert_eq!(
            fixture.server.query(&format!("SELECT count(*) FROM {table}")),
            ["0"],
            "{table}"
        );
    }
    let page = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let actions: Vec<_> = page.list("items").iter().map(|entry| entry.text("action")).collect();
    for action in ["script.create", "script.save", "script.update", "script.delete"] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

async fn scripts_are_found_by_text_folder_and_tag(fixture: Fixture) {
    for (name, folder, tags) in [
        ("disk-report", "ops/disk", json!(["read_only", "disk"])),
        ("disk.clean", "ops/disk-tools", json!(["disk"])),
        ("users", "audit", json!([])),
    ] {
        let script = json!({"name": name, "folder": folder, "tags": tags, "body": "true",
            "interpreter": "sh", "description": format!("About 100% of {name}")});
        fixture.api.post("/api/scripts", script).await.expect(201);
    }
    for (query, expected) in [
        ("", &["disk-report", "disk.clean", "users"][..]),
        ("?search=DISK", &["disk-report", "disk.clean"]),
        ("?search=100%25%20of%20u", &["users"]),
        ("?search=1_0", &[]),
        ("?folder=ops", &["disk-report", "disk.clean"]),
        ("?folder=ops/disk", &["disk-report"]),
        ("?tag=disk", &["disk-report", "disk.clean"]),
        ("?tag=read_only", &["disk-report"]),
        ("?tag=readXonly", &[]),
        ("?name=users", &["users"]),
    ] {
        let page = fixture.api.get(&format!("/api/scripts{query}")).await.expect(200);
        let names: Vec<_> = page.list("items").iter().map(|item| item.text("name")).collect();
        assert_eq!(names, expected, "{query}");
    }
    let first = fixture.api.get("/api/scripts?limit=2").await.expect(200);
    let next = format!("/api/scripts?limit=2&cursor={}", first.text("next_cursor"));
    let second = fixture.api.get(&next).await.expect(200);
    assert_eq!((second.list("items").len(), &second["next_cursor"]), (1, &Value::Null));
}

async fn another_tenant_sees_and_changes_nothing(fixture: Fixture) {
    let id = create(&fixture, "report", "echo one\n").await;
    let other = fixture.other_tenant().await;
    let path = format!("/api/scripts/{id}");
    assert_eq!(other.get("/api/scripts").await.expect(200).list("items").len(), 0);
    for hidden in [path.clone(), format!("{path}/versions"), format!("{path}/versions/1")] {
        other.get(&hidden).await.expect_problem(404, "not_found");
    }
    other.patch(&path, json!({"folder": "x"})).await.expect_problem(404, "not_found");
    other.delete(&path).await.expect_problem(404, "not_found");
    let same_name = json!({"name": "report", "body": "echo other\n", "interpreter": "sh"});
    other.post("/api/scripts", same_name).await.expect(201);
}

#[tokio::test]
async fn invalid_scripts_are_refused_by_field() {
    let fixture = Fixture::on_sqlite().await;
    let valid = json!({"name": "n", "body": "true\n", "interpreter": "sh"});
    let parameter = |fields: Value| json!([fields]);
    for (field, value, named) in [
        ("name", json!("a/b"), "name"),
        ("body", json!(""), "body"),
        ("body", json!("a\u{1b}b"), "body"),
        ("body", json!("x".repeat(256 * 1024 + 1)), "body"),
        ("interpreter", json!("sh -c"), "interpreter"),
        ("folder", json!("../x"), "folder"),
        ("tags", json!(["a b"]), "tags"),
        ("timeout_ms", json!(0), "timeout_ms"),
        ("parameters", parameter(json!({"name": "PATH"})), "parameters[0]"),
        ("parameters", parameter(json!({"name": "A", "type": "choice"})), "parameters[0]"),
        ("parameters", parameter(json!({"name": "A", "pattern": "("})), "parameters[0]"),
        (
            "parameters",
            parameter(json!({"name": "A", "type": "secret", "default": "x"})),
            "parameters[0]",
        ),
        ("default_target", json!({"expression": "("}), "target.expression"),
    ] {
        let mut body = valid.clone();
        body[field] = value.clone();
        let problem = fixture.api.post("/api/scripts", body).await.expect(422);
        if field != "default_target" {
            assert_eq!(problem["errors"][0]["field"], named, "{problem}");
        }
    }
    fixture.api.post("/api/scripts", valid.clone()).await.expect(201);
    fixture.api.post("/api/scripts", valid).await.expect_problem(409, "script_exists");
    let key = json!({"name": "narrow", "role": "owner", "scripts": ["library:n"]});
    let key = fixture.api.post("/api/keys", key).await.expect(201);
    let narrow = fixture.api.with_key(key.text("key"));
    let body = json!({"name": "m", "body": "true\n", "interpreter": "sh"});
    narrow.post("/api/scripts", body).await.expect_problem(403, "key_has_limits");
}
