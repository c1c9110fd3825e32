//! The second factor where a tenant requires it, for dangerous changes, in mails, and after it was lost.

use muster_tests::{
    ApiResponse, Cli, Fixture, PASSWORD, Person, ServerOptions, SmtpSink, eventually,
    on_both_databases, sign_in, totp_code,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::totp::{challenge, complete, enable, reconnected, wrong_code};

on_both_databases!(
    member_without_a_required_second_factor_may_only_enable_it,
    code_confirms_dangerous_changes_as_the_password_does,
    operator_resets_a_second_factor_that_was_lost_while_the_server_is_stopped,
);

const OLD: &str = "UPDATE user_sessions SET confirmed_at = confirmed_at - 901000";

async fn disable(person: &Person, code: &str) -> ApiResponse {
    person.api.send(Method::DELETE, "/api/me/totp", Some(json!({"code": code}))).await
}

async fn require(person: &Person, is_required: bool) -> ApiResponse {
    person.api.patch("/api/tenant", json!({"requires_second_factor": is_required})).await
}

async fn member_without_a_required_second_factor_may_only_enable_it(fixture: Fixture) {
    let owner = fixture.owner().await;
    let admin = owner.add("bob@example.com", "admin").await;
    let body = json!({"requires_second_factor": true});
    let by_key = fixture.api.patch("/api/tenant", body).await;
    by_key.expect_problem(403, "session_required");
    require(&admin, true).await.expect_problem(403, "missing_scope");
    require(&owner, true).await.expect_problem(409, "second_factor_missing");
    enable(&owner).await;
    let changed = require(&owner, true).await.expect(200);
    assert_eq!(changed["requires_second_factor"], true, "{changed}");

    // The session of before, and a new one.
    let answer = sign_in(&fixture.api, &admin.email, PASSWORD).await.expect(200);
    let again = Person::of(&fixture.api, &admin.email, &answer);
    for person in [&admin, &again] {
        let refused = [
            person.api.get("/api/agents").await,
            person.api.get("/api/me/sessions").await,
            person.api.post("/api/me/email", json!({"email": "eve@example.com"})).await,
            person.api.post("/api/agents/keys", json!({"name": "key"})).await,
            person.api.get("/api/events").await,
        ];
        for answer in refused {
            answer.expect_problem(403, "second_factor_required");
        }
        let me = person.api.get("/api/me").await.expect(200);
        assert_eq!(me["scopes"], json!([]), "{me}");
        person.api.get("/api/me/totp").await.expect(200);
    }
    let ask = format!("/api/access/explain?operation=run:deploy&principal={}", admin.member_id);
    let explained = fixture.api.get(&ask).await.expect(200);
    assert_eq!(explained["outcome"], "refused", "{explained}");
    assert_eq!(explained["rules"][1]["rule"], "second_factor", "{explained}");
    assert_eq!(explained["rules"][1]["code"], "second_factor_required", "{explained}");
    // People who have one, and API keys, are not affected.
    owner.api.get("/api/agents").await.expect(200);
    fixture.api.get("/api/agents").await.expect(200);

    let (_, codes) = enable(&again).await;
    again.api.get("/api/agents").await.expect(200);
    let explained = fixture.api.get(&ask).await.expect(200);
    assert!(!explained.to_string().contains("second_factor"), "{explained}");
    admin.api.get("/api/agents").await.expect_problem(401, "session_ended");
    disable(&again, &codes[0]).await.expect(204);
    again.api.get("/api/agents").await.expect_problem(403, "second_factor_required");
    require(&owner, false).await.expect(200);
    again.api.get("/api/agents").await.expect(200);

    fixture.server.query(OLD);
    require(&owner, true).await.expect_problem(403, "confirmation_required");
    let log = fixture.api.get("/api/audit?action=tenant.update").await.expect(200);
    let items = log["items"].as_array().expect("items");
    let values: Vec<&Value> =
        items.iter().map(|entry| &entry["detail"]["requires_second_factor"]).collect();
    assert_eq!(values, [&json!(false), &json!(true)], "{log}");
}

async fn code_confirms_dangerous_changes_as_the_password_does(fixture: Fixture) {
    let owner = fixture.owner().await;
    let confirm = async |body: Value| owner.api.post("/api/auth/confirm", body).await;
    let code = json!({"code": "000000"});
    confirm(code).await.expect_problem(409, "second_factor_missing");
    let (secret, codes) = enable(&owner).await;
    fixture.server.query(OLD);
    for body in [json!({}), json!({"password": PASSWORD, "code": "000000"})] {
        confirm(body).await.expect_problem(422, "invalid_field");
    }
    for wrong in [wrong_code(&secret).as_str(), "", "12345", &codes[0]] {
        let answer = confirm(json!({ "code": wrong })).await;
        answer.expect_problem(403, "wrong_second_factor");
    }
    let dangerous = "/api/me/totp/recovery-codes";
    owner.api.post(dangerous, json!({})).await.expect_problem(403, "confirmation_required");
    let right = json!({"code": totp_code(&secret, 1)});
    confirm(right.clone()).await.expect(200);
    let recovery = json!({"code": codes[0]});
    owner.api.post(dangerous, recovery).await.expect(200);
    confirm(right).await.expect_problem(403, "wrong_second_factor");
    let log = fixture.api.get("/api/audit?action=session.confirm").await.expect(200);
    assert_eq!(log["items"][0]["detail"]["second_factor"], "totp", "{log}");
    let log = fixture.api.get("/api/audit?action=session.refuse").await.expect(200);
    assert_eq!(log["items"].as_array().map(Vec::len), Some(5), "{log}");
}

#[tokio::test]
async fn changes_and_uses_of_the_second_factor_are_reported_by_mail() {
    let sink = SmtpSink::start().await;
    let options = ServerOptions::default()
        .with("MUSTER_SMTP_URL", format!("smtp+plain://{}", sink.address()))
        .with("MUSTER_SMTP_FROM", "Muster <muster@example.com>");
    let fixture = Fixture::with(options).await;
    let owner = fixture.owner().await;
    let (_, codes) = enable(&owner).await;
    let enabled = sink.mail(&owner.email, 1).await;
    assert!(enabled.text.contains("second factor was enabled"), "{}", enabled.text);
    let open = challenge(&fixture.api, &owner.email, PASSWORD).await;
    complete(&fixture.api, &open, &codes[0]).await.expect(200);
    let used = sink.mail(&owner.email, 2).await;
    assert!(used.text.contains("A recovery code of yours was used"), "{}", used.text);
    disable(&owner, &codes[1]).await.expect(204);
    let disabled = sink.mail(&owner.email, 3).await;
    assert!(disabled.text.contains("second factor was disabled"), "{}", disabled.text);
}

async fn operator_resets_a_second_factor_that_was_lost_while_the_server_is_stopped(
    mut fixture: Fixture,
) {
    let owner = fixture.owner().await;
    enable(&owner).await;
    let reset = ["reset-second-factor", "ada@example.com"];
    assert!(!fixture.server.run(&reset).status.success(), "beside a server that runs");
    fixture.server.stop();
    let unknown = fixture.server.run(&["reset-second-factor", "eve@example.com"]);
    assert!(!unknown.status.success());
    let done = fixture.server.run(&reset);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(printed, "ada@example.com has no second factor any more, and is signed out\n");
    let again = fixture.server.run(&reset);
    let errors = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && errors.contains("has no second factor"), "{errors}");
    fixture.server.resume();
    reconnected(&fixture).await;
    owner.api.get("/api/agents").await.expect_problem(401, "session_ended");
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM recovery_codes"), ["0"]);
    let log = fixture.api.get("/api/audit?action=totp.reset").await.expect(200);
    assert_eq!(log["items"].as_array().map(Vec::len), Some(1), "{log}");
    assert_eq!(log["items"][0]["actor_kind"], "operator", "{log}");
    assert_eq!(log["items"][0]["subject_id"], owner.member_id, "{log}");
}

#[tokio::test]
async fn command_line_requires_a_second_factor_confirms_with_a_code_and_says_what_is_missing() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.owner().await;
    let bob = owner.add("bob@example.com", "admin").await;
    let (secret, _) = enable(&owner).await;
    let url = fixture.server.url();
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &url, "--email", &owner.email];
    let lines = format!("{PASSWORD}\n{}\n", totp_code(&secret, 1));
    cli.run_with_input(&login, &lines).await.expect(0);
    fixture.server.query(OLD);
    let set = ["tenant", "require-second-factor", "on"];
    let refused = cli.run(&set).await;
    refused.expect(1);
    assert!(refused.stderr.contains("muster confirm --code"), "{}", refused.stderr);
    fixture.server.query("UPDATE totp_secrets SET last_step = 0");
    cli.run_with_input(&["confirm", "--code"], &totp_code(&secret, 0)).await.expect(0);
    let changed = cli.run(&set).await.expect(0);
    assert!(changed.contains("requires a second factor"), "{changed}");

    eventually("the admin is refused", async || {
        (bob.api.get("/api/agents").await.status == 403).then_some(())
    })
    .await;
    let login = ["login", "--server", &url, "--email", &bob.email];
    cli.run_with_input(&login, &format!("{PASSWORD}\n")).await.expect(0);
    let refused = cli.run(&["agents", "list"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("muster account totp enable"), "{}", refused.stderr);
    let shown = cli.run(&["account", "totp", "enable"]).await.expect(0);
    let secret = shown.lines().next().and_then(|line| line.strip_prefix("secret: "));
    let code = totp_code(secret.expect("a secret"), 0);
    cli.run_with_input(&["account", "totp", "confirm"], &code).await.expect(0);
    cli.run(&["agents", "list"]).await.expect(0);
}
