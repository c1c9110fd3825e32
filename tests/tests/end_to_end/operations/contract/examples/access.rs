//! Examples: people, accounts and API keys.

use muster_tests::{Authenticator, IdentityProvider, JsonFields as _, eventually, totp_code};
use reqwest::Method;
use serde_json::json;

use super::{ORIGIN, Recorder, sign_on, streams};

/// People: sign-in, sessions, members and invitations.
pub async fn people(run: &mut Recorder<'_>) {
    let password = "correct horse battery staple";
    let login = json!({"email": "ada@example.com", "password": password});
    let signed = run.call_with("", Method::POST, "/api/auth/login", Some(login)).await;
    let refresh = json!({"refresh_token": signed.text("refresh_token")});
    let next = run.call_with("", Method::POST, "/api/auth/refresh", Some(refresh)).await;
    let key = next.text("access_token").to_owned();
    for path in ["/api/me", "/api/me/sessions", "/api/members"] {
        run.call_with(&key, Method::GET, path, None).await;
    }
    let confirm = json!({"password": password});
    run.call_with(&key, Method::POST, "/api/auth/confirm", Some(confirm)).await;
    streams::export(run, &run.fixture.api.with_key(&key)).await;
    device_logins(run, &key).await;
    let body = json!({"email": "grace@example.com", "role": "member"});
    let made = run.call_with(&key, Method::POST, "/api/invitations", Some(body.clone())).await;
    run.call_with(&key, Method::GET, "/api/invitations", None).await;
    let account = json!({"name": "Grace", "password": password});
    let path = "/api/invitations/accept";
    let member = run.call_with(made.text("token"), Method::POST, path, Some(account)).await;
    let made = run.call_with(&key, Method::POST, "/api/invitations", Some(body)).await;
    let path = format!("/api/invitations/{{id={}}}", made.id());
    run.call_with(&key, Method::DELETE, &path, None).await;
    let path = format!("/api/members/{{id={}}}", member.id());
    run.call_with(&key, Method::PATCH, &path, Some(json!({"role": "admin"}))).await;
    let members = run.fixture.api.with_key(&key).get("/api/members").await.expect(200);
    let path = format!("/api/members/{{id={}}}", members["items"][1].id());
    run.call_with(&key, Method::DELETE, &path, None).await;
    let change = json!({"current_password": password, "new_password": "tired giraffe on a bus"});
    run.call_with(&key, Method::POST, "/api/me/password", Some(change)).await;
    let tenant = json!({"tenant_id": signed["member"].text("tenant_id")});
    let switched = run.call_with(&key, Method::POST, "/api/auth/switch", Some(tenant)).await;
    let key = switched.text("access_token").to_owned();
    let login = json!({"email": "ada@example.com", "password": "tired giraffe on a bus"});
    let other = run.fixture.api.post("/api/auth/login", login).await.expect(200);
    let path = format!("/api/me/sessions/{{id={}}}", other.text("session_id"));
    run.call_with(&key, Method::DELETE, &path, None).await;
    run.call_with(&key, Method::POST, "/api/auth/logout", Some(json!({}))).await;
}

/// Registration, a new password and a new address, with codes that the server prints.
pub async fn accounts(run: &mut Recorder<'_>, provider: &IdentityProvider) {
    let (email, password) = ("joan@example.com", "correct horse battery staple");
    let body = json!({"email": email, "name": "Joan", "password": password,
        "tenant_name": "Example Ltd"});
    let open = run.call_with("", Method::POST, "/api/auth/register", Some(body)).await;
    let id = open.text("registration_id").to_owned();
    printed(run, email, 1).await;
    let body = json!({"registration_id": id});
    run.call_with("", Method::POST, "/api/auth/register/resend", Some(body)).await;
    let code = printed(run, email, 2).await;
    let body = json!({"registration_id": id, "code": code});
    run.call_with("", Method::POST, "/api/auth/register/verify", Some(body)).await;
    let body = json!({"email": email});
    run.call_with("", Method::POST, "/api/auth/password-reset", Some(body)).await;
    let token = printed(run, email, 3).await;
    let body = json!({"password": "tired giraffe on a bus"});
    let path = "/api/auth/password-reset/complete";
    run.call_with(&token, Method::POST, path, Some(body)).await;
    let login = json!({"email": email, "password": "tired giraffe on a bus"});
    let signed = run.fixture.api.post("/api/auth/login", login).await.expect(200);
    let key = signed.text("access_token");
    second_factor(run, key, email).await;
    passkeys(run, key).await;
    sign_on::identities(run, provider, key).await;
    let body = json!({"email": "joan.clarke@example.com"});
    run.call_with(key, Method::POST, "/api/me/email", Some(body)).await;
    let code = printed(run, "joan.clarke@example.com", 1).await;
    run.call_with(key, Method::POST, "/api/me/email/verify", Some(json!({"code": code}))).await;
    let name = json!({"name": "Example Ltd"});
    run.call_with(key, Method::DELETE, "/api/tenant", Some(name)).await;
    run.call_with(key, Method::POST, "/api/tenant/restore", Some(json!({}))).await;
}

pub async fn passkeys(run: &mut Recorder<'_>, key: &str) {
    let path = "/api/me/passkeys/challenge";
    let asked = run.call_with(key, Method::POST, path, Some(json!({}))).await;
    let mut device = Authenticator::new(ORIGIN);
    let made = Some(device.make(&asked, "laptop"));
    let added = run.call_with(key, Method::POST, "/api/me/passkeys", made).await;
    run.call_with(key, Method::GET, "/api/me/passkeys", None).await;
    let path = "/api/auth/passkey/challenge";
    let asked = run.call_with("", Method::POST, path, Some(json!({}))).await;
    let signed = json!({"passkey": device.sign(&asked)});
    run.call_with("", Method::POST, "/api/auth/passkey", Some(signed)).await;
    let path = format!("/api/me/passkeys/{{id={}}}", added["passkey"].id());
    let proof = json!({"code": added["recovery_codes"][0]});
    run.call_with(key, Method::DELETE, &path, Some(proof)).await;
}

pub async fn second_factor(run: &mut Recorder<'_>, key: &str, email: &str) {
    let made = run.call_with(key, Method::POST, "/api/me/totp", Some(json!({}))).await;
    let code = totp_code(made.text("secret"), 0);
    let path = "/api/me/totp/confirm";
    run.call_with(key, Method::POST, path, Some(json!({"code": code}))).await;
    let path = "/api/me/totp/recovery-codes";
    run.fixture.server.query("UPDATE totp_secrets SET last_step = 0");
    let proof = json!({"code": totp_code(made.text("secret"), 0)});
    let codes = run.call_with(key, Method::POST, path, Some(proof)).await;
    let body = json!({"email": email, "password": "tired giraffe on a bus"});
    let waiting = run.call_with("", Method::POST, "/api/auth/login", Some(body)).await;
    let code = totp_code(made.text("secret"), 1);
    let body = json!({"challenge": waiting.text("challenge"), "code": code});
    run.call_with("", Method::POST, "/api/auth/login/code", Some(body)).await;
    run.call_with(key, Method::GET, "/api/me/totp", None).await;
    let proof = json!({"code": codes["recovery_codes"][0]});
    run.call_with(key, Method::DELETE, "/api/me/totp", Some(proof)).await;
}

/// The code or token of a printed mail to an address, counted from 1.
pub async fn printed(run: &Recorder<'_>, to: &str, count: usize) -> String {
    eventually(&format!("mail {count} to {to} is printed"), async || {
        let log = run.fixture.server.log();
        let mail = log.split(&format!("mail to {to}: ")).nth(count)?.to_owned();
        let mut lines = mail.lines();
        let secret = lines.find_map(|line| line.strip_prefix("    ").map(str::to_owned));
        secret.filter(|secret| !secret.is_empty())
    })
    .await
}

pub async fn device_logins(run: &mut Recorder<'_>, key: &str) {
    run.call_with("", Method::GET, "/api/auth/oidc/providers", None).await;
    for action in ["approve", "refuse"] {
        let started = run.call_with("", Method::POST, "/api/auth/device", Some(json!({}))).await;
        let code = json!({"user_code": started.text("user_code")});
        let show = Some(code.clone());
        run.call_with(key, Method::POST, "/api/auth/device/show", show).await;
        let path = format!("/api/auth/device/{action}");
        run.call_with(key, Method::POST, &path, Some(code)).await;
        if action == "approve" {
            let body = json!({"device_code": started.text("device_code")});
            run.call_with("", Method::POST, "/api/auth/device/token", Some(body)).await;
        }
    }
}
