//! Hosts that pin publishers run a package, a task or a service only with the signature of one of them, even
//! if the server and its database ask for it.

use std::fs;
use std::path::Path;

use muster_tests::{Fixture, JsonFields as _, eventually, on_both_databases};
use serde_json::{Value, json};

use super::publishers::{Pinned, keygen, pinned, refused};
use super::{create, output};

on_both_databases!(
    a_host_runs_packages_that_its_publisher_signed_and_nothing_else,
    tasks_and_services_of_a_host_with_publishers_run_only_if_they_are_signed,
);

/// Writes the publisher's own folder of a package with this program.
pub fn own_package(
    fixture: &Fixture,
    name: &str,
    version: &str,
    program: &str,
    kind: &str,
) -> String {
    let folder = fixture.test_dir.path().join("packages").join(format!("{name}-{version}"));
    fs::create_dir_all(&folder).expect("created");
    let description = format!(
        "name = \"{name}\"\nversion = \"{version}\"\nexecutor = \"sh\"\nentry = \"run.sh\"\n{kind}\n"
    );
    fs::write(folder.join("muster.toml"), description).expect("written");
    fs::write(folder.join("run.sh"), program).expect("written");
    folder.to_str().expect("text").to_owned()
}

const JOB: &str = "kind = \"job\"";

pub async fn push(fixture: &Fixture, folder: &str) {
    fixture.cli().await.run(&["packages", "push", folder]).await.expect(0);
}

pub(super) async fn sign(fixture: &Fixture, folder: &str, key: &Path, more: &[&str]) {
    let mut args = vec!["publisher", "sign", folder, "--key", key.to_str().expect("text")];
    args.extend(more);
    fixture.cli().await.run(&args).await.expect(0);
}

async fn succeeds(fixture: &Fixture, agent: &str, script: &str) -> String {
    let command = fixture.api.execute(agent, script, json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    output(fixture, &command).await
}

async fn a_host_runs_packages_that_its_publisher_signed_and_nothing_else(fixture: Fixture) {
    let Pinned { _agent, id, key } = pinned(&fixture).await;
    let good = own_package(&fixture, "backup", "1.0.0", "echo good\n", JOB);
    push(&fixture, &good).await;
    // A key of the server permits uploads, which is not enough here.
    refused(&fixture, &id, "package:backup", "publisher_required").await;
    sign(&fixture, &good, &key, &[]).await;
    assert_eq!(succeeds(&fixture, &id, "package:backup").await, "good\n");
    let evil = own_package(&fixture, "backup", "1.1.0", "echo evil\n", JOB);
    push(&fixture, &evil).await;
    refused(&fixture, &id, "package:backup", "publisher_required").await;
    let (stranger, _) = keygen(&fixture, "stranger.pem").await;
    sign(&fixture, &evil, &stranger, &[]).await;
    refused(&fixture, &id, "package:backup", "publisher_required").await;
    succeeds(&fixture, &id, "package:backup@1.0.0").await;

    // A changed database: what a signed version starts.
    let document = "UPDATE packages SET document = replace(document, 'run.sh', 'other')";
    fixture.server.query(document);
    refused(&fixture, &id, "package:backup@1.0.0", "publisher_required").await;
    let document = "UPDATE packages SET document = replace(document, '\"other\"', '\"run.sh\"')";
    fixture.server.query(document);
    succeeds(&fixture, &id, "package:backup@1.0.0").await;

    // The signatures of another package, and of a script with the same name.
    let other = own_package(&fixture, "other", "1.0.0", "echo other\n", JOB);
    push(&fixture, &other).await;
    sign(&fixture, &other, &key, &[]).await;
    copy_signature(&fixture, "FROM package_signatures WHERE statement LIKE '%\"other\"%'");
    refused(&fixture, &id, "package:backup@1.0.0", "publisher_required").await;
    refused(&fixture, &id, "package:backup@1.1.0", "publisher_required").await;
    succeeds(&fixture, &id, "package:other").await;
    create(&fixture, "backup", "echo good\n").await;
    let script = fixture.test_dir.path().join("script");
    fs::create_dir_all(&script).expect("created");
    let description = "name = \"backup\"\nfile = \"own.sh\"\ninterpreter = \"sh\"\n";
    fs::write(script.join("script.toml"), description).expect("written");
    fs::write(script.join("own.sh"), "echo good\n").expect("written");
    sign(&fixture, script.to_str().expect("text"), &key, &[]).await;
    copy_signature(&fixture, "FROM script_signatures");
    refused(&fixture, &id, "package:backup@1.0.0", "publisher_required").await;
    assert_eq!(succeeds(&fixture, &id, "library:backup").await, "good\n");
}

/// Gives all packages one signature.
fn copy_signature(fixture: &Fixture, from: &str) {
    // Both are read first: afterwards all rows look alike.
    let [statement, signature] = ["statement", "signature"]
        .map(|column| fixture.server.query(&format!("SELECT {column} {from}")).remove(0));
    let change = format!(
        "UPDATE package_signatures SET statement = '{statement}', signature = '{signature}'"
    );
    fixture.server.query(&change);
}

#[tokio::test]
async fn an_old_version_of_a_package_runs_again_only_if_it_is_signed_as_the_newest() {
    let fixture = Fixture::on_sqlite().await;
    let Pinned { _agent: mut agent, id, key } = pinned(&fixture).await;
    let [hole, mended, third] = ["1", "2", "3"]
        .map(|version| own_package(&fixture, "backup", version, &format!("echo {version}\n"), JOB));
    for folder in [&hole, &mended] {
        push(&fixture, folder).await;
        sign(&fixture, folder, &key, &[]).await;
        succeeds(&fixture, &id, "package:backup").await;
    }
    refused(&fixture, &id, "package:backup@1", "version_outdated").await;
    agent.kill_9();
    agent.resume();
    refused(&fixture, &id, "package:backup@1", "version_outdated").await;
    // A renewal keeps the order.
    sign(&fixture, &hole, &key, &["--valid", "10d"]).await;
    refused(&fixture, &id, "package:backup@1", "version_outdated").await;
    sign(&fixture, &hole, &key, &["--newest"]).await;
    assert_eq!(succeeds(&fixture, &id, "package:backup@1").await, "1\n");
    refused(&fixture, &id, "package:backup@2", "version_outdated").await;
    // A version that lets hosts go back.
    push(&fixture, &third).await;
    sign(&fixture, &third, &key, &["--minimum", "1"]).await;
    assert_eq!(succeeds(&fixture, &id, "package:backup@3").await, "3\n");
    assert_eq!(succeeds(&fixture, &id, "package:backup@1").await, "1\n");
    refused(&fixture, &id, "package:backup@2", "version_outdated").await;
}

/// Waits until the only agent reports this about an assignment.
async fn reported(fixture: &Fixture, path: &str, what: &str, is_it: impl Fn(&Value) -> bool) {
    eventually(what, async || {
        let page = fixture.api.get(&format!("{path}/agents")).await.expect(200);
        page.list("items").first().is_some_and(&is_it).then_some(())
    })
    .await;
}

async fn tasks_and_services_of_a_host_with_publishers_run_only_if_they_are_signed(
    fixture: Fixture,
) {
    let Pinned { _agent, id: _, key } = pinned(&fixture).await;
    let log = fixture.test_dir.folder("log").join("runs");
    let task = format!("echo run >>{}\n", log.display());
    let kind = "kind = \"task\"\n[schedule]\nevery_ms = 1000";
    let task = own_package(&fixture, "tick", "1", &task, kind);
    let service = |version: &str| {
        let program = "exec tail -f /dev/null\n";
        own_package(&fixture, "kept", version, program, "kind = \"service\"")
    };
    let (first, second) = (service("1"), service("2"));
    let mut paths = Vec::new();
    for (folder, name) in [(&task, "tick"), (&first, "kept")] {
        push(&fixture, folder).await;
        let body = json!({"name": name, "script": format!("package:{name}"),
            "target": {"expression": "all"}});
        let assignment = fixture.api.post("/api/assignments", body).await.expect(201);
        let path = format!("/api/assignments/{}", assignment.id());
        let is_refused = |it: &Value| it["error_code"] == "publisher_required";
        reported(&fixture, &path, "a refusal", is_refused).await;
        paths.push(path);
    }
    assert!(!log.exists(), "the task has run");
    for folder in [&task, &first] {
        sign(&fixture, folder, &key, &[]).await;
    }
    eventually("the task runs", async || log.exists().then_some(())).await;
    let kept = &paths[1];
    let is_running = |it: &Value| it["service"]["state"] == "running" && it["error_code"].is_null();
    reported(&fixture, kept, "the service runs", is_running).await;

    // Neither an unsigned version nor, after a signed one, the old version runs.
    push(&fixture, &second).await;
    fixture.api.patch(kept, json!({"script": "package:kept@2"})).await.expect(200);
    let is_refused = |it: &Value| {
        it["error_code"] == "publisher_required" && it["service"]["state"] == "waiting"
    };
    reported(&fixture, kept, "the unsigned version is refused", is_refused).await;
    sign(&fixture, &second, &key, &[]).await;
    reported(&fixture, kept, "the second version runs", is_running).await;
    fixture.api.patch(kept, json!({"script": "package:kept@1"})).await.expect(200);
    let is_refused =
        |it: &Value| it["error_code"] == "version_outdated" && it["service"]["state"] == "waiting";
    reported(&fixture, kept, "the old version is refused", is_refused).await;
    for path in &paths {
        fixture.api.delete(path).await.expect(204);
    }
    eventually("the service has ended", async || {
        let page = fixture.api.get("/api/executions?trigger=service").await.expect(200);
        page.list("items").iter().all(|run| run["finished_at"].is_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_publisher_signs_only_the_own_package_and_the_server_takes_only_fitting_signatures() {
    let fixture = Fixture::on_sqlite().await;
    let (key, _) = keygen(&fixture, "publisher.pem").await;
    let key = key.to_str().expect("text");
    let own = own_package(&fixture, "backup", "1", "echo good\n", JOB);
    let cli = fixture.cli().await;
    let signed = cli.run(&["packages", "push", &own, "--key", key, "--json"]).await.json();
    assert_eq!(signed.list("signatures").len(), 1, "{signed}");
    // The server has other files, or reports that it has none.
    let refused = |folder: String, what: &'static str| {
        let cli = &cli;
        async move {
            let refused = cli.run(&["publisher", "sign", &folder, "--key", key]).await;
            assert!(refused.stderr.contains("nothing was signed"), "{what}: {refused:?}");
        }
    };
    refused(own_package(&fixture, "backup", "1", "echo other\n", JOB), "other files").await;
    own_package(&fixture, "backup", "1", "echo good\n", JOB);
    for (from, to) in
        [("\"run.sh\"", "\"evil.sh\""), ("\"sh\"", "\"bash\""), ("\"job\"", "\"task\"")]
    {
        let change = |from: &str, to: &str| {
            let change =
                format!("UPDATE packages SET document = replace(document, '{from}', '{to}')");
            fixture.server.query(&change);
        };
        change(from, to);
        refused(own.clone(), "a changed document").await;
        change(to, from);
    }
    let other = own_package(&fixture, "other", "1", "echo other\n", JOB);
    let other = cli.run(&["packages", "push", &other, "--key", key, "--json"]).await.json();
    let path = format!("/api/packages/{}/signatures", signed.id());
    let signature = other["signatures"][0].clone();
    fixture.api.post(&path, signature.clone()).await.expect_problem(422, "invalid_field");
    let mut changed = signature;
    changed["statement"] = changed.text("statement").replace("other", "backup").into();
    fixture.api.post(&path, changed).await.expect_problem(422, "invalid_field");
    // Four publishers have room.
    for n in 0..4 {
        let (stranger, _) = keygen(&fixture, &format!("{n}.pem")).await;
        let args = ["publisher", "sign", &own, "--key", stranger.to_str().expect("text")];
        let answer = cli.run(&args).await;
        assert_eq!(answer.code, Some(if n < 3 { 0 } else { 1 }), "{n}: {answer:?}");
    }
    let usage = cli.run(&["publisher", "sign", &own, "--key", key, "--version", "1"]).await;
    assert_eq!(usage.code, Some(2), "{usage:?}");
}
