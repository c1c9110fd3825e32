//! Examples: scripts, packages, files, assignments and services.

use muster_protocol::identity::AgentKeyPair;
use muster_protocol::library::{STATEMENT_FORMAT, ScriptSignature, SignedScript};
use muster_protocol::package::SignedPackage;
use muster_tests::{JsonFields as _, file, tar_zst};
use reqwest::Method;
use serde_json::json;

use super::Recorder;

/// Archives are no JSON, and have no example.
pub async fn packages(run: &mut Recorder<'_>) {
    let description = "name = \"backup\"\nversion = \"1.2.0\"\nkind = \"job\"\nexecutor = \"sh\"\nentry = \"bin/run.sh\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("bin/run.sh", "true\n")]);
    let uploaded = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let example =
        json!({"status": "201", "content_type": "application/json", "response": uploaded});
    run.examples.insert("upload_package".into(), example);
    for name in ["download_package", "download_package_archive"] {
        run.examples.insert(name.into(), json!({"status": "200", "content_type": ""}));
    }
    let path = format!("/api/packages/{{id={}}}", uploaded.id());
    run.get("/api/packages").await;
    run.get(&path).await;
    let pair = AgentKeyPair::from_seed(&[7; 32]).expect("a seed");
    let signed = SignedPackage {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        name: "backup".into(),
        version: "1.2.0".into(),
        document_sha256: muster_tests::sha256(uploaded.text("document").as_bytes()),
        rank: 1_767_225_600_000,
        minimum_rank: 1_767_225_600_000,
        expires_at_ms: 4_000_000_000_000,
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    run.post(&format!("{path}/signatures"), signature).await;
    run.call(Method::DELETE, &path, None).await;
    files(run).await;
    assignments(run).await;
}

/// Bytes are no JSON, and have no example.
pub async fn files(run: &mut Recorder<'_>) {
    let sha256 = muster_tests::sha256(b"retries = 3\n");
    let body = json!({"name": "app.conf", "sha256": sha256, "bytes": 12});
    let id = run.post("/api/files", body).await.id().to_owned();
    let path = format!("/api/files/{{id={id}}}");
    run.get("/api/files").await;
    run.get(&path).await;
    let content = format!("/api/files/{id}/content?offset_bytes=0");
    let headers = [("content-type", "application/octet-stream")];
    let sent =
        run.fixture.api.try_send(Method::PUT, &content, &headers, Some(b"retries = 3\n".to_vec()));
    let sent = sent.await.expect("reach the server").expect(200);
    let example = json!({"status": "200", "content_type": "application/json", "response": sent});
    run.examples.insert("send_file".into(), example);
    let example = json!({"status": "200", "content_type": ""});
    run.examples.insert("download_pushed_file".into(), example);
    run.call(Method::DELETE, &path, None).await;
}

pub async fn assignments(run: &mut Recorder<'_>) {
    let description = "name = \"report\"\nversion = \"1.0.0\"\nkind = \"task\"\nexecutor = \"sh\"\n\
        entry = \"run.sh\"\n[schedule]\ncron = \"0 3 * * *\"\ntime_zone = \"Europe/Berlin\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("run.sh", "true\n")]);
    let package = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let later = description.replace("1.0.0", "1.1.0");
    let archive = tar_zst(&[file("muster.toml", &later), file("run.sh", "true\n")]);
    let later = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let body = json!({"name": "nightly-report", "script": "package:report@1.0.0",
        "target": {"expression": "all"}});
    let id = run.post("/api/assignments", body).await.id().to_owned();
    let path = format!("/api/assignments/{{id={id}}}");
    run.get("/api/assignments").await;
    run.get(&path).await;
    run.get(&format!("{path}/agents")).await;
    // No agent has the tag, so that no wave starts and the rollout stays under way.
    let rollout = json!({"target": {"tags": ["reports"]}, "script": "package:report@1.1.0",
        "rollout": {"wave_size": "25%", "max_failures": 0, "healthy_for_ms": 60_000}});
    run.call(Method::PATCH, &path, Some(rollout.clone())).await;
    run.post(&format!("{path}/rollout/resume"), json!({})).await;
    run.post(&format!("{path}/rollout/abort"), json!({})).await;
    run.fixture.api.patch(&format!("/api/assignments/{id}"), rollout).await.expect(200);
    run.post(&format!("{path}/rollout/finish"), json!({})).await;
    run.call(Method::DELETE, &path, None).await;
    for package in [package, later] {
        run.fixture.api.delete(&format!("/api/packages/{}", package.id())).await.expect(204);
    }
    let script = json!({"name": "disk-usage", "body": "df -h\n", "interpreter": "sh"});
    run.fixture.api.post("/api/scripts", script).await.expect(201);
    let body = json!({"name": "hourly-usage", "script": "library:disk-usage@1",
        "schedule": {"every_ms": 3_600_000}, "target": {"expression": "all"}});
    let id = run.fixture.api.post("/api/assignments", body).await.expect(201).id().to_owned();
    run.get("/api/assignments").await;
    run.fixture.api.delete(&format!("/api/assignments/{id}")).await.expect(204);
    services(run).await;
}

pub async fn services(run: &mut Recorder<'_>) {
    let description = "name = \"proxy\"\nversion = \"1.2.0\"\nkind = \"service\"\nexecutor = \"sh\"\n\
        entry = \"run.sh\"\n";
    let archive = tar_zst(&[file("muster.toml", description), file("run.sh", "sleep 60\n")]);
    let package = run.fixture.api.upload("/api/packages", archive).await.expect(201);
    let body = json!({"name": "proxy", "script": "package:proxy",
        "target": {"expression": "all"}});
    let id = run.fixture.api.post("/api/assignments", body).await.expect(201).id().to_owned();
    run.get("/api/services").await;
    for action in ["stop", "start", "restart"] {
        run.post(&format!("/api/services/{{id={id}}}/{action}"), json!({})).await;
    }
    run.fixture.api.delete(&format!("/api/assignments/{id}")).await.expect(204);
    run.fixture.api.delete(&format!("/api/packages/{}", package.id())).await.expect(204);
}

pub async fn library(run: &mut Recorder<'_>) {
    let body = json!({"name": "disk-report", "folder": "ops", "tags": ["disk"], "body": "df -h\n",
        "interpreter": "sh", "description": "Shows how full the disks are",
        "parameters": [{"name": "THRESHOLD", "type": "integer", "default": "90"}]});
    let script = run.post("/api/scripts", body).await.id().to_owned();
    let path = format!("/api/scripts/{{id={script}}}");
    let versions = format!("{path}/versions");
    let body = json!({"body": "df -h | sort\n", "interpreter": "sh", "message": "sort"});
    run.post(&versions, body).await;
    run.get("/api/scripts").await;
    run.get("/api/scripts/starter").await;
    run.get(&path).await;
    run.get(&versions).await;
    run.get(&format!("{path}/diff?from=1&to=2")).await;
    let version = format!("{versions}/{{version=2}}");
    let shown = run.get(&version).await;
    let pair = AgentKeyPair::from_seed(&[7; 32]).expect("a seed");
    let signed = SignedScript {
        format: STATEMENT_FORMAT,
        publisher: pair.public_key(),
        name: "disk-report".into(),
        version: 2,
        document_sha256: shown.text("document_sha256").into(),
        minimum_version: 2,
        expires_at_ms: 4_000_000_000_000,
    };
    let signature = json!(ScriptSignature::sign(&signed, &pair));
    run.post(&format!("{version}/signatures"), signature).await;
    run.call(Method::PATCH, &path, Some(json!({"current_version": 1}))).await;
    packages(run).await;
    run.call(Method::DELETE, &path, None).await;
}
