//! Access tokens that are not what they seem.

use data_encoding::BASE64URL_NOPAD;
use muster_tests::{Fixture, JsonFields as _, PASSWORD};
use reqwest::Method;
use serde_json::{Value, json};

fn part(value: &Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}

fn decoded(part: &str) -> Value {
    let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn forged_damaged_and_other_tokens_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.owner().await;
    let token = owner.api.key().to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token}") };
    let (head, body) = (decoded(header), decoded(payload));
    assert_eq!((&head["alg"], &head["typ"]), (&json!("EdDSA"), &json!("JWT")));
    assert_eq!(body["exp"].as_i64().zip(body["iat"].as_i64()).map(|(e, i)| e - i), Some(900));

    let with = |value: &Value, field: &str, new: Value| {
        let mut value = value.clone();
        value[field] = new;
        part(&value)
    };
    let key_bytes = BASE64URL_NOPAD.encode(&[7; 32]);
    let mut wrong = Vec::new();
    for algorithm in ["none", "None", "HS256", "HS512", "RS256", "ES256", "Ed25519", ""] {
        let header = with(&head, "alg", json!(algorithm));
        wrong.push(format!("{header}.{payload}."));
        wrong.push(format!("{header}.{payload}.{signature}"));
        wrong.push(format!("{header}.{payload}.{key_bytes}"));
    }
    let unknown = with(&head, "kid", json!(uuid::Uuid::now_v7()));
    let many_keys = with(&head, "jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": key_bytes}));
    let longer = with(&body, "exp", json!(body["exp"].as_i64().unwrap_or_default() + 60));
    let other = with(&body, "sub", json!(uuid::Uuid::now_v7()));
    wrong.extend([
        format!("{unknown}.{payload}.{signature}"),
        format!("{many_keys}.{payload}.{signature}"),
        format!("{}.{payload}.{signature}", with(&head, "kid", json!("../../key"))),
        format!("{header}.{longer}.{signature}"),
        format!("{header}.{other}.{signature}"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 1]),
        format!("{header}.{payload}.{signature}A"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}"),
        "..".into(),
        format!("{}.{payload}.{signature}", "A".repeat(60_000)),
    ]);
    for token in &wrong {
        let answer = owner.api.with_key(token).get("/api/agents").await;
        assert!(answer.status == 401, "{}: {token:.200}", answer.status);
    }
    // Secrets of another kind.
    for secret in [owner.refresh_token.as_str(), &owner.session_id, &format!("{token}.{token}")] {
        owner.api.with_key(secret).get("/api/agents").await.expect(401);
    }
    for secret in [&token, fixture.api.key(), "", "mst_refresh_", &owner.refresh_token[..40]] {
        let body = json!({"refresh_token": secret});
        let refused = fixture.api.with_key("").post("/api/auth/refresh", body).await;
        refused.expect_problem(401, "invalid_refresh_token");
    }
    // As `x-api-key` it is the same token.
    let headers = [("x-api-key", token.as_str())];
    let anonymous = fixture.api.with_key("");
    let answer = anonymous.try_send(Method::GET, "/api/agents", &headers, None).await;
    answer.expect("reach the server").expect(200);
    owner.api.get("/api/agents").await.expect(200);
}

#[tokio::test]
async fn bodies_of_a_sign_in_that_no_client_sends_are_refused() {
    let fixture = Fixture::on_sqlite().await;
    let api = fixture.api.with_key("");
    let post = async |body: Vec<u8>| {
        api.try_send(Method::POST, "/api/auth/login", &[], Some(body)).await.expect("an answer")
    };
    let mut latin = br#"{"email":"ada@example.com","password":"pass"#.to_vec();
    latin.extend([0xe9, b'"', b'}']);
    post(latin).await.expect_problem(400, "malformed_json");
    let long = format!(r#"{{"email":"{}","password":"x"}}"#, "a".repeat(1 << 20));
    post(long.into_bytes()).await.expect_problem(413, "body_too_large");
    let deep = format!(r#"{{"email":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    let answer = post(deep.into_bytes()).await;
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    for body in [
        json!({"email": "a@b.c"}),
        json!({"email": 1, "password": PASSWORD}),
        json!({"email": "a@b.c", "password": PASSWORD, "role": "owner"}),
        json!({"email": "a@b.c", "password": PASSWORD, "tenant_id": "x"}),
    ] {
        post(body.to_string().into_bytes()).await.expect_problem(422, "invalid_body");
    }
}

#[tokio::test]
async fn signing_keys_outlive_a_restart_and_a_new_one_signs_after_thirty_days() {
    let mut fixture = Fixture::on_sqlite().await;
    let owner = fixture.owner().await;
    fixture.server.stop();
    fixture.server.resume();
    let api = fixture.server.api();
    let kept = api.with_key(owner.api.key());
    kept.get("/api/agents").await.expect(200);
    let kid = |token: &str| decoded(token.split('.').next().expect("a header"))["kid"].clone();
    let refresh = async |token: &str| {
        let body = json!({"refresh_token": token});
        api.with_key("").post("/api/auth/refresh", body).await.expect(200)
    };
    let one = refresh(&owner.refresh_token).await;
    assert_eq!(kid(one.text("access_token")), kid(owner.api.key()));
    // The key is 31 days old: it signs no more, and its tokens are still accepted.
    fixture.server.query("UPDATE token_keys SET created_at = created_at - 31 * 86400000");
    fixture.server.stop();
    fixture.server.resume();
    let api = fixture.server.api();
    let body = json!({"refresh_token": one.text("refresh_token")});
    let two = api.with_key("").post("/api/auth/refresh", body).await.expect(200);
    assert_ne!(kid(two.text("access_token")), kid(owner.api.key()));
    api.with_key(owner.api.key()).get("/api/agents").await.expect(200);
    assert_eq!(fixture.server.query("SELECT COUNT(*) FROM token_keys"), ["2"]);
}
