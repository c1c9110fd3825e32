//! Releases on the server: what publishers may upload, and what everyone may download.

use std::fs;

use muster_protocol::release::{Platform, Program};
use muster_tests::{Fixture, JsonFields as _, Publisher, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{host, runs};

async fn fetch(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let nobody = fixture.api.with_key("");
    let answer = nobody.try_send(Method::GET, path, headers, None).await.expect("reached");
    (answer.status, answer.bytes)
}

#[tokio::test]
async fn only_published_releases_are_served() {
    let fixture = Fixture::on_postgres().await;
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let descriptor = "/install/releases/0.2.0/release.json";
    let program = format!("/install/releases/0.2.0/{platform}/muster-supervisor");

    let draft = json!({
        "manifest": fs::read_to_string(folder.join("release.json")).expect("read"),
        "signature": fs::read_to_string(folder.join("release.sig")).expect("read"),
    });
    fixture.api.post("/api/releases", draft.clone()).await.expect(201);
    fixture.api.post("/api/releases", draft).await.expect(201);
    let publish = "/api/releases/0.2.0/publish";
    fixture.api.post(publish, json!({})).await.expect_problem(409, "incomplete_release");
    let upload = format!("/api/releases/0.2.0/{platform}/muster-agent");
    for (body, code) in [(b"short".to_vec(), "wrong_size"), (vec![0; 300_000_000], "wrong_size")] {
        let sent = fixture.api.try_send(Method::PUT, &upload, &[], Some(body)).await;
        // A request that is far too long may be cut off before it is sent completely.
        if let Ok(answer) = sent {
            answer.expect_problem(422, code);
        }
    }
    assert_eq!(fetch(&fixture, descriptor, &[]).await.0, 404);
    assert_eq!(fetch(&fixture, &program, &[]).await.0, 404);

    let shown = publisher.publish("0.2.0").await.json();
    assert_eq!((&shown["state"], &shown["floor"]), (&json!("published"), &json!("0.1.0")));
    assert_eq!(shown["key_fingerprint"], publisher.fingerprint());
    let written = fs::read(folder.join("release.json")).expect("read");
    assert_eq!(fetch(&fixture, descriptor, &[]).await, (200, written));
    let whole = fs::read(folder.join(&platform).join(Program::Supervisor.file_name()));
    let rest = whole.expect("read")[1_000..].to_vec();
    assert!(fetch(&fixture, &program, &[("range", "bytes=1000-")]).await == (206, rest));
    let first = format!("/install/{platform}/SHA256SUMS");
    let sums = String::from_utf8(fetch(&fixture, &first, &[]).await.1).expect("text");
    assert!(sums.contains(shown_sum(&fixture, "muster-agent").await.as_str()), "{sums}");

    publisher.cli.run(&["release", "withdraw", "0.2.0"]).await.expect(0);
    assert_eq!(fetch(&fixture, descriptor, &[]).await.0, 404);
    assert_eq!(fetch(&fixture, &program, &[]).await.0, 404);
    for odd in ["/install/releases/../release.json", "/install/releases/0.2/release.sig"] {
        assert_eq!(fetch(&fixture, odd, &[]).await.0, 404, "{odd}");
    }
    let listed = publisher.cli.run(&["release", "list"]).await.expect(0);
    assert!(listed.contains("withdrawn"), "{listed}");
}

async fn shown_sum(fixture: &Fixture, name: &str) -> String {
    let shown = fixture.api.get("/api/releases/0.2.0").await.expect(200);
    let programs = shown.list("programs").clone();
    let program: Value = programs.into_iter().find(|one| one["name"] == name).expect("there");
    assert_eq!(program["is_uploaded"], true);
    program.text("sha256").to_owned()
}

#[tokio::test]
async fn only_a_publishing_key_can_publish() {
    let fixture = Fixture::on_sqlite().await;
    let body = |scopes: Value| json!({"name": "key", "role": "owner", "scopes": scopes});
    let made = async |body: Value| {
        let made = fixture.api.post("/api/keys", body).await.expect(201);
        fixture.api.with_key(made.text("key"))
    };
    let draft = json!({"manifest": "{}", "signature": "{}"});
    let plain = made(json!({"name": "key", "role": "owner"})).await;
    plain.post("/api/releases", draft.clone()).await.expect_problem(403, "missing_scope");
    let named = made(body(json!(["releases:manage"]))).await;
    named.post("/api/releases", draft).await.expect_problem(422, "invalid_release");
    // Of the keys that can grant the right, one always remains.
    let keys = fixture.api.get("/api/keys").await.expect(200);
    let first = keys["items"][0].id().to_owned();
    let first = format!("/api/keys/{first}");
    fixture.api.delete(&first).await.expect_problem(409, "last_publisher");
    let heir = made(body(json!(["api_keys:read", "api_keys:write", "releases:manage"]))).await;
    // It could not have created the first key, which has every scope.
    heir.delete(&first).await.expect_problem(403, "key_not_held");
    fixture.api.delete(&first).await.expect(200);
}

#[tokio::test]
async fn withdrawn_draft_keeps_no_programs_and_can_be_uploaded_again() {
    let fixture = Fixture::on_postgres().await;
    let publisher = Publisher::new(&fixture).await;
    let folder = publisher.make("0.2.0", "0.1.0").await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let draft = json!({
        "manifest": fs::read_to_string(folder.join("release.json")).expect("read"),
        "signature": fs::read_to_string(folder.join("release.sig")).expect("read"),
    });
    fixture.api.post("/api/releases", draft).await.expect(201);
    let upload = format!("/api/releases/0.2.0/{platform}/muster-agent");
    let program = fs::read(folder.join(&platform).join("muster-agent")).expect("read");
    let put = async || {
        let sent = fixture.api.try_send(Method::PUT, &upload, &[], Some(program.clone())).await;
        sent.expect("reached")
    };
    put().await.expect(204);
    let kept = fixture.server.data_dir().join("releases/0.2.0");
    assert!(kept.exists());
    for _ in 0..2 {
        fixture.api.post("/api/releases/0.2.0/withdraw", json!({})).await.expect(200);
        assert!(!kept.exists());
    }
    let late = fixture.api.try_send(Method::PUT, &upload, &[], Some(b"short".to_vec())).await;
    late.expect("reached").expect_problem(409, "release_changed");
    assert!(!kept.exists());
    let shown = publisher.publish("0.2.0").await.json();
    assert_eq!(shown["state"], "published", "{shown}");
    fixture.api.post("/api/releases/0.2.0/withdraw", json!({})).await.expect(200);
    assert!(kept.exists(), "it can be published again");
}

#[tokio::test]
async fn late_upload_overwrites_no_newer_one() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let platform = Platform::own().expect("a platform with releases").to_string();
    let old = publisher.make("0.2.0", "0.1.0").await;
    let read = |name: &str| fs::read(old.join(name)).expect("read");
    let text = |name: &str| String::from_utf8(read(name)).expect("text");
    let draft = json!({"manifest": text("release.json"), "signature": text("release.sig")});
    fixture.api.post("/api/releases", draft).await.expect(201);

    let program = read(&format!("{platform}/muster-agent"));
    let (begun, rest) = program.split_at(1_000);
    let mut socket = TcpStream::connect(fixture.server.address()).await.expect("connect");
    let head = format!(
        "PUT /api/releases/0.2.0/{platform}/muster-agent HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        fixture.api.key(),
        program.len()
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(begun).await.expect("sent");
    let folder = fixture.server.data_dir().join("releases/0.2.0").join(&platform);
    eventually("the upload has begun", async || folder.exists().then_some(())).await;

    // Another descriptor of the version replaces it and is published.
    fs::remove_dir_all(&old).expect("removed");
    let other = publisher.make("0.2.0", "0.2.0").await;
    publisher.publish("0.2.0").await.expect(0);
    let placed = folder.join("muster-agent");
    let before = fs::metadata(&placed).expect("placed").modified().expect("known");
    socket.write_all(rest).await.expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains("409") && answer.contains("release_changed"), "{answer}");
    assert_eq!(fs::metadata(&placed).expect("placed").modified().expect("known"), before);
    assert!(
        fs::read(other.join(&platform).join("muster-agent")).expect("read")
            == fs::read(placed).expect("read")
    );
}

#[tokio::test]
async fn hosts_accept_a_key_handover_and_the_server_refuses_other_keys() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    let (_agent, id, _) = host(&fixture, &publisher, "host", "0.1.0").await;
    publisher.make_key("next").await;
    publisher.make("0.2.0", "0.0.0").await;
    publisher.sign("0.2.0", "next").await.expect(0);
    let refused = publisher.publish("0.2.0").await;
    refused.expect(1);
    assert!(refused.stderr.contains("no key change connects them"), "{}", refused.stderr);

    let text = |name: &str| publisher.key(name).to_str().expect("plain text").to_owned();
    let (old, new) = (text("key"), text("next"));
    let backwards = ["release", "rotate-key", "--key", &new, "--new", &old];
    publisher.cli.run(&backwards).await.expect(1);
    for _ in 0..2 {
        let rotate = ["release", "rotate-key", "--key", &old, "--new", &new];
        publisher.cli.run(&rotate).await.expect(0);
    }
    publisher.publish("0.2.0").await.expect(0);
    let update = super::ask(&fixture, &id, "update", json!({})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.2.0").await;
}
