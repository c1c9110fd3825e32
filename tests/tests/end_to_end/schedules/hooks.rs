//! Inbound hooks: who may start their jobs, once each, and with whose rights.

use data_encoding::{BASE64, HEXLOWER};
use muster_tests::{Api, ApiResponse, Fixture, JsonFields as _, eventually, on_both_databases};
use reqwest::Method;
use ring::hmac;
use serde_json::{Value, json};

use super::counting_agent;

on_both_databases!(
    repeated_delivery_has_one_job_also_after_a_restart,
    delivery_without_proof_starts_nothing,
    hook_of_a_revoked_key_starts_nothing_until_a_person_takes_it_over,
);

/// A hook for the script `count`, and how to deliver to it.
struct Hook {
    api: Api,
    id: String,
    secret: String,
}

impl Hook {
    async fn new(api: &Api, authentication: &str, fields: Value) -> Self {
        let mut body = json!({"name": "hook", "authentication": authentication,
            "job": {"script": "count", "target": {"expression": "all"}}});
        for (name, value) in fields.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let made = api.post("/api/hooks", body).await.expect(201);
        Self {
            api: api.with_key(""),
            id: made.id().to_owned(),
            secret: made.text("secret").to_owned(),
        }
    }

    async fn send(&self, headers: &[(&str, &str)], body: &Value) -> ApiResponse {
        let (path, body) = (format!("/hooks/{}", self.id), body.to_string().into_bytes());
        self.api.try_send(Method::POST, &path, headers, Some(body)).await.expect("an answer")
    }

    /// A delivery as Standard Webhooks signs it.
    async fn signed(&self, id: &str, at_s: i64, body: &Value) -> ApiResponse {
        let key = BASE64.decode(self.secret.strip_prefix("whsec_").expect("a secret").as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key.expect("base64"));
        let tag = hmac::sign(&key, format!("{id}.{at_s}.{body}").as_bytes());
        let signature = format!("v1,{}", BASE64.encode(tag.as_ref()));
        let at = at_s.to_string();
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        self.send(&headers, body).await
    }

    async fn by_github(&self, event: &str, delivery: &str, body: &Value) -> ApiResponse {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let tag = hmac::sign(&key, body.to_string().as_bytes());
        let signature = format!("sha256={}", HEXLOWER.encode(tag.as_ref()));
        let headers = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-github-event", event),
            ("x-github-delivery", delivery),
        ];
        self.send(&headers, body).await
    }

    async fn deliveries(&self, api: &Api) -> Vec<Value> {
        let path = format!("/api/hooks/{}/deliveries", self.id);
        api.get(&path).await.expect(200).list("items").clone()
    }
}

fn now_s() -> i64 {
    chrono::Utc::now().timestamp()
}

async fn job_count(fixture: &Fixture) -> usize {
    fixture.api.get("/api/jobs?limit=500").await.expect(200).list("items").len()
}

async fn repeated_delivery_has_one_job_also_after_a_restart(mut fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let hook = Hook::new(&fixture.api, "signature", json!({})).await;
    let first = hook.signed("d-1", now_s(), &json!({})).await.expect(202);
    assert_eq!((first["state"].as_str(), &first["is_repeated"]), (Some("started"), &json!(false)));
    let again = hook.signed("d-1", now_s(), &json!({})).await.expect(202);
    assert_eq!((&again["job_id"], &again["is_repeated"]), (&first["job_id"], &json!(true)));
    fixture.server.kill_9();
    fixture.server.resume();
    eventually("the server answers", async || {
        fixture.api.try_send(Method::GET, "/readyz", &[], None).await.ok()
    })
    .await;
    let again = hook.signed("d-1", now_s(), &json!({})).await.expect(202);
    assert_eq!(again["job_id"], first["job_id"]);
    let (one, other, at_s) = (json!({}), json!({}), now_s());
    let (one, other) =
        tokio::join!(hook.signed("d-2", at_s, &one), hook.signed("d-2", at_s, &other));
    assert_eq!(one.expect(202)["job_id"], other.expect(202)["job_id"]);
    assert_eq!(job_count(&fixture).await, 2);
    let job = fixture.api.get(&format!("/api/executions?job_id={}", first.text("job_id"))).await;
    assert_eq!(job.expect(200)["items"][0]["trigger"], "hook");
}

async fn delivery_without_proof_starts_nothing(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let hook = Hook::new(&fixture.api, "signature", json!({"replay_window_ms": 60_000})).await;
    let refused = "hook_not_authenticated";
    hook.send(&[], &json!({})).await.expect_problem(401, refused);
    // The key of an owner is no proof either.
    let path = format!("/hooks/{}", hook.id);
    fixture.api.post(&path, json!({})).await.expect_problem(401, refused);
    let nobody = Hook { id: uuid::Uuid::now_v7().to_string(), ..Hook::clone(&hook) };
    nobody.signed("d", now_s(), &json!({})).await.expect_problem(401, refused);
    let wrong = Hook { secret: format!("whsec_{}", BASE64.encode(&[0; 32])), ..Hook::clone(&hook) };
    wrong.signed("d", now_s(), &json!({})).await.expect_problem(401, refused);
    for off_s in [-120, 120] {
        hook.signed("d", now_s() + off_s, &json!({})).await.expect_problem(401, refused);
    }
    let listed = hook.deliveries(&fixture.api).await;
    assert_eq!(listed.len(), 5, "those to the hook that exists: {listed:#?}");
    assert!(listed.iter().all(|one| one["state"] == "refused" && one["job_id"].is_null()));
    assert!(listed[0].text("detail").contains("replay window"), "{}", listed[0]);
    let rotated = fixture.api.post(&format!("/api/hooks/{}/rotate", hook.id), json!({})).await;
    let rotated = Hook { secret: rotated.expect(200).text("secret").to_owned(), ..hook.clone() };
    hook.signed("d", now_s(), &json!({})).await.expect_problem(401, refused);
    assert_eq!(job_count(&fixture).await, 0);
    rotated.signed("d", now_s(), &json!({})).await.expect(202);
    assert_eq!(job_count(&fixture).await, 1);
    let path = format!("/api/hooks/{}", hook.id);
    let disabled = fixture.api.patch(&path, json!({"enabled": false})).await.expect(200);
    assert_eq!(disabled["enabled"], false);
    rotated.signed("e", now_s(), &json!({})).await.expect_problem(409, "hook_disabled");
}

impl Clone for Hook {
    fn clone(&self) -> Self {
        Self { api: self.api.clone(), id: self.id.clone(), secret: self.secret.clone() }
    }
}

async fn hook_of_a_revoked_key_starts_nothing_until_a_person_takes_it_over(fixture: Fixture) {
    let (_agent, _) = counting_agent(&fixture).await;
    let made = fixture.api.post("/api/keys", json!({"name": "leaver", "role": "member"})).await;
    let made = made.expect(201);
    let hook = Hook::new(&fixture.api.with_key(made.text("key")), "bearer", json!({})).await;
    let bearer = format!("Bearer {}", hook.secret);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "build-1")];
    fixture.api.delete(&format!("/api/keys/{}", made.id())).await.expect(200);
    hook.send(&headers, &json!({})).await.expect_problem(403, "hook_owner_invalid");
    let path = format!("/api/hooks/{}", hook.id);
    fixture.api.patch(&path, json!({"name": "renamed"})).await.expect(200);
    hook.send(&headers, &json!({})).await.expect_problem(403, "hook_owner_invalid");
    // A sender that knows the secret would act with the rights of the new owner, so both change together.
    let taken = fixture.api.patch(&path, json!({"enabled": true})).await;
    taken.expect_problem(409, "secret_of_another");
    let rotated = fixture.api.post(&format!("{path}/rotate"), json!({})).await.expect(200);
    assert_ne!(rotated["hook"]["owner_id"], made.id(), "{rotated}");
    hook.send(&headers, &json!({})).await.expect_problem(401, "hook_not_authenticated");
    let bearer = format!("Bearer {}", rotated.text("secret"));
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "build-1")];
    // A delivery that got no job is tried again.
    let delivered = hook.send(&headers, &json!({})).await.expect(202);
    assert_eq!((&delivered["is_repeated"], &delivered["state"]), (&json!(true), &json!("started")));
    let again = hook.send(&headers, &json!({})).await.expect(202);
    assert_eq!(again["job_id"], delivered["job_id"]);
    let audit = fixture.api.get("/api/audit?action=hook.deliver").await.expect(200);
    assert!(!audit.list("items").is_empty());
}

#[tokio::test]
async fn declared_fields_become_parameters_and_a_replay_of_github_has_the_same_job() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let fields =
        json!({"parameters": {"REF": "/after"}, "conditions": {"/ref": "refs/heads/main"}});
    let hook = Hook::new(&fixture.api, "github", fields).await;
    let ping = hook.by_github("ping", "g-0", &json!({"zen": "x"})).await.expect(202);
    assert_eq!((&ping["state"], &ping["job_id"]), (&json!("ignored"), &Value::Null));
    let other = json!({"ref": "refs/heads/other", "after": "4f2c"});
    assert_eq!(hook.by_github("push", "g-1", &other).await.expect(202)["state"], "ignored");
    let missing = json!({"ref": "refs/heads/main"});
    hook.by_github("push", "g-2", &missing).await.expect_problem(422, "invalid_delivery");
    let push = json!({"ref": "refs/heads/main", "after": "4f2c", "before": "secret"});
    let first = hook.by_github("push", "g-3", &push).await.expect(202);
    // GitHub does not sign the id, so another one is no other delivery.
    let replayed = hook.by_github("push", "g-4", &push).await.expect(202);
    assert_eq!((&replayed["job_id"], &replayed["is_repeated"]), (&first["job_id"], &json!(true)));
    assert_eq!(job_count(&fixture).await, 1);
    let job = fixture.api.get(&format!("/api/jobs/{}", first.text("job_id"))).await.expect(200);
    assert_eq!(job["parameters"], json!({"REF": "4f2c"}), "{job}");
    let states: Vec<_> =
        hook.deliveries(&fixture.api).await.iter().map(|one| one["state"].clone()).collect();
    assert_eq!(json!(states), json!(["started", "refused", "ignored", "ignored"]));
}

#[tokio::test]
async fn hooks_are_managed_from_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let cli = fixture.cli().await;
    let add = ["hooks", "add", "deploy", "--field", "REF=/after", "--on", "all", "count", "--json"];
    let added = cli.run(&add).await;
    added.expect(0);
    let secret = added.json().text("secret").to_owned();
    assert!(secret.starts_with("whsec_"));
    let listed = cli.run(&["hooks"]).await.expect(0);
    assert!(listed.contains("deploy") && listed.contains("signature"), "{listed}");
    assert!(!cli.run(&["hooks", "show", "deploy"]).await.expect(0).contains("whsec_"));
    let body = fixture.test_dir.path().join("body.json");
    std::fs::write(&body, r#"{"after": "4f2c"}"#).expect("write");
    let body = body.to_str().expect("UTF-8");
    let dry = cli.run(&["hooks", "test", "deploy", body, "--dry-run", "--json"]).await;
    dry.expect(0);
    assert_eq!(dry.json()["parameters"], json!({"REF": "4f2c"}));
    assert_eq!(job_count(&fixture).await, 0);
    cli.run(&["hooks", "test", "deploy", body]).await.expect(0);
    assert_eq!(job_count(&fixture).await, 1);
    let deliveries = cli.run(&["hooks", "deliveries", "deploy"]).await.expect(0);
    assert!(deliveries.contains("started"), "{deliveries}");
    let refused = cli.run(&["hooks", "edit", "deploy", "--field", "REF=after"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("--field"), "{}", refused.stderr);
    let edit = ["hooks", "edit", "dep", "--only-if", "/ref=main", "--disable", "--json"];
    let edited = cli.run(&edit).await.json();
    assert_eq!(
        (&edited["enabled"], &edited["conditions"]),
        (&json!(false), &json!({"/ref": "main"}))
    );
    let rotated = cli.run(&["hooks", "rotate", "deploy", "--json"]).await.json();
    assert_ne!(rotated.text("secret"), secret);
    cli.run(&["hooks", "remove", "deploy"]).await.expect(0);
    eventually("no hook is listed", async || {
        let listed = fixture.api.get("/api/hooks").await.expect(200);
        listed.list("items").is_empty().then_some(())
    })
    .await;
}

/// A person who replaces the secret of a colleague's hook must not approve what then arrives.
#[tokio::test]
async fn who_got_the_secret_of_a_hook_approves_none_of_its_jobs() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = counting_agent(&fixture).await;
    let owner = fixture.owner().await;
    let admin = owner.add("admin@example.com", "admin").await;
    let hook = Hook::new(&owner.api, "bearer", json!({})).await;
    let rule = json!({"name": "all", "scripts": ["count"]});
    owner.api.post("/api/approvals/rules", rule).await.expect(201);
    let rotate = format!("/api/hooks/{}/rotate", hook.id);
    let rotated = admin.api.post(&rotate, json!({})).await.expect(200);
    let bearer = format!("Bearer {}", rotated.text("secret"));
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "mine")];
    hook.send(&headers, &json!({})).await.expect(202);
    let waiting = admin.api.get("/api/approvals?state=pending").await.expect(200);
    let path = format!("/api/approvals/{}/approve", waiting["items"][0].id());
    let reason = json!({"reason": "looks good"});
    admin.api.post(&path, reason.clone()).await.expect_problem(403, "own_request");
    owner.api.post(&path, reason).await.expect(200);
}
