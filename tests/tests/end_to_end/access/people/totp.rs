//! The second factor: enrolled, asked for, used once, and disabled.

use muster_tests::{
    Api, ApiResponse, Cli, Fixture, JsonFields as _, PASSWORD, Person, ServerOptions, eventually,
    on_both_databases, sign_in, totp_code,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    code_is_asked_for_after_the_password_and_counts_once,
    recovery_code_counts_once_and_with_the_password_disables_the_second_factor,
);

/// A code that is wrong now, and at the turn of the step.
pub(super) fn wrong_code(secret: &str) -> String {
    let near: Vec<_> = (-3..=3).map(|off| totp_code(secret, off)).collect();
    let wrong = (0..10).map(|digit| format!("{digit}").repeat(6)).find(|code| !near.contains(code));
    wrong.expect("ten codes")
}

/// Enables the second factor. Returns the secret and the recovery codes.
pub(super) async fn enable(person: &Person) -> (String, Vec<String>) {
    let made = person.api.post("/api/me/totp", json!({})).await.expect(201);
    let secret = made.text("secret").to_owned();
    assert!(made.text("otpauth_url").contains(&format!("secret={secret}&issuer=Muster")), "{made}");
    // The code of the next step is left for a sign-in.
    let body = json!({"code": totp_code(&secret, 0)});
    let answer = person.api.post("/api/me/totp/confirm", body).await.expect(200);
    let codes = answer["recovery_codes"].as_array().expect("codes").iter();
    let codes: Vec<String> = codes.map(|code| code.as_str().expect("text").to_owned()).collect();
    assert_eq!(codes.len(), 10);
    (secret, codes)
}

pub(super) async fn complete(api: &Api, challenge: &str, code: &str) -> ApiResponse {
    let body = json!({"challenge": challenge, "code": code});
    api.with_key("").post("/api/auth/login/code", body).await
}

/// The challenge for the right password.
pub(super) async fn challenge(api: &Api, email: &str, password: &str) -> String {
    let answer = sign_in(api, email, password).await.expect(202);
    assert_eq!(answer["access_token"], Value::Null, "no token before the code");
    answer.text("challenge").to_owned()
}

/// Sign-ins and codes are limited, and a code counts once. A new process has the limits of memory free again.
async fn forget_limits(fixture: &mut Fixture) {
    fixture.server.query("UPDATE totp_secrets SET tries = 0, last_step = 0");
    fixture.server.stop();
    fixture.server.resume();
    reconnected(fixture).await;
}

/// The connections of the client ended with the server.
pub(super) async fn reconnected(fixture: &Fixture) {
    let answer = async || fixture.api.try_send(Method::GET, "/healthz", &[], None).await.ok();
    eventually("the server answers", answer).await;
}

async fn code_is_asked_for_after_the_password_and_counts_once(mut fixture: Fixture) {
    let owner = fixture.owner().await;
    let by_key = fixture.api.post("/api/me/totp", json!({})).await;
    by_key.expect_problem(403, "session_required");
    let waiting = owner.api.post("/api/me/totp", json!({})).await.expect(201);
    let wrong = json!({"code": wrong_code(waiting.text("secret"))});
    owner.api.post("/api/me/totp/confirm", wrong).await.expect_problem(422, "wrong_code");
    // A secret that waits for its first code changes no sign-in.
    sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    let (secret, codes) = enable(&owner).await;
    let again = owner.api.post("/api/me/totp", json!({})).await;
    again.expect_problem(409, "totp_enabled");
    let shown = owner.api.get("/api/me/totp").await.expect(200);
    assert!(shown["enabled_at"].is_string() && shown["recovery_codes_left"] == 10, "{shown}");
    // Sealed: 20 bytes, with the key's id, a nonce and a tag.
    let sealed = "SELECT COUNT(*) FROM totp_secrets WHERE length(sealed) = 57";
    assert_eq!(fixture.server.query(sealed), ["1"]);

    // The wrong password gets the same answer as an unknown address.
    for (email, password) in
        [(owner.email.as_str(), "wrong horse battery"), ("x@example.com", PASSWORD)]
    {
        let refused = sign_in(&fixture.api, email, password).await;
        refused.expect_problem(401, "wrong_sign_in");
    }
    let first = challenge(&fixture.api, &owner.email, PASSWORD).await;
    // A challenge is no credential.
    let guess = fixture.api.with_key(&first).get("/api/agents").await;
    guess.expect_problem(401, "invalid_api_key");
    for text in ["", "mst_challenge_", &first[..first.len() - 2], &format!("{first}AA"), &secret] {
        let refused = complete(&fixture.api, text, &totp_code(&secret, 0)).await;
        refused.expect_problem(401, "invalid_challenge");
    }
    for code in [wrong_code(&secret).as_str(), "", "12345", "mst_challenge_"] {
        let refused = complete(&fixture.api, &first, code).await;
        refused.expect_problem(401, "wrong_second_factor");
    }
    // The code that enabled it was used.
    let used = fixture.server.query("SELECT last_step FROM totp_secrets");
    let used: i64 = used[0].parse().expect("a step");
    let offset = used - chrono::Utc::now().timestamp() / 30;
    let replayed = complete(&fixture.api, &first, &totp_code(&secret, offset)).await;
    replayed.expect_problem(401, "wrong_second_factor");
    forget_limits(&mut fixture).await;

    let second = challenge(&fixture.api, &owner.email, PASSWORD).await;
    let code = totp_code(&secret, 0);
    let answers =
        tokio::join!(complete(&fixture.api, &first, &code), complete(&fixture.api, &second, &code));
    let mut statuses = [answers.0.status, answers.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "one code begins one session");
    forget_limits(&mut fixture).await;
    // A challenge begins one session, even with another right code.
    let third = challenge(&fixture.api, &owner.email, PASSWORD).await;
    let recovered = complete(&fixture.api, &third, &codes[0]).await.expect(200);
    let person = Person::of(&fixture.api, &owner.email, &recovered);
    person.api.get("/api/agents").await.expect(200);
    let again = complete(&fixture.api, &third, &codes[1]).await;
    again.expect_problem(401, "wrong_second_factor");

    // Wrong codes end, whichever challenge they are for. A recovery code still counts.
    forget_limits(&mut fixture).await;
    let fourth = challenge(&fixture.api, &owner.email, PASSWORD).await;
    for _ in 0..5 {
        let refused = complete(&fixture.api, &fourth, &wrong_code(&secret)).await;
        refused.expect_problem(401, "wrong_second_factor");
    }
    fixture.server.stop();
    fixture.server.resume();
    reconnected(&fixture).await;
    let fifth = challenge(&fixture.api, &owner.email, PASSWORD).await;
    let right = totp_code(&secret, 1);
    let limited = complete(&fixture.api, &fifth, &right).await;
    limited.expect_problem(429, "too_many_attempts");
    complete(&fixture.api, &fifth, &codes[2]).await.expect(200);
}

async fn recovery_code_counts_once_and_with_the_password_disables_the_second_factor(
    mut fixture: Fixture,
) {
    let owner = fixture.owner().await;
    let earlier = sign_in(&fixture.api, &owner.email, PASSWORD).await.expect(200);
    let earlier = Person::of(&fixture.api, &owner.email, &earlier);
    let (_, codes) = enable(&owner).await;
    earlier.api.get("/api/me").await.expect_problem(401, "session_ended");
    let typed = codes[0].to_uppercase().replace('-', " ");
    let first = challenge(&fixture.api, &owner.email, PASSWORD).await;
    complete(&fixture.api, &first, &typed).await.expect(200);
    let second = challenge(&fixture.api, &owner.email, PASSWORD).await;
    let used = complete(&fixture.api, &second, &codes[0]).await;
    used.expect_problem(401, "wrong_second_factor");
    let shown = owner.api.get("/api/me/totp").await.expect(200);
    assert_eq!(shown["recovery_codes_left"], 9);
    let other = owner.api.post("/api/me/totp/recovery-codes", json!({})).await;
    other.expect_problem(403, "code_required");
    let body = json!({"code": codes[0]});
    let spent = owner.api.post("/api/me/totp/recovery-codes", body).await;
    spent.expect_problem(422, "wrong_code");
    let body = json!({"code": codes[2]});
    let answer = owner.api.post("/api/me/totp/recovery-codes", body).await.expect(200);
    let fresh = answer["recovery_codes"][0].as_str().expect("a code").to_owned();
    let unused = answer["recovery_codes"][1].as_str().expect("a code").to_owned();
    let replaced = complete(&fixture.api, &second, &codes[1]).await;
    replaced.expect_problem(401, "wrong_second_factor");
    forget_limits(&mut fixture).await;

    // Another password ends a challenge, and the second factor stays.
    let new = "tired giraffe on a bus";
    let body = json!({"current_password": PASSWORD, "new_password": new});
    let open = challenge(&fixture.api, &owner.email, PASSWORD).await;
    owner.api.post("/api/me/password", body).await.expect(204);
    complete(&fixture.api, &open, &fresh).await.expect_problem(401, "invalid_challenge");
    let third = challenge(&fixture.api, &owner.email, new).await;
    let again = complete(&fixture.api, &third, &fresh).await.expect(200);
    let person = Person::of(&fixture.api, &owner.email, &again);

    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    for refused in [
        person.api.delete("/api/me/totp").await,
        person.api.post("/api/me/totp/recovery-codes", json!({})).await,
    ] {
        refused.expect_problem(403, "confirmation_required");
    }
    person.api.post("/api/auth/confirm", json!({"password": new})).await.expect(200);
    // The password alone disables nothing: a session may be older than the second factor.
    person.api.delete("/api/me/totp").await.expect_problem(403, "code_required");
    let disable = async |code: &str| {
        person.api.send(Method::DELETE, "/api/me/totp", Some(json!({"code": code}))).await
    };
    disable("000-000").await.expect_problem(422, "wrong_code");
    disable(&unused).await.expect(204);
    disable(&unused).await.expect(404);
    sign_in(&fixture.api, &owner.email, new).await.expect(200);
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM recovery_codes"), ["0"]);

    let log = fixture.api.get("/api/audit?limit=500").await.expect(200);
    let items = log["items"].as_array().expect("items");
    let count = |action: &str| items.iter().filter(|entry| entry["action"] == action).count();
    for (action, expected) in
        [("totp.create", 1), ("totp.enable", 1), ("totp.update", 1), ("totp.disable", 1)]
    {
        assert_eq!(count(action), expected, "{action}: {log}");
    }
    assert_eq!(count("session.refuse"), 2, "{log}");
    let with = |factor: &str| {
        items.iter().filter(|entry| entry["detail"]["second_factor"] == factor).count()
    };
    assert_eq!((with("recovery_code"), with("totp")), (2, 0), "{log}");
    assert!(!log.to_string().contains(&fresh));
}

#[tokio::test]
async fn second_factor_stays_with_another_master_key_and_a_reset_of_the_password() {
    let options = || ServerOptions::default().with("MUSTER_DEMO_PRINT_CODES", "true");
    let mut fixture = Fixture::with(options()).await;
    let owner = fixture.owner().await;
    let (secret, _) = enable(&owner).await;
    let open = challenge(&fixture.api, &owner.email, PASSWORD).await;
    fixture.server.stop();
    let rotated = fixture.server.run(&["rotate-master-key"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    fixture.server.resume_with(options());
    reconnected(&fixture).await;
    let earlier = complete(&fixture.api, &open, &totp_code(&secret, 0)).await;
    earlier.expect_problem(401, "invalid_challenge");

    let anybody = fixture.api.with_key("");
    anybody.post("/api/auth/password-reset", json!({"email": owner.email})).await.expect(202);
    let token = eventually("the token is printed", async || {
        let log = fixture.server.log();
        log.split_whitespace().find(|word| word.starts_with("mst_reset_")).map(str::to_owned)
    });
    let token = token.await;
    let new = "tired giraffe on a bus";
    let body = json!({"password": new});
    let by_token = fixture.api.with_key(&token);
    by_token.post("/api/auth/password-reset/complete", body).await.expect(204);
    let next = challenge(&fixture.api, &owner.email, new).await;
    complete(&fixture.api, &next, &totp_code(&secret, 1)).await.expect(200);
}

#[tokio::test]
async fn person_enables_the_second_factor_and_signs_in_at_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    fixture.owner().await;
    let (cli, url) = (Cli::new(&fixture.test_dir), fixture.server.url());
    let login = ["login", "--server", &url, "--email", "ada@example.com"];
    cli.run_with_input(&login, &format!("{PASSWORD}\n")).await.expect(0);
    let shown = cli.run(&["account", "totp"]).await.expect(0);
    assert!(shown.contains("is disabled"), "{shown}");
    let shown = cli.run(&["account", "totp", "enable"]).await.expect(0);
    let secret = shown.lines().next().and_then(|line| line.strip_prefix("secret: "));
    let secret = secret.expect("a secret").to_owned();
    let code = totp_code(&secret, 0);
    let printed = cli.run_with_input(&["account", "totp", "confirm"], &code).await.expect(0);
    let codes: Vec<&str> = printed.lines().collect();
    assert_eq!(codes.len(), 10, "{printed}");
    cli.run(&["logout"]).await.expect(0);

    let missing = cli.run_with_input(&login, &format!("{PASSWORD}\n")).await;
    missing.expect(2);
    assert!(missing.stderr.contains("second line"), "{}", missing.stderr);
    let wrong = format!("{PASSWORD}\n{}\n", wrong_code(&secret));
    let refused = cli.run_with_input(&login, &wrong).await;
    refused.expect(1);
    assert!(refused.stderr.contains("the code is wrong"), "{}", refused.stderr);
    let code = totp_code(&secret, 1);
    let right = format!("{PASSWORD}\n{code}\n");
    cli.run_with_input(&login, &right).await.expect(0);
    let shown = cli.run(&["account", "totp", "show"]).await.expect(0);
    assert!(shown.contains("is enabled") && shown.contains("left: 10"), "{shown}");
    let spent = cli.run_with_input(&["account", "totp", "disable"], &code).await;
    spent.expect(1);
    cli.run_with_input(&["account", "totp", "disable"], codes[0]).await.expect(0);
}
