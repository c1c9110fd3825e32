//! The agents that a target matches: previews by REST and on the command line.

use muster_tests::{
    Cli, FakeAgent, Fixture, JsonFields as _, full_registration, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(preview_lists_the_matching_agents_and_which_are_online);

/// Two connected agents, `web-1` tagged web and eu, `db-1` tagged db; their sessions and ids.
async fn fleet(fixture: &Fixture) -> (Vec<FakeAgent>, Vec<String>) {
    let (mut agents, mut ids) = (Vec::new(), Vec::new());
    for (name, tags, os) in
        [("web-1", json!(["web", "eu"]), "Linux 6.8.0"), ("db-1", json!(["db"]), "Ubuntu 22.04")]
    {
        let (key_id, key) = fixture.api.agent_key(json!({"tags": tags})).await;
        // Tags that a host reports are ignored.
        let data = json!({"hostname": name, "os": os, "tags": ["root"], "name": "root"});
        let (agent, _) =
            FakeAgent::registered_full(&fixture.server.address(), &key, full_registration(data))
                .await;
        let id = fixture.online(&key_id).await.id().to_owned();
        let path = format!("/api/agents/{id}");
        fixture.api.patch(&path, json!({"name": name})).await.expect(200);
        agents.push(agent);
        ids.push(id);
    }
    (agents, ids)
}

async fn preview(fixture: &Fixture, target: Value) -> Value {
    fixture.api.post("/api/targets/preview", target).await.expect(200)
}

/// Names, in order.
fn names(preview: &Value) -> Vec<&str> {
    let agents = preview.list("agents");
    assert_eq!(preview["matched_count"], agents.len(), "{preview}");
    agents.iter().map(|agent| agent.text("name")).collect()
}

async fn preview_lists_the_matching_agents_and_which_are_online(fixture: Fixture) {
    let (mut agents, ids) = fleet(&fixture).await;
    for (target, expected) in [
        (json!({"expression": "all"}), vec!["db-1", "web-1"]),
        (json!({"expression": "tag:web & os:linux & !name:db-*"}), vec!["web-1"]),
        (json!({"expression": "os:linux"}), vec!["db-1", "web-1"]),
        (json!({"expression": "os:\"ubuntu 22.04\" | hostname:WEB-1"}), vec!["db-1", "web-1"]),
        (json!({"tags": ["web", "eu"]}), vec!["web-1"]),
        (json!({"ids": [ids[1]]}), vec!["db-1"]),
        (json!({"expression": "tag:root | name:root"}), vec![]),
    ] {
        let preview = preview(&fixture, target.clone()).await;
        assert_eq!(names(&preview), expected, "{target}");
        assert_eq!(preview["online_count"], expected.len(), "{target}");
    }

    drop(agents.remove(0));
    let gone = json!({"expression": "status:offline"});
    muster_tests::eventually("web-1 is offline", async || {
        let offline = preview(&fixture, gone.clone()).await;
        let web = json!([{"id": ids[0], "name": "web-1", "is_online": false}]);
        (offline["agents"] == web && offline["online_count"] == 0).then_some(())
    })
    .await;
    assert_eq!(preview(&fixture, json!({"expression": "all"})).await["online_count"], 1);
}

#[tokio::test]
async fn target_without_matches_is_reported_with_unknown_ids() {
    let fixture = Fixture::on_sqlite().await;
    let (_agents, ids) = fleet(&fixture).await;
    let nobody = json!({"matched_count": 0, "online_count": 0, "agents": [], "unknown_ids": []});
    assert_eq!(preview(&fixture, json!({"expression": "tag:wbe"})).await, nobody);
    assert_eq!(preview(&fixture, json!({"tags": ["wbe"]})).await, nobody);

    let unknown = "01a1fdaf-2ceb-7398-a560-fef62154c108";
    let some = preview(&fixture, json!({"ids": [unknown, ids[0], ids[0]]})).await;
    assert_eq!((names(&some), &some["unknown_ids"]), (vec!["web-1"], &json!([unknown])));
    let some = preview(&fixture, json!({"expression": format!("id:{unknown} | tag:db")})).await;
    assert_eq!((names(&some), &some["unknown_ids"]), (vec!["db-1"], &json!([unknown])));
}

#[tokio::test]
async fn invalid_target_is_refused_with_a_fix() {
    let fixture = Fixture::on_sqlite().await;
    let id = "01a1fdaf-2ceb-7398-a560-fef62154c108";
    for (target, column, said) in [
        (json!({"expression": "tag:web & ostype:linux"}), json!(11), "did you mean `os`?"),
        (json!({"expression": "(tag:web"}), json!(1), "not closed"),
        (json!({"expression": ""}), json!(1), "empty"),
        (json!({"expression": "x".repeat(4097)}), json!(4097), "4096 bytes"),
        (json!({"expression": "!".repeat(65) + "all"}), json!(66), "64 levels"),
        (json!({}), Value::Null, "exactly one"),
        (json!({"ids": [id], "tags": ["web"]}), Value::Null, "exactly one"),
        (json!({"ids": []}), Value::Null, "at least one"),
        (json!({"ids": vec![id; 10_001]}), Value::Null, "10001"),
        (json!({"tags": []}), Value::Null, "`all`"),
        (json!({"tags": ["web-*"]}), Value::Null, "expression"),
        (json!({"tags": vec!["web"; 65]}), Value::Null, "65 tags"),
    ] {
        let problem = fixture.api.post("/api/targets/preview", target.clone()).await;
        let problem = problem.expect_problem(422, "invalid_target");
        assert_eq!(problem["column"], column, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{problem}");
    }
    for (target, said) in [
        (json!({"ids": ["web-1"]}), "UUID"),
        (json!({"tags": "web"}), "sequence"),
        (json!({"tag": ["web"]}), "`tag`"),
    ] {
        let problem = fixture.api.post("/api/targets/preview", target).await;
        let problem = problem.expect_problem(422, "invalid_body");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(said)), "{problem}");
    }
    let longest = preview(&fixture, json!({"ids": vec![id; 10_000]})).await;
    assert_eq!(longest["unknown_ids"], json!([id]));

    let scopes = json!({"name": "blind", "role": "member", "scopes": ["commands:read"]});
    let made = fixture.api.post("/api/keys", scopes).await.expect(201);
    let blind = fixture.api.with_key(made.text("key"));
    let refused = blind.post("/api/targets/preview", json!({"expression": "("})).await;
    refused.expect_problem(403, "missing_scope");
}

#[tokio::test]
async fn command_line_previews_a_target_and_marks_the_error() {
    let fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let (_agents, ids) = fleet(&fixture).await;
    let on = async |expression: &str| cli.run(&["agents", "list", "--on", expression]).await;

    let said = on("tag:web & os:linux").await;
    let shown = said.expect(0);
    assert!(shown.contains("web-1") && shown.contains(&ids[0]), "{shown}");
    assert!(!shown.contains("db-1"), "{shown}");
    assert!(said.stderr.contains("1 matched, 1 online"), "{}", said.stderr);
    let nobody = on("tag:wbe").await;
    assert_eq!(nobody.expect(0), "No agents match.\n");
    let json = cli.run(&["agents", "list", "--on", "all", "--json"]).await.json();
    assert_eq!(json["items"].as_array().map(Vec::len), Some(2), "{json}");

    let typo = on("tag:web & ostype:linux").await;
    typo.expect(2);
    let lines: Vec<_> = typo.stderr.lines().collect();
    let [sentence, expression, caret] = lines[..] else { panic!("{}", typo.stderr) };
    assert!(sentence.starts_with("error: column 11: unknown fact `ostype`"), "{sentence}");
    assert_eq!(expression, "  tag:web & ostype:linux");
    assert_eq!(caret, "            ^");
}
