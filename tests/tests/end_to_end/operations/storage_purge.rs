//! `POST /api/storage/purge`: a running server deletes the old history of a tenant.

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, eventually, on_both_databases};
use serde_json::{Value, json};

on_both_databases!(a_purge_deletes_what_has_ended_of_one_tenant_also_if_the_server_is_killed);

/// Ids of the executions that a list shows.
async fn executions(fixture: &Fixture) -> Vec<String> {
    let page = fixture.api.get("/api/executions?limit=500").await.expect(200);
    page.list("items").iter().map(|item| item.id().to_owned()).collect()
}

async fn is_finished(fixture: &Fixture) -> Option<Value> {
    let report = fixture.api.get("/api/storage").await.expect(200);
    report["purge"]["finished_at"].is_string().then(|| report["purge"].clone())
}

async fn a_purge_deletes_what_has_ended_of_one_tenant_also_if_the_server_is_killed(
    mut fixture: Fixture,
) {
    let file = fixture.test_dir.path().join("go");
    let scripts = [
        Script::new("scan", "head -c 100000 /dev/urandom"),
        Script::new("wait", &format!("while [ ! -e {} ]; do sleep 0.05; done", file.display())),
    ];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    for _ in 0..5 {
        let execution = fixture.api.execute(&id, "scan", json!({})).await;
        fixture.api.in_state(&execution, "succeeded").await;
    }
    let open = fixture.api.execute(&id, "wait", json!({})).await;
    fixture.api.in_state(&open, "running").await;
    // Another tenant keeps its history.
    let made = fixture.api.post("/api/tenants", json!({"name": "other", "plan": "pro"})).await;
    let other = fixture.api.with_key(made.expect(201).text("key"));
    let own = std::mem::replace(&mut fixture.api, other);
    let options = AgentOptions {
        name: "foreign".into(),
        ..AgentOptions::with_scripts([Script::new("hello", "echo hi")])
    };
    let (_foreign, foreign) = fixture.agent(options).await;
    let kept = fixture.api.execute(&foreign, "hello", json!({})).await;
    fixture.api.in_state(&kept, "succeeded").await;
    let other = std::mem::replace(&mut fixture.api, own);

    let cli = fixture.cli().await;
    eventually("the history is indexed", async || {
        let shown =
            cli.run(&["storage", "purge", "--older-than", "0s", "--dry-run"]).await.expect(0);
        shown.starts_with("5 executions").then_some(())
    })
    .await;
    assert_eq!(executions(&fixture).await.len(), 6, "a preview deletes nothing");
    let shown = cli.run(&["storage", "purge", "--older-than", "90d", "--dry-run"]).await.expect(0);
    assert!(shown.starts_with("0 executions"), "{shown}");
    let shown = cli.run(&["storage", "purge", "--older-than", "0s"]).await.expect(0);
    assert!(shown.contains("`muster storage` says when it is done"), "{shown}");
    // Another server, or the same one later, continues what was requested.
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    let purge = eventually("the purge is done", async || is_finished(&fixture).await).await;
    assert!(purge["history_before"].is_string() && purge["requested_by"].is_string(), "{purge}");
    assert_eq!(executions(&fixture).await, std::slice::from_ref(&open), "what has not ended stays");
    let output = fixture.server.data_dir().join("output");
    eventually("the files of the output are gone", async || {
        (walk(&output) < 100_000).then_some(())
    })
    .await;
    let seen = other.get("/api/executions").await.expect(200);
    assert_eq!(seen.list("items").len(), 1, "{seen}");
    let audit = fixture.api.get("/api/audit?action=tenant.purge").await.expect(200);
    assert_eq!(audit.list("items").len(), 1, "{audit}");
    std::fs::write(&file, "").expect("written");
    fixture.api.in_state(&open, "succeeded").await;
    let shown = cli.run(&["storage"]).await.expect(0);
    assert!(shown.contains("Last purge: history from before"), "{shown}");
}

/// The bytes of all files of a folder.
fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => walk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
