//! The files that the server offers for installation.

use std::fs;

use muster_tests::{Fixture, JsonFields as _, ServerOptions, binary, sha256};
use reqwest::Method;
use serde_json::json;

async fn text(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> String {
    let answer = fixture.api.try_send(Method::GET, path, headers, None).await.expect("an answer");
    assert_eq!(answer.status, 200, "{path}");
    String::from_utf8(answer.bytes).expect("text")
}

#[tokio::test]
async fn page_and_script_name_the_requested_server_address() {
    let fixture = Fixture::on_sqlite().await;
    let page = text(&fixture, "/install", &[]).await;
    assert!(
        page.contains(&format!("curl -fsSL {}/install/deploy.sh | sudo sh", fixture.server.url()))
    );
    assert!(!page.contains("--insecure"), "{page}");
    let made = fixture.api.post("/api/agents/keys", json!({"name": "web"})).await.expect(201);
    let line = made.text("install_line");
    assert!(line.starts_with(&format!("curl -fsSL {}/install", fixture.server.url())), "{line}");
    let script = text(&fixture, "/install/deploy.sh", &[]).await;
    assert!(script.contains(&format!("\nserver_default='{}'\n", fixture.server.url())));

    let behind = [("host", "muster.example"), ("x-forwarded-proto", "https")];
    let script = text(&fixture, "/install/deploy.sh", &behind).await;
    assert!(script.contains("\nserver_default='https://muster.example'\n"));
    let page = text(&fixture, "/install", &behind).await;
    let line = "curl --proto &#39;=https&#39; --proto-redir &#39;=https&#39; -fsSL https://muster.example/install/deploy.sh | sudo sh";
    assert!(page.contains(line), "{page}");
    for host in ["a'b", "$(id)", "a b", "<script>"] {
        let answer =
            fixture.api.try_send(Method::GET, "/install/deploy.sh", &[("host", host)], None).await;
        answer.expect("an answer").expect_problem(400, "unknown_host");
    }
}

#[tokio::test]
async fn plain_address_of_another_host_gets_advice_and_no_install_line() {
    let fixture = Fixture::on_sqlite().await;
    let outside = [("host", "muster.example")];
    let page = text(&fixture, "/install", &outside).await;
    assert!(!page.contains("--insecure") && !page.contains("http://muster.example/install"));
    assert!(page.contains("--public-url") && page.contains("MUSTER_PUBLIC_URL"), "{page}");
    let body = Some(json!({"name": "web"}).to_string().into_bytes());
    let made = fixture.api.try_send(Method::POST, "/api/agents/keys", &outside, body).await;
    assert_eq!(made.expect("an answer").expect(201)["install_line"], json!(null));
}

#[tokio::test]
async fn configured_address_overrides_the_host_header() {
    let options =
        ServerOptions::default().with("MUSTER_PUBLIC_URL", "https://fleet.example/muster/");
    let fixture = Fixture::with(options).await;
    let script = text(&fixture, "/install/deploy.sh", &[]).await;
    assert!(script.contains("\nserver_default='https://fleet.example/muster'\n"));
    let made = fixture.api.post("/api/agents/keys", json!({"name": "web"})).await.expect(201);
    let key = made.text("key");
    let line = format!(
        "curl --proto '=https' --proto-redir '=https' -fsSL https://fleet.example/muster/install/deploy.sh | sudo sh -s -- --key {key}"
    );
    assert_eq!(made["install_line"], line.as_str());
}

#[tokio::test]
async fn programs_and_checksums_are_served_for_every_platform() {
    let placed = tempfile::tempdir().expect("a folder");
    let folder = placed.path().join("linux-riscv64");
    fs::create_dir(&folder).expect("made");
    for name in ["muster-agent", "muster-supervisor"] {
        fs::write(folder.join(name), format!("{name} for another processor")).expect("written");
    }
    fs::write(folder.join("secret"), "secret").expect("written");
    let options = ServerOptions::default().with("MUSTER_INSTALL_DIR", placed.path().display());
    let fixture = Fixture::with(options).await;

    let sums = text(&fixture, "/install/linux-riscv64/SHA256SUMS", &[]).await;
    let agent = text(&fixture, "/install/linux-riscv64/muster-agent", &[]).await;
    assert_eq!(agent, "muster-agent for another processor");
    assert!(sums.contains(&format!("{}  muster-agent\n", sha256(agent.as_bytes()))), "{sums}");

    // The programs for this server's own platform are those beside its program.
    let own = format!("/install/{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let sums = text(&fixture, &format!("{own}/SHA256SUMS"), &[]).await;
    let program = fs::read(binary("muster-agent")).expect("the program");
    assert!(sums.contains(&sha256(&program)), "{sums}");
    let part = [("range", "bytes=0-3")];
    let answer =
        fixture.api.try_send(Method::GET, &format!("{own}/muster-agent"), &part, None).await;
    assert_eq!(answer.expect("an answer").bytes, program[..4]);

    for path in [
        "/install/linux-riscv64/secret",
        "/install/linux-riscv64/..%2f..%2fetc%2fpasswd",
        "/install/..%2flinux-riscv64/muster-agent",
        "/install/linux-s390x/muster-agent",
        "/install/linux-s390x/SHA256SUMS",
        "/install/plan9-x86_64/muster-agent",
    ] {
        let answer = fixture.api.get(path).await;
        answer.expect_problem(404, "not_found");
    }
    let answer = fixture.api.post("/install/deploy.sh", json!({})).await;
    answer.expect_problem(405, "method_not_allowed");
}
