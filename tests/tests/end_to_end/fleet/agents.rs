//! Agents as operators see and manage them.

use muster_tests::{
    Cli, Closed, FakeAgent, Fixture, JsonFields as _, full_registration, on_both_databases,
};
use serde_json::json;

on_both_databases!(
    an_agent_can_be_named_tagged_listed_and_deleted,
    name_that_a_host_reports_takes_neither_commands_nor_secrets_of_another,
);

async fn an_agent_can_be_named_tagged_listed_and_deleted(fixture: Fixture) {
    let (key_id, key) = fixture.api.agent_key(json!({"tags": ["blue"]})).await;
    let mut agent = FakeAgent::registered(&fixture.server.address(), &key, "one").await;
    let shown = fixture.online(&key_id).await;
    assert_eq!((&shown["hostname"], &shown["tags"]), (&json!("one"), &json!(["blue"])));
    let connected = fixture.api.get("/api/agents/connected").await.expect(200);
    assert_eq!(connected["items"].as_array().map(Vec::len), Some(1), "{connected}");

    let path = format!("/api/agents/{}", shown.id());
    let change = json!({"name": "front", "tags": ["web", "eu"]});
    fixture.api.patch(&path, change).await.expect(200);
    let shown = fixture.api.get(&path).await.expect(200);
    assert_eq!((&shown["name"], &shown["tags"]), (&json!("front"), &json!(["web", "eu"])));
    let refused = fixture.api.patch(&path, json!({"hostname": "two"})).await;
    let problem = refused.expect_problem(422, "invalid_body");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("hostname")), "{problem}");

    fixture.api.delete(&path).await.expect(204);
    agent.closed().await;
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    let connected = fixture.api.get("/api/agents/connected").await.expect(200);
    assert_eq!(connected["items"], json!([]));
    // Its key is still valid, so it may enrol again.
    FakeAgent::registered(&fixture.server.address(), &key, "one").await;
}

/// A full agent with its own key; returns its id.
async fn enrolled(fixture: &Fixture, hostname: &str) -> (FakeAgent, String) {
    let (key_id, key) = fixture.api.agent_key(json!({})).await;
    let address = fixture.server.address();
    let data = json!({"hostname": hostname});
    let (agent, _) = FakeAgent::registered_full(&address, &key, data).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    (agent, id)
}

async fn name_that_a_host_reports_takes_neither_commands_nor_secrets_of_another(fixture: Fixture) {
    let resolve = async |name: &str, with_secrets: bool| {
        let query = format!("name={name}&with_secrets={with_secrets}");
        fixture.api.get(&format!("/api/agents/resolve?{query}")).await
    };
    let shown = async |id: &str| fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let (_payment, payment) = enrolled(&fixture, "pay-1.prod.example.com").await;
    resolve("pay-1", false).await.expect_problem(404, "not_found");
    let found = resolve("pay-1.prod.example.com", false).await.expect(200);
    assert_eq!((&found["id"], &found["name_source"]), (&json!(payment), &json!("reported")));
    assert_eq!((&found["matched_by"], &found["alert"]), (&json!("reported_name"), &json!(null)));
    let refused = resolve("pay-1.prod.example.com", true).await;
    let refused = refused.expect_problem(422, "secrets_need_ids_or_tags");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains(&payment)), "{refused}");
    assert_eq!(resolve(&payment, true).await.expect(200)["matched_by"], "id");

    // A name that a person gave cannot be taken, before or after.
    let (_early, early) = enrolled(&fixture, "pay-1").await;
    fixture
        .api
        .patch(&format!("/api/agents/{payment}"), json!({"name": "pay-1"}))
        .await
        .expect(200);
    let (_late, late) = enrolled(&fixture, "pay-1\u{200b}\u{2028}\u{61c}").await;
    assert_eq!(shown(&late).await["hostname"], "pay-1");
    let found = resolve("pay-1", true).await.expect(200);
    assert_eq!((&found["id"], &found["matched_by"]), (&json!(payment), &json!("given_name")));
    assert_eq!(found["name_source"], "given");
    assert_eq!(shown(&early).await["alert"], json!(null), "it was the first of this name");
    assert_eq!(shown(&late).await["alert"], "name_conflict");
    let events = fixture.api.get(&format!("/api/agents/{late}/events")).await.expect(200);
    assert!(events.to_string().contains("name_conflict"), "{events}");
    fixture.api.patch(&format!("/api/agents/{late}"), json!({"name": "lab-7"})).await.expect(200);
    assert_eq!(shown(&late).await["alert"], json!(null));

    // A name that several hosts report is ambiguous.
    let (_thief, thief) = enrolled(&fixture, "pay-1.prod.example.com").await;
    assert_eq!(shown(&thief).await["alert"], "name_conflict");
    let refused = resolve("pay-1.prod.example.com", false).await;
    let refused = refused.expect_problem(409, "ambiguous_agent");
    let candidates = refused.list("candidates");
    let ids: Vec<_> = candidates.iter().map(|agent| &agent["id"]).collect();
    assert_eq!(ids, [&json!(payment), &json!(thief)], "{refused}");

    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let secret = cli.home().join("token");
    std::fs::write(&secret, "hunter2-hunter2").expect("written");
    let secret = format!("TOKEN=@{}", secret.display());
    for words in [
        ["run", "pay-1.prod.example.com", "deploy", "--detach"].as_slice(),
        &["run", "pay-1.prod", "deploy", "--detach"],
        &["run", "lab", "deploy", "--detach"],
    ] {
        cli.run(words).await.expect(2);
    }
    let (_only, only) = enrolled(&fixture, "db-9").await;
    let refused = cli.run(&["run", "db-9", "deploy", "--secret", &secret, "--detach"]).await;
    refused.expect(1);
    let run = async |name: &str| {
        cli.run(&["run", name, "deploy", "--detach", "--on-mismatch", "send"]).await.expect(0)
    };
    let command = run("db-9").await;
    let command = fixture.api.command(command.trim()).await;
    assert_eq!(command["agent_id"], json!(only), "{command}");
    let command = fixture.api.command(run("pay-1").await.trim()).await;
    assert_eq!(command["agent_id"], json!(payment), "{command}");
}

#[tokio::test]
async fn a_host_named_like_the_beginning_of_an_id_gets_nothing_meant_for_that_agent() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    let shown = async |id: &str| fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let (_victim, victim) = enrolled(&fixture, "payments").await;
    let typed = &victim[..20];
    let (_thief, thief) = enrolled(&fixture, typed).await;
    let marked = shown(&thief).await;
    let expected = json!(format!("host-{typed}"));
    assert_eq!((&marked["name"], &marked["hostname"]), (&expected, &expected), "{marked}");
    cli.run(&["agents", "tag", typed, "meant"]).await.expect(0);
    assert_eq!(shown(&victim).await["tags"], json!(["meant"]));
    // What cannot be undone takes no prefix.
    cli.run(&["agents", "delete", typed]).await.expect(2);
    shown(&victim).await;

    // A name from before this rule, as older servers stored it.
    fixture.server.query(&format!(
        "UPDATE agents SET name = '{typed}', hostname = '{typed}' WHERE hostname = 'host-{typed}'"
    ));
    let refused = cli.run(&["agents", "tag", typed, "other"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(&victim) && refused.stderr.contains(&thief), "{refused:?}");
    assert_eq!(shown(&thief).await["tags"], json!([]));
}

#[tokio::test]
async fn full_agent_with_its_key_in_the_url_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::connect(&fixture.server.address(), &key).await;
    agent.expect("connected").await;
    agent.register(full_registration(json!({}))).await;
    assert_eq!(agent.closed().await, Closed::new(1008, "policy_violation"));
    assert!(!fixture.server.log().contains(&key), "the key is in the log");
}
