//! The first owner: by the set-up token, or at the terminal.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{Api, Fixture};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

fn token(fixture: &Fixture) -> String {
    let file = fixture.server.data_dir().join("setup_token");
    let mode = std::fs::metadata(&file).expect("the token").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    std::fs::read_to_string(file).expect("the token").trim().to_owned()
}

fn body(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD})
}

#[tokio::test]
async fn set_up_token_makes_the_first_owner_once_and_never_again() {
    let mut fixture = Fixture::on_sqlite().await;
    let (owner, token) = (fixture.api.clone(), token(&fixture));
    assert!(!fixture.server.log().contains(&token), "the log shows the token");
    let holder = owner.with_key(&token);
    let set_up = async |api: &Api, body: Value| api.post("/api/setup", body).await;

    // Neither a guess nor another kind of secret is a token.
    let guess = format!("mst_setup_{}", "0".repeat(64));
    for wrong in ["", &guess, owner.key(), &token[..token.len() - 1], &format!("{token}0")] {
        let refused = set_up(&owner.with_key(wrong), body("ada@example.com")).await;
        refused.expect_problem(401, "invalid_setup_token");
    }
    // Nor is the token a key.
    owner.with_key(&token).get("/api/agents").await.expect_problem(401, "invalid_api_key");
    // A refused field does not use the token up.
    for (field, value) in [
        ("email", "no address"),
        ("name", " "),
        ("password", "elevenchars"),
        ("password", "1q2w3e4r5t6y"),
        ("password", "ADA@example.com"),
    ] {
        let mut body = body("ada@example.com");
        body[field] = json!(value);
        let problem = set_up(&holder, body).await.expect_problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        let shown = problem.to_string();
        assert!(field != "password" || !shown.contains(value), "a password is repeated: {shown}");
    }
    let (one, other) = tokio::join!(
        set_up(&holder, body("Ada@Example.com")),
        set_up(&holder, body("eve@example.com")),
    );
    let (made, refused) = if one.status == 201 { (one, other) } else { (other, one) };
    let made = made.expect(201);
    refused.expect_problem(410, "setup_closed");
    assert_eq!((&made["role"], &made["tenant_name"]), (&json!("owner"), &json!("default")));
    let audit = owner.get("/api/audit").await.expect(200);
    let entry = audit["items"].as_array().expect("items").iter();
    let entry: Vec<_> = entry.filter(|entry| entry["action"] == "member.create").collect();
    assert_eq!(entry.len(), 1, "{audit}");
    assert_eq!((&entry[0]["actor_kind"], &entry[0]["actor_id"]), (&json!("member"), &made["id"]));
    assert!(!audit.to_string().contains(PASSWORD));

    fixture.server.stop();
    fixture.server.resume();
    assert!(!fixture.server.data_dir().join("setup_token").exists(), "there is a new token");
    let api = fixture.server.api();
    set_up(&api.with_key(&token), body("eve@example.com"))
        .await
        .expect_problem(410, "setup_closed");
}

#[tokio::test]
async fn set_up_token_stays_valid_over_a_restart_and_a_lost_one_is_replaced() {
    let mut fixture = Fixture::on_sqlite().await;
    let first = token(&fixture);
    fixture.server.stop();
    fixture.server.resume();
    assert_eq!(token(&fixture), first);
    fixture.server.stop();
    std::fs::remove_file(fixture.server.data_dir().join("setup_token")).expect("lose it");
    fixture.server.resume();
    let second = token(&fixture);
    assert_ne!(second, first);
    let api = fixture.server.api();
    let refused = api.with_key(&first).post("/api/setup", body("ada@example.com")).await;
    refused.expect_problem(401, "invalid_setup_token");
    api.with_key(&second).post("/api/setup", body("ada@example.com")).await.expect(201);
}

#[tokio::test]
async fn owner_made_at_the_terminal_closes_set_up() {
    let mut fixture = Fixture::on_sqlite().await;
    let token = token(&fixture);
    let args = ["create-owner", "--email", "ada@example.com"];
    let running = fixture.server.run_with_input(&args, PASSWORD);
    assert!(!running.status.success(), "beside a server that runs");
    fixture.server.stop();
    let short = fixture.server.run_with_input(&args, "short\n");
    let text = String::from_utf8_lossy(&short.stderr).into_owned();
    assert!(!short.status.success() && text.contains("at least 12 characters"), "{text}");
    // Again, for an owner who lost the password.
    for _ in 0..2 {
        let made = fixture.server.run_with_input(&args, &format!("{PASSWORD}\n"));
        let errors = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{errors}");
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        assert_eq!(text, "ada@example.com is an owner of the tenant default\n");
    }
    fixture.server.resume();
    let api = fixture.server.api();
    let refused = api.with_key(&token).post("/api/setup", body("eve@example.com")).await;
    refused.expect_problem(410, "setup_closed");
    let audit = api.get("/api/audit").await.expect(200);
    let entries = audit["items"].as_array().expect("items").iter();
    let by_operator = entries.filter(|entry| entry["actor_kind"] == "operator").count();
    assert_eq!(by_operator, 2, "{audit}");
}
