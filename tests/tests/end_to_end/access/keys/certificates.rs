//! Certificates of people and programs: how they get one, and what it is worth with and without its key.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_tests::{
    CertifiedHost, Cli, Database, Fixture, JsonFields as _, ProgramOutput, ServerOptions, TestDir,
    eventually,
};
use serde_json::{Value, json};

/// A server that requires certificates of everybody, and a user with the certificate of the first key.
async fn certified() -> (Fixture, Cli) {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "all");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let cli = Cli::new(&fixture.test_dir);
    login(&fixture, &cli, fixture.api.key()).await.expect(0);
    (fixture, cli)
}

async fn login(fixture: &Fixture, cli: &Cli, key: &str) -> ProgramOutput {
    let (url, authority) = (fixture.server.url(), authority(fixture));
    let args = ["login", "--server", &url, "--ca-file", &authority, "--certificate"];
    cli.run_with_input(&args, key).await
}

fn authority(fixture: &Fixture) -> String {
    fixture.server.data_dir().join("ca.pem").display().to_string()
}

/// The file with certificate and key of a user.
fn file(fixture: &Fixture, cli: &Cli) -> PathBuf {
    let address = fixture.server.address();
    let name = format!("client-{}.pem", address.replace(':', "-"));
    cli.home().join(".config/muster").join(name)
}

/// A request of curl with a certificate. Returns the status and the body.
fn curl(fixture: &Fixture, certificate: &Path, key: &str, args: &[&str]) -> (u16, Value) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", "\n%{http_code}", "--cacert"])
        .arg(authority(fixture))
        .arg("--cert")
        .arg(certificate)
        .args(["--header", &format!("x-api-key: {key}")])
        .args(args)
        .output()
        .expect("start curl");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    let said = String::from_utf8_lossy(&output.stderr);
    (
        status.parse().unwrap_or_else(|_| panic!("{said}")),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_answers_only_over_a_connection_with_a_certificate_of_the_caller() {
    let (fixture, cli) = certified().await;
    let own = file(&fixture, &cli);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&own).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    cli.run(&["agents", "--json"]).await.json();
    for path in ["/api/agents", "/api/me", "/api/audit", "/api/certificates"] {
        fixture.api.get(path).await.expect_problem(403, "certificate_required");
    }
    // Other programs show the same file.
    let url = format!("{}/api/agents", fixture.server.url());
    let (status, body) = curl(&fixture, &own, fixture.api.key(), &[&url]);
    assert_eq!((status, &body["items"]), (200, &json!([])), "{body}");

    // The certificate is refused with another key.
    let made = cli.run(&["api-keys", "create", "other", "--role", "admin", "--json"]).await.json();
    let (status, body) = curl(&fixture, &own, made.text("key"), &[&url]);
    assert_eq!((status, &body["code"]), (403, &json!("certificate_required")), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stolen_key_gets_no_certificate_beside_the_one_of_its_owner() {
    let (fixture, cli) = certified().await;
    let elsewhere = TestDir::new();
    let thief = Cli::new(&elsewhere);
    let refused = login(&fixture, &thief, fixture.api.key()).await;
    assert!(refused.stderr.contains("you have a certificate, or had one"), "{}", refused.stderr);
    refused.expect(1);
    // The owner renews it over a connection that shows it.
    login(&fixture, &cli, fixture.api.key()).await.expect(0);
    let listed = cli.run(&["ca", "list", "--json"]).await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed}");
    // A request that its key has not signed is refused.
    let body = json!({"request": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"});
    fixture.api.post("/api/certificates", body).await.expect_problem(422, "invalid_field");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_certificate_of_a_program_is_refused_at_once() {
    let (fixture, cli) = certified().await;
    let first = file(&fixture, &cli);
    let kept = fixture.test_dir.path().join("first.pem");
    std::fs::copy(&first, &kept).expect("copy the certificate");
    login(&fixture, &cli, fixture.api.key()).await.expect(0);
    let listed = cli.run(&["ca", "list", "--json"]).await.json();
    let id = listed["items"][0].id().to_owned();
    let url = format!("{}/api/agents", fixture.server.url());
    assert_eq!(curl(&fixture, &kept, fixture.api.key(), &[&url]).0, 200);
    cli.run(&["ca", "revoke", &id]).await.expect(0);
    let (status, body) = curl(&fixture, &kept, fixture.api.key(), &[&url]);
    assert_eq!((status, &body["code"]), (403, &json!("certificate_required")), "{body}");
    cli.run(&["agents"]).await.expect(0);
    let status = cli.run(&["ca", "status", "--json"]).await.json();
    assert_eq!((&status["valid_count"], &status["revoked_count"]), (&json!(1), &json!(1)));
    assert_eq!(status["required_of"], "all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_certificate_of_a_program_ends_what_it_has_under_way() {
    let (fixture, cli) = certified().await;
    let first = file(&fixture, &cli);
    let kept = fixture.test_dir.path().join("first.pem");
    std::fs::copy(&first, &kept).expect("copy the certificate");
    login(&fixture, &cli, fixture.api.key()).await.expect(0);
    // An agent that never answers, so that a request waits for it.
    let created = cli.run(&["keys", "create", "silent", "--json"]).await.json();
    let address = fixture.server.address();
    let ca = PathBuf::from(authority(&fixture));
    let mut host = CertifiedHost::new();
    host.enrol(&ca, &address, created.text("key")).await;
    let mut session = host.session(&ca, &address, created.text("key")).await;

    let url = fixture.server.url();
    let ping = format!("{url}/api/agents/{}/ping", host.agent_id());
    let requests = [
        vec![format!("{url}/api/events")],
        vec!["--json".into(), r#"{"wait_ms": 60000}"#.into(), ping],
    ];
    let mut under_way: Vec<_> = requests
        .iter()
        .map(|args| {
            Command::new("curl")
                .args(["--silent", "--no-buffer", "--max-time", "50", "--cacert"])
                .arg(&ca)
                .arg("--cert")
                .arg(&kept)
                .args(["--header", &format!("x-api-key: {}", fixture.api.key())])
                .args(args)
                .stdout(Stdio::piped())
                .spawn()
                .expect("start curl")
        })
        .collect();
    eventually("the ping has arrived", async || {
        let frame = session.next().await.expect("a frame");
        (frame["command"] == "ping").then_some(())
    })
    .await;
    for request in &mut under_way {
        assert!(request.try_wait().expect("curl").is_none(), "it has ended already");
    }
    let listed = cli.run(&["ca", "list", "--json"]).await.json();
    let own = |item: &&Value| item["holder"] == "api_key";
    let id = listed["items"].as_array().and_then(|items| items.iter().find(own)).expect("one").id();
    cli.run(&["ca", "revoke", id]).await.expect(0);
    for request in under_way {
        let output = request.wait_with_output().expect("curl");
        // 28 is the end of curl's own time.
        assert_ne!(output.status.code(), Some(28), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_certificate_is_replaced_only_with_a_permission_of_another() {
    let (fixture, cli) = certified().await;
    let made = cli.run(&["api-keys", "create", "maker", "--role", "owner", "--json"]).await.json();
    let (maker_id, secret) = (made.id().to_owned(), made.text("key").to_owned());
    let places: Vec<TestDir> = (0..4).map(|_| TestDir::new()).collect();
    let [maker, thief, again, small] = [0, 1, 2, 3].map(|number| Cli::new(&places[number]));
    login(&fixture, &maker, &secret).await.expect(0);
    let own = async |holder: &str| {
        let listed = cli.run(&["ca", "list", "--json"]).await.json();
        let of_holder = |item: &&Value| item["holder_id"] == holder && item["revoked_at"].is_null();
        listed["items"].as_array().and_then(|items| items.iter().find(of_holder).cloned())
    };
    let certificate = own(&maker_id).await.expect("the certificate of the maker").id().to_owned();

    // A key that it has made has fewer rights than it, and revokes nothing of it.
    let args = [
        "api-keys",
        "create",
        "child",
        "--role",
        "owner",
        "--scope",
        "agents:write",
        "--scope",
        "agents:read",
        "--scope",
        "api_keys:write",
        "--json",
    ];
    let child = maker.run(&args).await.json();
    login(&fixture, &small, child.text("key")).await.expect(0);
    let refused = small.run(&["ca", "revoke", &certificate]).await;
    assert!(refused.stderr.contains("higher role"), "{}", refused.stderr);
    // No key gives itself the permission.
    let refused = maker.run(&["ca", "revoke", &certificate, "--allow-next"]).await;
    assert!(refused.stderr.contains("can't allow itself"), "{}", refused.stderr);

    // Revoked: the secret alone gets no other one.
    cli.run(&["ca", "revoke", &certificate]).await.expect(0);
    let refused = login(&fixture, &thief, &secret).await;
    assert!(refused.stderr.contains("you have a certificate, or had one"), "{}", refused.stderr);
    cli.run(&["ca", "revoke", &certificate, "--allow-next"]).await.expect(0);
    login(&fixture, &again, &secret).await.expect(0);
    again.run(&["agents"]).await.expect(0);
    // The permission is used up.
    let refused = login(&fixture, &thief, &secret).await;
    assert!(refused.stderr.contains("you have a certificate, or had one"), "{}", refused.stderr);
    assert!(own(&maker_id).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_with_a_target_revokes_no_certificate_of_another_agent() {
    let test_dir = TestDir::new();
    let options = ServerOptions::issuing(&test_dir).with("MUSTER_REQUIRE_CLIENT_CERT", "agents");
    let fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let ca = PathBuf::from(authority(&fixture));
    let mut ids = Vec::new();
    for tag in ["web", "db"] {
        let (_, key) = fixture.api.agent_key(json!({"tags": [tag]})).await;
        let mut host = CertifiedHost::new();
        host.enrol(&ca, &fixture.server.address(), &key).await;
        let listed = fixture.api.get("/api/certificates").await.expect(200);
        let agent = host.agent_id().to_owned();
        let of_agent = |item: &&Value| item["holder_id"] == agent.as_str();
        ids.push(listed.list("items").iter().find(of_agent).expect("one").id().to_owned());
    }
    let fields = json!({"name": "web", "role": "admin", "scopes": ["agents:read", "agents:write"],
        "target": "tag:web"});
    let made = fixture.api.post("/api/keys", fields).await.expect(201);
    let limited = fixture.api.with_key(made.text("key"));
    let refused = limited.delete(&format!("/api/certificates/{}", ids[1])).await;
    refused.expect_problem(403, "outside_key_target");
    limited.delete(&format!("/api/certificates/{}", ids[0])).await.expect(204);
    let path = format!("/api/certificates/{}?allow_next=true", ids[1]);
    fixture.api.delete(&path).await.expect_problem(422, "invalid_field");
}
