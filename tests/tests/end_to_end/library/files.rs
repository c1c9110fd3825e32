//! Files that are pushed to hosts and pulled from them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use muster_tests::{
    Agent, Api, ApiResponse, FakeAgent, Fixture, JsonFields as _, needs_root, on_both_databases,
    sha256,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use super::agent_with_policy;

on_both_databases!(
    a_file_is_uploaded_in_parts_across_a_crash_pushed_and_pulled,
    another_tenant_gets_no_file,
    files_of_a_tenant_are_bounded_by_size,
);

async fn send(api: &Api, path: &str, offset: usize, bytes: &[u8]) -> ApiResponse {
    let headers = [("content-type", "application/octet-stream")];
    let path = format!("{path}/content?offset_bytes={offset}");
    let sent = api.try_send(Method::PUT, &path, &headers, Some(bytes.to_vec())).await;
    sent.expect("reach the server")
}

fn body(bytes: &[u8]) -> Value {
    json!({"name": "app.conf", "sha256": sha256(bytes), "bytes": bytes.len()})
}

/// Uploads a file and returns its path in the API.
async fn upload(api: &Api, bytes: &[u8]) -> String {
    let path = format!("/api/files/{}", api.post("/api/files", body(bytes)).await.expect(201).id());
    let complete = send(api, &path, 0, bytes).await.expect(200);
    assert_eq!(complete["is_complete"], true, "{complete}");
    path
}

/// A host with a folder that it lets the server write and read.
struct Host {
    agent: Agent,
    id: String,
    folder: PathBuf,
}

impl Host {
    async fn new(fixture: &Fixture, rules: Value) -> Self {
        let folder = fixture.test_dir.folder("allowed");
        let mut files = json!({"write": [&folder], "read": [&folder]});
        for (name, value) in rules.as_object().expect("an object") {
            files[name] = value.clone();
        }
        let (agent, id) = agent_with_policy(fixture, json!({ "files": files })).await;
        Self { agent, id, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn push(path: &Path, bytes: &[u8]) -> Value {
    json!({"script": "file:push", "file": {"path": path, "sha256": sha256(bytes)}})
}

fn pull(path: &Path) -> Value {
    json!({"script": "file:pull", "file": {"path": path}})
}

async fn run(fixture: &Fixture, agent: &str, data: Value) -> Value {
    let sent = fixture.api.try_execute(agent, data).await.expect(202);
    fixture.api.finished(sent.id()).await
}

async fn stream(api: &Api, id: &str, stream: &str) -> ApiResponse {
    api.get(&format!("/api/executions/{id}/output?stream={stream}")).await
}

async fn a_file_is_uploaded_in_parts_across_a_crash_pushed_and_pulled(mut fixture: Fixture) {
    let host = Host::new(&fixture, json!({"max_mode": "0755"})).await;
    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    let created = fixture.api.post("/api/files", body(&bytes)).await;
    let location = created.header("location").to_owned();
    let file = created.expect(201);
    let path = format!("/api/files/{}", file.id());
    assert_eq!(location, path);
    let half = bytes.len() / 2;
    let part = send(&fixture.api, &path, 0, &bytes[..half]).await.expect(200);
    assert_eq!((&part["received_bytes"], &part["is_complete"]), (&json!(half), &json!(false)));
    // Small parts: a refusal does not wait for a large body, which would end the connection.
    send(&fixture.api, &path, 0, &bytes[..9]).await.expect_problem(409, "wrong_offset");
    let waiting = fixture.api.try_execute(&host.id, push(&host.path("a"), &bytes)).await;
    waiting.expect_problem(422, "unknown_file");

    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    let again = fixture.api.post("/api/files", body(&bytes)).await.expect(200);
    assert_eq!((again.id(), &again["received_bytes"]), (file.id(), &json!(half)));
    let complete = send(&fixture.api, &path, half, &bytes[half..]).await.expect(200);
    assert_eq!(complete["is_complete"], true);
    send(&fixture.api, &path, 0, &bytes[..9]).await.expect_problem(409, "file_complete");
    let agent = fixture.api.get(&format!("/api/agents/{}", host.id)).await.expect(200);
    fixture.online(agent.text("key_id")).await;

    let mut data = push(&host.path("a"), &bytes);
    data["file"]["mode"] = "0750".into();
    let ended = run(&fixture, &host.id, data).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["data"]["file"]["bytes"], bytes.len());
    assert_eq!(fs::read(host.path("a")).expect("written"), bytes);
    let mode = fs::metadata(host.path("a")).expect("written").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert_eq!(fs::read_dir(&host.folder).expect("listed").count(), 1, "nothing else is left");
    // The host keeps no copy.
    let kept = host.agent.state_dir().join("executions").join(ended.id());
    assert!(!kept.join("archive").exists() && !kept.join("archive.part").exists());

    let pulled = run(&fixture, &host.id, pull(&host.path("a"))).await;
    assert_eq!(pulled["state"], "succeeded", "{pulled}");
    assert_eq!(stream(&fixture.api, pulled.id(), "stdout").await.bytes, bytes);
    let execution = fixture.api.get(&format!("/api/executions/{}", pulled.id())).await.expect(200);
    let attested = execution["attestation"]["document"].as_str().expect("attested");
    assert!(attested.contains(&sha256(&bytes)), "the agent signs the hash of the file: {attested}");
    let audit = fixture.api.get("/api/audit?action=command.submit").await.expect(200);
    let detail = &audit["items"][0]["detail"]["file"];
    assert_eq!(detail["operation"], "file:pull", "{audit}");
    assert_eq!(detail["file"]["path"], json!(host.path("a")));
    let audit = fixture.api.get("/api/audit?action=file.upload").await.expect(200);
    assert_eq!(audit["items"][0]["detail"]["sha256"], sha256(&bytes));
}

async fn another_tenant_gets_no_file(fixture: Fixture) {
    let path = upload(&fixture.api, b"secret").await;
    let other = fixture.other_tenant().await;
    other.get(&path).await.expect_problem(404, "not_found");
    other.delete(&path).await.expect_problem(404, "not_found");
    send(&other, &path, 0, b"secret").await.expect_problem(404, "not_found");
    assert_eq!(other.get("/api/files").await.expect(200).list("items").len(), 0);
    // An agent key of the tenant gets a file by its hash, and one of another tenant does not.
    let content = format!("/api/agents/files/{}", sha256(b"secret"));
    let (_, own_key) = fixture.api.agent_key(json!({})).await;
    let (_, other_key) = other.agent_key(json!({})).await;
    assert_eq!(fixture.api.with_key(&own_key).get(&content).await.bytes, b"secret");
    fixture.api.with_key(&other_key).get(&content).await.expect_problem(404, "not_found");
    // The hash of another tenant's file is refused.
    let job = json!({"target": {"expression": "all"}, "script": "file:push",
        "file": {"path": "/srv/a", "sha256": sha256(b"secret")}});
    let (_agent, _) = FakeAgent::registered_full(
        &fixture.server.address(),
        &other_key,
        json!({"capabilities": ["execute", "files"]}),
    )
    .await;
    other.post("/api/jobs", job).await.expect_problem(422, "unknown_file");
}

async fn files_of_a_tenant_are_bounded_by_size(fixture: Fixture) {
    let path = upload(&fixture.api, b"abc").await;
    let stored =
        fixture.server.data_dir().join("files").join(path.rsplit('/').next().expect("an id"));
    assert_eq!(fs::read(&stored).expect("stored"), b"abc");
    let eight_gib = 8_u64 * 1024 * 1024 * 1024;
    fixture.server.query(&format!("UPDATE uploaded_files SET size_bytes = {eight_gib} - 1"));
    fixture.api.post("/api/files", body(b"other")).await.expect_problem(409, "files_full");
    let large = json!({"name": "a", "sha256": sha256(b"x"), "bytes": 1024_u64 * 1024 * 1024 + 1});
    fixture.api.post("/api/files", large).await.expect_problem(422, "invalid_field");
    fixture.server.query("UPDATE uploaded_files SET size_bytes = 3");
    fixture.api.delete(&path).await.expect(204);
    assert!(!stored.exists());
}

#[tokio::test]
async fn a_file_with_another_hash_is_never_stored_or_written() {
    let fixture = Fixture::on_sqlite().await;
    let host = Host::new(&fixture, json!({})).await;
    let path = format!(
        "/api/files/{}",
        fixture.api.post("/api/files", body(b"good")).await.expect(201).id()
    );
    send(&fixture.api, &path, 0, b"evil").await.expect_problem(422, "hash_mismatch");
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    let path = format!(
        "/api/files/{}",
        fixture.api.post("/api/files", body(b"good")).await.expect(201).id()
    );
    send(&fixture.api, &path, 0, b"goods").await.expect(422);
    send(&fixture.api, &path, 0, b"good").await.expect(200);
    // A person who can write the server's disk replaces it by another one of the same size.
    let stored =
        fixture.server.data_dir().join("files").join(path.rsplit('/').next().expect("an id"));
    fs::write(&stored, "evil").expect("written");
    fs::write(host.path("a"), "before").expect("written");
    let ended = run(&fixture, &host.id, push(&host.path("a"), b"good")).await;
    let expected = (&json!("rejected"), &json!("hash_mismatch"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected, "{ended}");
    assert_eq!(fs::read(host.path("a")).expect("there"), b"before");
    fixture.api.delete(&path).await.expect(204);
    let ended = fixture.api.try_execute(&host.id, push(&host.path("a"), b"good")).await;
    ended.expect_problem(422, "unknown_file");
}

#[tokio::test]
async fn a_host_transfers_only_what_its_policy_lists() {
    let fixture = Fixture::on_sqlite().await;
    let host = Host::new(&fixture, json!({"max_bytes": 6})).await;
    let outside = fixture.test_dir.folder("outside");
    fs::write(outside.join("secret"), "secret").expect("written");
    symlink(&outside, host.path("link")).expect("linked");
    symlink(outside.join("secret"), host.path("file")).expect("linked");
    for bytes in [&b"small"[..], b"larger!"] {
        upload(&fixture.api, bytes).await;
    }
    let with = |field: &str, value: &str| {
        let mut data = push(&host.path("a"), b"small");
        data["file"][field] = value.into();
        data
    };
    for (data, state, code) in [
        (push(&outside.join("a"), b"small"), "rejected", "path_not_allowed"),
        (pull(&outside.join("secret")), "rejected", "path_not_allowed"),
        (push(&host.path("a"), b"larger!"), "rejected", "file_too_large"),
        (with("mode", "0755"), "rejected", "mode_not_allowed"),
        (with("owner", "root"), "rejected", "owner_not_allowed"),
        (push(&host.path("link/a"), b"small"), "failed", "exit_code"),
        (push(&host.path("file"), b"small"), "failed", "exit_code"),
        (pull(&host.path("link/secret")), "failed", "exit_code"),
        (pull(&host.path("file")), "failed", "exit_code"),
    ] {
        let ended = run(&fixture, &host.id, data.clone()).await;
        assert_eq!(ended["state"], state, "{data}: {ended}");
        assert_eq!(ended["error_code"].as_str().unwrap_or_default(), code, "{data}: {ended}");
        let output = stream(&fixture.api, ended.id(), "stdout").await.bytes;
        assert_eq!(output, b"", "{data}");
    }
    assert_eq!(fs::read(outside.join("secret")).expect("there"), b"secret");
    assert_eq!(fs::read_dir(&outside).expect("listed").count(), 1);
    assert!(!host.path("a").exists());
    let ended = run(&fixture, &host.id, pull(&host.path("link/secret"))).await;
    let why = String::from_utf8(stream(&fixture.api, ended.id(), "stderr").await.bytes);
    assert!(why.as_ref().is_ok_and(|why| why.contains("follow no links")), "{why:?}");

    // Neither `..` nor a setuid bit gets to the host.
    for (field, value) in [("path", "/srv/../etc/passwd"), ("mode", "4755"), ("owner", "a b")] {
        fixture
            .api
            .try_execute(&host.id, with(field, value))
            .await
            .expect_problem(422, "invalid_field");
    }
    for policy in ["{}", r#"{"allow": "shell"}"#] {
        host.agent.write_policy(policy);
        let ended = run(&fixture, &host.id, with("mode", "0600")).await;
        let expected = (&json!("rejected"), &json!("files_not_allowed"));
        assert_eq!((&ended["state"], &ended["error_code"]), expected, "{policy}");
        assert!(!host.path("a").exists());
    }
}

#[tokio::test]
async fn the_owner_of_a_pushed_file_is_one_that_the_policy_names() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let host = Host::new(&fixture, json!({"owners": ["nobody"]})).await;
    upload(&fixture.api, b"new").await;
    let mut data = push(&host.path("a"), b"new");
    data["file"]["owner"] = "nobody".into();
    assert_eq!(run(&fixture, &host.id, data).await["state"], "succeeded");
    let owner = fs::metadata(host.path("a")).expect("written").uid();
    assert_ne!(owner, 0);
    // A later push without an owner leaves the file to its user.
    upload(&fixture.api, b"newer").await;
    let ended = run(&fixture, &host.id, push(&host.path("a"), b"newer")).await;
    assert_eq!(ended["state"], "succeeded");
    assert_eq!(fs::metadata(host.path("a")).expect("written").uid(), owner);
}

#[tokio::test]
async fn transfers_need_scopes_of_their_own_and_wait_for_approvals() {
    let fixture = Fixture::on_sqlite().await;
    let host = Host::new(&fixture, json!({})).await;
    upload(&fixture.api, b"new").await;
    fs::write(host.path("log"), "content").expect("written");
    let pulled = run(&fixture, &host.id, pull(&host.path("log"))).await;
    let key = async |scopes: Value| {
        let key = json!({"name": scopes.to_string(), "role": "owner", "scopes": scopes});
        fixture.api.with_key(fixture.api.post("/api/keys", key).await.expect(201).text("key"))
    };
    let runner = key(json!(["commands:run", "commands:read", "commands:shell"])).await;
    let push_one = push(&host.path("a"), b"new");
    runner.post("/api/files", body(b"x")).await.expect_problem(403, "missing_scope");
    runner.try_execute(&host.id, push_one.clone()).await.expect_problem(403, "missing_scope");
    runner
        .try_execute(&host.id, pull(&host.path("log")))
        .await
        .expect_problem(403, "missing_scope");
    let mut job = push_one.clone();
    job["target"] = json!({"ids": [host.id]});
    runner.post("/api/jobs", job.clone()).await.expect_problem(403, "missing_scope");
    // Who may read output may not read files.
    for path in ["commands", "executions"] {
        let path = format!("/api/{path}/{}/output", pulled.id());
        runner.get(&path).await.expect_problem(403, "missing_scope");
    }
    for part in ["live", "search?q=content", "times"] {
        let path = format!("/api/executions/{}/output/{part}", pulled.id());
        runner.get(&path).await.expect_problem(403, "missing_scope");
    }
    let reader = key(json!(["commands:read", "files:read"])).await;
    assert_eq!(stream(&reader, pulled.id(), "stdout").await.bytes, b"content");

    // A key that is bound to other scripts, and a rule about pushes.
    let bound = json!({"name": "bound", "role": "owner", "scripts": ["deploy"]});
    let bound = fixture.api.post("/api/keys", bound).await.expect(201);
    let bound = fixture.api.with_key(bound.text("key"));
    bound.try_execute(&host.id, push_one.clone()).await.expect_problem(403, "script_not_in_key");
    let rule = json!({"name": "files", "scripts": ["file:push"]});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    let held = fixture.api.try_execute(&host.id, push_one).await.expect(202);
    assert_eq!(held["approval"]["state"], "pending", "{held}");
    fixture.api.post("/api/jobs", job).await.expect(202);
    assert_eq!(run(&fixture, &host.id, pull(&host.path("log"))).await["state"], "succeeded");
    assert!(!host.path("a").exists());
}

#[tokio::test]
async fn an_agent_that_is_too_old_gets_no_transfer() {
    let fixture = Fixture::on_sqlite().await;
    let (_, key) = fixture.api.agent_key(json!({})).await;
    let registration = json!({"capabilities": ["execute", "packages"]});
    let (_agent, registered) =
        FakeAgent::registered_full(&fixture.server.address(), &key, registration).await;
    upload(&fixture.api, b"new").await;
    let agent = registered["data"]["agent_id"].as_str().or(registered["agent_id"].as_str());
    let agent = agent.expect("an id").to_owned();
    let data = push(Path::new("/srv/a"), b"new");
    fixture.api.try_execute(&agent, data).await.expect_problem(409, "files_unsupported");
}

#[tokio::test]
async fn a_killed_agent_or_shim_never_leaves_half_a_file() {
    let fixture = Fixture::on_sqlite().await;
    let mut host = Host::new(&fixture, json!({})).await;
    let large: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    upload(&fixture.api, &large).await;
    fs::write(host.path("a"), "before").expect("written");
    let sent = fixture.api.try_execute(&host.id, push(&host.path("a"), &large)).await.expect(202);
    host.agent.kill_9();
    let found = fs::read(host.path("a")).expect("there");
    assert!(found == large || found == b"before", "half a file of {} bytes", found.len());
    host.agent.resume();
    let ended = fixture.api.finished(sent.id()).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(fs::read(host.path("a")).expect("there"), large);

    fs::write(host.path("a"), "before").expect("written");
    let sent = fixture.api.try_execute(&host.id, push(&host.path("a"), &large)).await.expect(202);
    muster_tests::eventually("it starts", async || {
        let command = fixture.api.command(sent.id()).await;
        (!matches!(command["state"].as_str(), Some("queued" | "delivered"))).then_some(())
    })
    .await;
    for shim in host.agent.shim_ids() {
        // It may have ended.
        let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
    }
    let ended = fixture.api.finished(sent.id()).await;
    assert!(["succeeded", "lost"].contains(&ended.text("state")), "{ended}");
    let found = fs::read(host.path("a")).expect("there");
    assert!(found == large || found == b"before", "half a file of {} bytes", found.len());
    let names = fs::read_dir(&host.folder).expect("listed").count();
    assert_eq!(names, 1, "nothing is left beside it");
}

#[tokio::test]
async fn the_command_line_pushes_and_pulls() {
    let fixture = Fixture::on_sqlite().await;
    let host = Host::new(&fixture, json!({})).await;
    let cli = fixture.cli().await;
    let name = fixture.api.get(&format!("/api/agents/{}", host.id)).await.expect(200);
    let name = name.text("name").to_owned();
    let local = fixture.test_dir.path().join("local.conf");
    let bytes: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&local, &bytes).expect("written");
    let (local, target) = (local.display().to_string(), host.path("a").display().to_string());
    let place = format!("{name}:{target}");
    cli.run(&["push", &local, &place]).await.expect(0);
    assert_eq!(fs::read(&target).expect("written"), bytes);
    cli.run(&["push", &local, "--on", "all", &target, "--mode", "0600"]).await.expect(0);
    assert_eq!(fs::metadata(&target).expect("written").permissions().mode() & 0o7777, 0o600);
    let listed = cli.run(&["files", "--json"]).await.json();
    assert_eq!(listed["items"][0]["name"], "local.conf");

    let copy = fixture.test_dir.path().join("copy.conf").display().to_string();
    let answer = cli.run(&["pull", &place, &copy, "--json"]).await.json();
    assert_eq!(answer["sha256"], sha256(&bytes));
    assert_eq!(fs::read(&copy).expect("written"), bytes);
    cli.run(&["pull", &place, &copy]).await.expect(2);
    // The same execution again, after an interruption in the middle.
    let id = answer["id"].as_str().expect("an id");
    fs::remove_file(&copy).expect("removed");
    let partial = fixture.test_dir.path().join(format!(".copy.conf.{id}.part"));
    fs::write(&partial, &bytes[..1_000_000]).expect("written");
    cli.run(&["pull", "--resume", id, &copy]).await.expect(0);
    assert_eq!(fs::read(&copy).expect("written"), bytes);
    // A part that is damaged is noticed.
    fs::write(&partial, vec![1; 1_000_000]).expect("written");
    fs::remove_file(&copy).expect("removed");
    cli.run(&["pull", "--resume", id, &copy]).await.expect(1);
    assert!(!partial.exists() && !Path::new(&copy).exists());
    let missing = format!("{name}:{}", host.path("none").display());
    cli.run(&["pull", &missing, &copy]).await.expect(1);
    assert!(!Path::new(&copy).exists());
    cli.run(&["push", &local, &format!("{name}:/etc/passwd")]).await.expect(1);
    cli.run(&["push", &local, &name]).await.expect(2);
}
