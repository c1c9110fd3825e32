//! Every refusal is in the API's description, with the documented shape.

use muster_tests::{AgentOptions, FakeAgent, Fixture, JsonFields as _, Script};
use reqwest::Method;
use serde_json::{Value, json};

const NOBODY: &str = "01a1fdb4-5130-7149-8191-20f9622b2a14";

/// The description of an operation with this answer.
fn described(description: &Value, method: &Method, path: &str, status: u16) -> Option<Value> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (asked, known) = (path.split('/'), template.split('/'));
        asked.clone().count() == known.clone().count()
            && asked.zip(known).all(|(asked, known)| known.starts_with('{') || asked == known)
    };
    let paths = description["paths"].as_object().expect("paths");
    // Literal segments take precedence over parameters.
    let mut found: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    let operation = &found.first()?.1[method.as_str().to_lowercase()];
    operation["responses"].get(status.to_string()).cloned()
}

#[tokio::test]
async fn every_refusal_is_documented_in_openapi() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [Script::new("hi", "echo hi")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let (key, secret) = fixture.api.agent_key(json!({"permissions": ["ping", "execute"]})).await;
    let _basic = FakeAgent::registered(&fixture.server.address(), &secret, "basic").await;
    let basic = fixture.online(&key).await.id().to_owned();
    let done = fixture.api.execute(&id, "hi", json!({})).await;
    fixture.api.finished(&done).await;
    let body = json!({"script": "hi", "target": {"ids": [id]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202);
    let job = job.id().to_owned();
    let description = fixture.api.get("/openapi.json").await.expect(200);
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let large = "x".repeat(1_100_000);
    for (method, path, body, status, code) in [
        (&get, format!("/api/agents/{NOBODY}"), None, 404, "not_found"),
        (&get, "/api/agents?limit=0".into(), None, 422, "invalid_field"),
        (&get, "/api/commands?limit=501".into(), None, 422, "invalid_field"),
        (&get, "/api/jobs?cursor=odd".into(), None, 400, "invalid_query"),
        (&get, format!("/api/commands/{done}?wait=1"), None, 400, "invalid_query"),
        (&get, format!("/api/executions/{NOBODY}/output"), None, 404, "not_found"),
        (
            &get,
            format!("/api/executions/{done}/output/live?from_bytes=x"),
            None,
            400,
            "invalid_query",
        ),
        (&get, "/api/events?types=odd".into(), None, 400, "invalid_query"),
        (&delete, format!("/api/keys/{NOBODY}"), None, 404, "not_found"),
        (&patch, format!("/api/agents/{id}"), Some(json!({"odd": 1})), 422, "invalid_body"),
        (&patch, format!("/api/agents/{id}"), Some(json!({"name": ""})), 422, "invalid_field"),
        (&patch, format!("/api/agents/{id}"), Some(json!({"name": large})), 413, "body_too_large"),
        (&post, "/api/agents/keys".into(), Some(json!([])), 422, "invalid_body"),
        (&post, format!("/api/agents/keys/{NOBODY}/ping"), Some(json!({})), 404, "not_found"),
        (
            &post,
            format!("/api/agents/{basic}/command"),
            Some(json!({"command": "restart"})),
            403,
            "permission_denied",
        ),
        (
            &post,
            format!("/api/agents/{id}/command"),
            Some(json!({"command": "odd"})),
            422,
            "unknown_command",
        ),
        (
            &post,
            format!("/api/agents/{basic}/ping"),
            Some(json!({"wait_ms": 1})),
            504,
            "agent_timeout",
        ),
        (
            &post,
            format!("/api/agents/{basic}/command"),
            Some(
                json!({"command": "execute", "data": {"script": "a", "secret_parameters": {"A": "long enough"}}}),
            ),
            409,
            "secrets_unsupported",
        ),
        (
            &post,
            "/api/jobs".into(),
            Some(json!({"argv": ["true"], "target": {"ids": [id]}})),
            409,
            "argv_not_allowed",
        ),
        (
            &post,
            "/api/jobs".into(),
            Some(json!({"script": "no", "target": {"ids": [id]}})),
            422,
            "unknown_script",
        ),
        (&post, format!("/api/jobs/{job}/pause"), Some(json!({})), 409, "no_rollout"),
        (&post, format!("/api/jobs/{NOBODY}/cancel"), Some(json!({"odd": 1})), 422, "invalid_body"),
        (&post, format!("/api/commands/{NOBODY}/cancel"), Some(json!({})), 404, "not_found"),
        (
            &post,
            "/api/targets/preview".into(),
            Some(json!({"expression": "&"})),
            422,
            "invalid_target",
        ),
        (&post, "/api/groups".into(), Some(json!({"name": "g"})), 422, "invalid_field"),
        (
            &post,
            "/api/groups".into(),
            Some(json!({"name": "g", "target": {"tags": ["a"]}, "desired_version": "9.9.9"})),
            409,
            "no_release",
        ),
        (
            &post,
            "/api/webhooks/secret".into(),
            Some(json!({"url": "ftp://a"})),
            422,
            "invalid_webhook",
        ),
        (&get, "/api/releases/9.9.9".into(), None, 404, "not_found"),
        (
            &post,
            "/api/releases".into(),
            Some(json!({"manifest": "", "signature": ""})),
            422,
            "invalid_release",
        ),
    ] {
        let what = format!("{method} {path}");
        let answer = fixture.api.send(method.clone(), &path, body).await;
        answer.clone().expect_problem(status, code);
        let kind = answer.header("content-type");
        let said = described(&description, method, &path, status);
        let said =
            said.unwrap_or_else(|| panic!("{what} answers {status}, which is not described"));
        assert!(said["content"].get(kind).is_some(), "{what}: {kind} is not in {said}");
        if status == 413 {
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("1048576 bytes"), "{detail}");
        }
        let keyless = fixture.api.with_key("").send(method.clone(), &path, Some(json!({}))).await;
        assert_eq!(keyless.status, 401, "{what}");
        assert!(described(&description, method, &path, 401).is_some(), "{what}: 401");
        assert!(described(&description, method, &path, 503).is_some(), "{what}: 503");
    }
}
