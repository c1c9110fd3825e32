//! Examples of the operations of people.

use muster_tests::JsonFields as _;
use reqwest::Method;
use serde_json::json;

use super::examples::Recorder;

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
