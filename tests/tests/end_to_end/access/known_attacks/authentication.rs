//! Attacks on authentication and set-up.

use muster_tests::{Api, FakeAgent, Fixture, Publisher, full_registration};
use serde_json::json;

use super::{bearer, raw, status_of};

/// The body holds the credential.
const IN_THE_BODY: [&str; 4] =
    ["/api/auth/device/token", "/api/auth/login", "/api/auth/login/code", "/api/auth/passkey"];
/// They start nothing that counts without a further proof.
const FOR_STRANGERS: [&str; 9] = [
    "/api/auth/device",
    "/api/auth/oidc/providers",
    "/api/auth/oidc/{provider}/callback",
    "/api/auth/oidc/{provider}/start",
    "/api/auth/passkey/challenge",
    "/api/auth/password-reset",
    "/api/auth/register",
    "/api/auth/register/resend",
    "/api/auth/register/verify",
];

/// Salt's master had methods without authentication.
#[tokio::test]
async fn salt_cve_2020_11651_no_method_is_reachable_without_authentication() {
    let fixture = Fixture::on_sqlite().await;
    let description = fixture.api.get("/openapi.json").await.expect(200);
    let mut open = Vec::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys().map(|name| name.to_uppercase()) {
            let id = uuid::Uuid::now_v7().to_string();
            let target = ["{id}", "{version}", "{platform}", "{program}", "{sha256}"]
                .iter()
                .fold(path.clone(), |path, name| path.replace(name, &id));
            let json = "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            let headers = if method == "GET" { "" } else { json };
            let answer = raw(&fixture, &format!("{method} {target}"), headers).await;
            match status_of(&answer) {
                "401" => {}
                "422" if IN_THE_BODY.contains(&path.as_str()) => {}
                _ if FOR_STRANGERS.contains(&path.as_str()) => {}
                "200" => open.push(path.clone()),
                _ => panic!("{method} {path}: {answer}"),
            }
        }
    }
    assert_eq!(open, ["/healthz", "/readyz"]);
    // An agent that shows no key, or an unknown one, is not listened to.
    let address = fixture.server.address();
    for (query, code) in [("", 4001), ("?api_key=", 4001), ("?api_key=mst_agent_x", 4002)] {
        let mut stranger = FakeAgent::open(&address, query, None).await;
        for frame in [
            json!({"type": "register", "data": full_registration(json!({}))}),
            json!({"type": "command", "command": "execute", "data": {"argv": ["id"]}}),
            json!({"type": "connected"}),
        ] {
            let _ = stranger.try_send(frame.to_string().into()).await;
        }
        assert_eq!(stranger.closed().await.code, code);
    }
    assert_eq!(fixture.api.get("/api/agents").await.expect(200)["items"], json!([]));
    // An agent that has a key can't speak as a server: it gets no command to another agent.
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut victim = FakeAgent::registered(&address, &key, "victim").await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let mut agent = FakeAgent::registered(&address, &key, "attacker").await;
    for kind in ["command", "rekey", "cancel", "drain", "registered", "_prep_auth_info"] {
        let id = uuid::Uuid::now_v7();
        agent.send(json!({"type": kind, "command": "execute", "command_id": id, "data": {}})).await;
    }
    agent.send(json!({"type": "heartbeat", "status": {}})).await;
    while agent.next().await.expect("a frame")["type"] != "heartbeat_ack" {}
    victim.send(json!({"type": "heartbeat", "status": {}})).await;
    assert_eq!(victim.next().await.expect("a frame")["type"], "heartbeat_ack");
}

/// Kaseya's server could be reached past its login, and took a program from there to every host.
#[tokio::test]
async fn kaseya_2021_nothing_but_an_api_key_authenticates_and_no_unsigned_program_is_taken() {
    let fixture = Fixture::on_sqlite().await;
    let owner = fixture.api.key();
    let (_, agent_key) = fixture.api.agent_key(json!({"permissions": muster_tests::ALL})).await;
    let basic = |key: &str| {
        let text = data_encoding::BASE64.encode(format!("{key}:{key}").as_bytes());
        format!("authorization: Basic {text}\r\n")
    };
    for headers in [
        bearer(&agent_key),
        format!("x-api-key: {agent_key}\r\n"),
        format!("cookie: session={owner}; api_key={owner}; __Host-session={owner}\r\n"),
        basic(owner),
        format!("authorization: {owner}\r\n"),
        "x-forwarded-for: 127.0.0.1\r\nx-real-ip: ::1\r\nx-original-url: /healthz\r\n".to_owned(),
        "x-forwarded-user: admin\r\nx-remote-user: admin\r\nremote-user: admin\r\n".to_owned(),
    ] {
        for line in [
            "GET /api/agents".to_owned(),
            "GET /api/keys".to_owned(),
            "GET /metrics".to_owned(),
            format!("GET /api/agents?api_key={owner}&key={owner}&token={owner}"),
            "PUT /api/releases/9.9.9/linux-x86_64/muster-agent".to_owned(),
            "POST /api/releases".to_owned(),
            "POST /api/releases/9.9.9/publish".to_owned(),
        ] {
            let answer = raw(&fixture, &line, &headers).await;
            assert_eq!(status_of(&answer), "401", "{line} with {headers}: {answer}");
        }
    }
    // Not even an operator's key makes hosts take what the release key has not signed.
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("read");
    let (manifest, signature) = (read("release.json"), read("release.sig"));
    for (manifest, signature) in [
        (manifest.clone(), String::new()),
        (manifest.clone(), "{}".into()),
        (manifest.clone(), signature.replace(|c: char| c.is_ascii_uppercase(), "A")),
        (manifest.replace("0.1.0", "0.0.1"), signature),
    ] {
        let draft = json!({"manifest": manifest, "signature": signature});
        let answer = fixture.api.post("/api/releases", draft).await;
        assert!((400..500).contains(&answer.status), "{}", answer.json());
    }
    let kept = fixture.api.get("/api/releases").await.expect(200);
    assert_eq!(kept["items"], json!([]), "an unsigned release was stored");
}

/// ScreenConnect ran its set-up again for a path with something behind it.
#[tokio::test]
async fn screenconnect_2024_1709_set_up_is_over_and_no_path_comes_past_the_check() {
    let mut fixture = Fixture::on_sqlite().await;
    let stolen = format!("mst_live_{}", "a".repeat(43));
    let owner = fixture.api.key().to_owned();
    fixture.server.stop();
    let options = muster_tests::ServerOptions::default().with("MUSTER_BOOTSTRAP_KEY", &stolen);
    fixture.server.resume_with(options);
    fixture.server.ready().await;
    let attacker: Api = fixture.api.with_key(&stolen);
    let attacker = Api::new(&fixture.server.url(), attacker.key());
    attacker.get("/api/agents").await.expect_problem(401, "invalid_api_key");
    let file = std::fs::read_to_string(fixture.server.data_dir().join("bootstrap_key"));
    assert_eq!(file.expect("read").trim(), owner, "the first key was replaced");
    let keys = Api::new(&fixture.server.url(), &owner).get("/api/keys").await.expect(200);
    assert_eq!(keys["items"].as_array().map(Vec::len), Some(1), "{keys}");

    for target in [
        "/api/keys/",
        "//api/keys",
        "/api//keys",
        "/api/./keys",
        "/api/x/../keys",
        "/api/%2e/keys",
        "/api/%6beys",
        "/api/keys%2f",
        "/api/keys/%2e%2e/keys",
        "/api/keys;x=1",
        "/api/keys/;/x",
        "/api/keys%00",
        "/api/keys?x=/healthz",
        "/healthz/../api/keys",
        "/healthz/..;/api/keys",
        "/healthz/%2e%2e/api/keys",
        "/docs/../api/keys",
        "/docs/%2e%2e/api/keys",
        "/API/KEYS",
        "/api/keys.json",
        "/api/keys/SetupWizard.aspx",
        "/SetupWizard.aspx/x",
        "/setup",
        "/api/setup",
        "/api/bootstrap",
        "/install/../api/keys",
        "/install/%2e%2e%2fapi%2fkeys",
        "http://m/api/keys",
        "http://m//api/keys",
        "/metrics/",
        "//metrics",
    ] {
        for (method, headers) in [
            ("GET", ""),
            ("HEAD", ""),
            (
                "POST",
                "content-type: application/json\r\ncontent-length: 12\r\n\r\n{\"name\":\"x\"}",
            ),
        ] {
            let answer = raw(&fixture, &format!("{method} {target}"), headers).await;
            let is_refused = matches!(status_of(&answer), "400" | "401" | "404" | "405");
            assert!(is_refused && !answer.contains("mst_live_"), "{method} {target}: {answer}");
        }
    }
}
