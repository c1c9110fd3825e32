//! Invalid input: one line that says what to do, and no change on the host.

use muster_tests::{JsonFields as _, Manager};
use serde_json::json;

use super::{DEPLOY, NewHost, complaint, new_files};

#[tokio::test]
async fn invalid_installation_is_refused_in_one_line_and_leaves_no_files() {
    let new_host = NewHost::on(Manager::Bare).await;
    let (host, api, key) = (&new_host.host, &new_host.fixture.api, &new_host.key);
    let (disabled_id, disabled) = api.agent_key(json!({})).await;
    api.patch(&format!("/api/agents/keys/{disabled_id}"), json!({"status": "disabled"}))
        .await
        .expect(200);
    let (deleted_id, deleted) = api.agent_key(json!({})).await;
    api.delete(&format!("/api/agents/keys/{deleted_id}")).await.expect(204);
    let unknown = format!("mst_agent_{}", "0".repeat(64));
    let url = new_host.fixture.server.url();
    let before = host.changes();

    let short = "--key mst_agent_abc".to_owned();
    let with_key = |words: &str| format!("--key {key} {words}");
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "no key: create one with 'muster keys create NAME'"),
        ("--key".into(), "--key needs a value"),
        ("--kye x".into(), "unknown option '--kye'"),
        (short, "too short"),
        ("--key hello".into(), "starts with mst_agent_"),
        (format!("--key {}", api.key()), "this is an API key"),
        (format!("--key '{key}$(id)'"), "invalid characters"),
        ("--key-file /nowhere".into(), "can't be read"),
        (format!("--key {unknown}"), "key"),
        (format!("--key {disabled}"), "disabled"),
        (format!("--key {deleted}"), "key"),
        (with_key("--server http://192.0.2.1"), "not encrypted"),
        (with_key("--server ws://muster.invalid"), "not encrypted"),
        (with_key("--server http://127.evil.example"), "not encrypted"),
        (with_key("--server ftp://x"), "https:// or wss://"),
        (with_key("--server muster.example"), "https:// or wss://"),
        (with_key("--server https://muster.invalid"), "can't be resolved"),
        (with_key("--server http://127.0.0.1:1"), "can't be reached"),
        (with_key(&format!("--server {}", url.replace("http:", "https:"))), "speaks plain http"),
        (with_key(&format!("--server {url}/nothing")), "check the address"),
        (with_key("--allow everything"), "manifest, library or shell"),
        (
            with_key("--forbid execute"),
            "restart, update, redeploy, shutdown, rekey, services or none",
        ),
        (with_key("--version 9.9.9"), "version 9.9.9 is not available"),
        (with_key("--ca /etc/passwd"), "no certificate"),
        (with_key("--from /nowhere"), "has no muster-agent"),
        (with_key("--run-as nobody-here"), "there is no user nobody-here"),
        (with_key("--dir '/srv/a b'"), "characters"),
        (with_key("--status"), "takes no key"),
        ("--status --stop".into(), "can't be combined"),
        ("--status".into(), "no agent is installed"),
        ("--logs".into(), "no agent is installed"),
        ("--stop".into(), "no agent is installed"),
        ("--uninstall".into(), "no agent is installed"),
        ("--update".into(), "no agent is installed"),
        ("--logs --privileged".into(), "are for installing"),
        ("--stop --cap-add NET_RAW".into(), "are for installing"),
        ("--stop --name web-1".into(), "are for installing"),
        (with_key("--tag 'a tag'"), "--tag takes 1 to 64 letters"),
        (with_key("--name \"o'neill\""), "--name takes no quotes"),
    ];
    let mut wrong = Vec::new();
    for (words, expected) in cases {
        let said = host.run(&new_host.line(&words)).await;
        let line = complaint(&said);
        let left = new_files(&before, &host.changes());
        let is_one_line = said.stderr.trim_end().lines().count() == 1;
        if said.code == Some(0) || !line.contains(expected) || !is_one_line || !left.is_empty() {
            wrong.push(format!("{words}: {:?}\n  {}\n  left {left:?}", said.code, said.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(new_host.fixture.api.get("/api/agents").await.expect(200)["items"] == json!([]));
}

#[tokio::test]
async fn unsupported_host_is_refused_in_one_line() {
    let new_host = NewHost::on(Manager::Bare).await;
    let (host, key) = (&new_host.host, &new_host.key);
    host.run("useradd --create-home ada").await.expect(0);
    let refused = host.run_as("ada", &new_host.line(&format!("--key {key}"))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("--user"), "{}", refused.stderr);

    // Another processor, another system.
    for (fake, expected) in [
        ("case $1 in -m) echo sparc64;; *) echo Linux;; esac", "no agent for linux-sparc64"),
        ("case $1 in -m) echo x86_64;; *) echo FreeBSD;; esac", "no agent for FreeBSD"),
    ] {
        let make = format!(
            "mkdir -p /usr/local/bin && printf '#!/bin/sh\\n%s\\n' '{fake}' >/usr/local/bin/uname && chmod 755 /usr/local/bin/uname"
        );
        host.run(&make).await.expect(0);
        let refused = host.run(&new_host.line(&format!("--key {key}"))).await;
        refused.expect(1);
        assert!(complaint(&refused).contains(expected), "{}", refused.stderr);
    }
    host.run("rm /usr/local/bin/uname").await.expect(0);

    host.run("mkdir -p /opt/muster && mount -t tmpfs -o size=20m,mode=755 tmpfs /opt/muster")
        .await
        .expect(0);
    let refused = host.run(&new_host.line(&format!("--key {key}"))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("MiB are free"), "{}", refused.stderr);
    host.run("umount /opt/muster && rm -rf /opt/muster").await.expect(0);

    // A file of another program is there.
    host.run("mkdir -p /opt/muster && echo mine >/opt/muster/notes").await.expect(0);
    let refused = host.run(&new_host.line(&format!("--key {key}"))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("contains other files"), "{}", refused.stderr);
    assert_eq!(host.run("cat /opt/muster/notes").await.expect(0), "mine\n");
}

#[tokio::test]
async fn another_key_or_server_replaces_the_first_only_with_a_flag() {
    let new_host = NewHost::on(Manager::Bare).await;
    let agent = new_host.install().await;
    let tags = json!({"name": "shop", "tags": ["eu"]});
    new_host.fixture.api.patch(&format!("/api/agents/{}", agent.id()), tags).await.expect(200);
    let (other_id, other) = new_host.fixture.api.agent_key(json!({})).await;
    let refused = new_host.host.run(&format!("{DEPLOY} --key {other}")).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("--yes"), "{}", refused.stderr);
    new_host.fixture.online(&new_host.key_id).await;
    new_host.host.run(&format!("{DEPLOY} --yes --key {other}")).await.expect(0);
    // It is the agent that it was, with its history, name and tags.
    let after = new_host.fixture.online(&other_id).await;
    assert_eq!(
        (after.id(), &after["name"], &after["tags"]),
        (agent.id(), &json!("shop"), &json!(["eu"]))
    );
    let all = new_host.fixture.api.get("/api/agents").await.expect(200);
    assert_eq!(all.list("items").len(), 1, "{all}");
}

#[tokio::test]
async fn program_altered_in_transit_is_not_installed() {
    let new_host = NewHost::on(Manager::Bare).await;
    // A curl that adds a byte to each download.
    let curl = "#!/bin/sh\n/usr/bin/curl \"$@\" || exit\nwhile [ $# -gt 0 ]; do case $1 in -o) case $2 in */muster-agent) echo >>\"$2\";; esac;; esac; shift; done\n";
    std::fs::write(new_host.host.file("/usr/local/bin/curl"), curl).expect("written");
    new_host.host.run("chmod 755 /usr/local/bin/curl").await.expect(0);
    let refused = new_host.host.run(&new_host.line(&format!("--key {}", new_host.key))).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("checksum"), "{}", refused.stderr);
    new_host.host.run("test ! -e /opt/muster").await.expect(0);
}

#[tokio::test]
async fn environment_of_the_installing_user_is_not_passed_to_the_agent() {
    let new_host = NewHost::on(Manager::Bare).await;
    let line = new_host.line(&format!("--key {}", new_host.key));
    let set =
        format!("export MUSTER_API_KEY={} MUSTER_HTTP_FALLBACK=only", new_host.fixture.api.key());
    new_host.host.run(&format!("{set}; {line}")).await.expect(0);
    let agent = new_host.fixture.online(&new_host.key_id).await;
    assert_eq!(agent["transport"], "websocket", "{agent}");
    new_host
        .host
        .run("! cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -q '^MUSTER_API_KEY=.*live'")
        .await;
}

#[tokio::test]
async fn wget_replaces_curl_and_the_key_may_come_from_stdin() {
    let new_host = NewHost::on(Manager::Bare).await;
    let url = new_host.fixture.server.url();
    let line = format!(
        "wget -q -O /tmp/deploy.sh {url}/install/deploy.sh && mv /usr/bin/curl /usr/bin/curl.away && echo {} | sh /tmp/deploy.sh --key-file -",
        new_host.key
    );
    new_host.host.run(&line).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
}
