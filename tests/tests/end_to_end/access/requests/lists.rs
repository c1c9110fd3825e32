//! Pages of lists: complete while rows are added, and only with cursors that a list gave out.

use std::collections::BTreeSet;

use muster_tests::{FakeAgent, Fixture, JsonFields as _, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(lists_lose_and_repeat_nothing_while_rows_are_added);

/// Rows that exist before the first page is read.
const FIRST: usize = 5;

/// A list, and the request that adds a row to it.
struct List {
    path: &'static str,
    creation: &'static str,
    body: Value,
}

fn lists(agent_id: &str) -> Vec<List> {
    let list = |path, creation, body| List { path, creation, body };
    let job = json!({"script": "deploy", "target": {"ids": [agent_id]}, "on_mismatch": "send"});
    let key = json!({"name": "another", "scopes": []});
    vec![
        list("/api/agents/keys", "/api/agents/keys", json!({"name": "another"})),
        list("/api/keys", "/api/keys", key.clone()),
        list("/api/groups", "/api/groups", json!({"target": {"tags": ["none"]}})),
        list("/api/audit", "/api/keys", key),
        list("/api/jobs", "/api/jobs", job.clone()),
        list("/api/commands", "/api/jobs", job.clone()),
        list("/api/executions", "/api/jobs", job),
    ]
}

async fn lists_lose_and_repeat_nothing_while_rows_are_added(fixture: Fixture) {
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let _agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let agent_id = fixture.online(&key_id).await.id().to_owned();
    let mut count = 0;
    let mut add = async |list: &List| {
        count += 1;
        let mut body = list.body.clone();
        if list.creation == "/api/groups" {
            body["name"] = json!(format!("group {count}"));
        }
        let made = fixture.api.post(list.creation, body).await;
        assert!(matches!(made.status, 201 | 202), "{}: {}", list.creation, made.json());
    };
    let ids = |page: &Value| -> Vec<String> {
        page.list("items").iter().map(|item| item.id().to_owned()).collect()
    };
    for list in lists(&agent_id) {
        let path = list.path;
        for _ in 0..FIRST {
            add(&list).await;
        }
        let before = fixture.api.get(&format!("{path}?limit=500")).await.expect(200);
        let before: BTreeSet<String> = ids(&before).into_iter().collect();
        let mut read = Vec::new();
        let mut cursor = String::new();
        // Fewer rows are added than read, so lists that begin with the oldest row end as well.
        loop {
            assert!(read.len() < 100, "{path} has no end: {read:?}");
            let page = fixture.api.get(&format!("{path}?limit=2{cursor}")).await.expect(200);
            read.extend(ids(&page));
            add(&list).await;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let once: BTreeSet<String> = read.iter().cloned().collect();
        assert_eq!(once.len(), read.len(), "{path} repeats a row: {read:?}");
        assert!(once.is_superset(&before), "{path} lost a row: {before:?}, {read:?}");
        let known = read.first().expect("a row");
        for malformed in [
            "nonsense",
            "",
            "-1",
            &known.to_uppercase(),
            &format!("{known}0"),
            &known.replace('-', ""),
        ] {
            let refused = fixture.api.get(&format!("{path}?cursor={malformed}")).await;
            let refused = refused.expect_problem(400, "invalid_query");
            assert_eq!(refused["errors"][0]["field"], "cursor", "{path}?cursor={malformed}");
        }
    }
}
