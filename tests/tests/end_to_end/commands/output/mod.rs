//! Long output: byte for byte, compacted, bounded, and never incomplete without a mark.

mod ended;
mod live;
mod logs;
mod search;
mod viewers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_tests::{
    AgentOptions, Cli, Database, Fixture, JsonFields as _, LiveStream, Script, ServerOptions,
    TestDir, eventually, on_both_databases, within,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    hundred_mebibytes_of_output_are_stored_exactly_before_and_after_compaction,
    server_killed_during_compaction_loses_no_output,
);

const MIB: usize = 1024 * 1024;
/// For transfers of a hundred megabytes, and for output that is sent again.
const PATIENCE: Duration = Duration::from_secs(300);

/// The output of `seq 1 <to>`: long, and different at every offset.
fn counted(to: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut text = Vec::new();
    for number in 1..=to {
        writeln!(text, "{number}").expect("memory");
    }
    text
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Files of output of this kind: `live` or `compacted`.
fn files(fixture: &Fixture, kind: &str) -> Vec<PathBuf> {
    files_below(&fixture.server.data_dir().join("output").join(kind))
}

async fn is_compacted(fixture: &Fixture) {
    within(PATIENCE, "the output is compacted", async || {
        let is_over = files(fixture, "live").is_empty() && files(fixture, "compacted").len() == 1;
        is_over.then_some(())
    })
    .await;
}

async fn finished(fixture: &Fixture, id: &str) -> Value {
    within(PATIENCE, "the command ends", async || {
        let command = fixture.api.command(id).await;
        command["finished_at"].is_string().then_some(command)
    })
    .await
}

async fn range(fixture: &Fixture, id: &str, from: usize, to: usize) -> Vec<u8> {
    let path = format!("/api/commands/{id}/output");
    let range = format!("bytes={from}-{}", to - 1);
    let answer = fixture.api.try_send(Method::GET, &path, &[("range", &range)], None).await;
    let answer = answer.expect("reach the server");
    assert_eq!(answer.status, 206, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.bytes
}

async fn assert_ranges(fixture: &Fixture, id: &str, all: &[u8]) {
    for from in [0, 1, 262_143, 5_000_001, all.len() / 2, all.len() - 70_000, all.len() - 1] {
        for length in [1, 4_096, 70_000, 600_000] {
            let to = (from + length).min(all.len());
            assert!(
                range(fixture, id, from, to).await == all[from..to],
                "bytes {from} to {to} differ"
            );
        }
    }
}

async fn hundred_mebibytes_of_output_are_stored_exactly_before_and_after_compaction(
    fixture: Fixture,
) {
    let all = counted(13_000_000);
    assert!(all.len() > 100 * MIB);
    let script = Script::new("count", "seq 1 13000000");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "count", json!({})).await;
    let command = finished(&fixture, &id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(command["output_bytes"], all.len(), "{command}");
    assert_ranges(&fixture, &id, &all).await;
    is_compacted(&fixture).await;
    assert_ranges(&fixture, &id, &all).await;
    assert!(fixture.api.output(&id).await == all, "the output differs");
    let compacted = files(&fixture, "compacted").remove(0).metadata().expect("look").len();
    assert!(compacted < all.len() as u64 / 2, "{compacted} bytes are stored");
    let other = format!("/api/commands/{id}/output?stream=stderr");
    assert_eq!(fixture.api.get(&other).await.bytes, b"");
}

async fn server_killed_during_compaction_loses_no_output(mut fixture: Fixture) {
    let all = counted(2_000_000);
    let script = Script::new("count", "seq 1 2000000");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "count", json!({})).await;
    fixture.api.finished(&id).await;
    let has = |fixture: &Fixture, ending: &str| {
        let found = files(fixture, "compacted");
        found.iter().any(|path| path.to_string_lossy().ends_with(ending))
    };
    // The server is killed when the file has its first byte, when it has its name, and at later
    // moments.
    for moment in ["1.new", ".1", ".1", ".1"] {
        eventually("the compaction gets so far", async || has(&fixture, moment).then_some(()))
            .await;
        fixture.server.kill_9();
        fixture.server.resume();
        fixture.server.ready().await;
        assert!(fixture.api.output(&id).await == all, "the output differs");
    }
    // If the server was killed between the last commit and the removal of the former file, that file
    // remains until the sweep of files without a row.
    within(PATIENCE, "the output is compacted", async || {
        let is_over = has(&fixture, ".1") && !has(&fixture, ".new");
        is_over.then_some(())
    })
    .await;
    assert!(fixture.api.output(&id).await == all, "the output differs");
}

#[tokio::test]
async fn output_beyond_the_server_limit_is_dropped_on_the_host_and_marked() {
    let options = ServerOptions::default().with("MUSTER_MAX_OUTPUT_BYTES", 100_000);
    let fixture = Fixture::with(options).await;
    let script = Script::new("count", "seq 1 100000; exit 3");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "count", json!({})).await;
    let command = fixture.api.finished(&id).await;
    let all = counted(100_000);
    let result = &command["result"];
    assert_eq!(result["exit_code"], 3, "{command}");
    assert_eq!(result["output_bytes"], 100_000, "{command}");
    assert_eq!(result["dropped_bytes"], all.len() - 100_000, "{command}");
    assert_eq!(result["output_complete"], false, "{command}");
    assert!(fixture.api.output(&id).await == all[..100_000], "it is a prefix");
    let cli = Cli::new(&fixture.test_dir);
    let key = fixture.api.key().to_owned();
    cli.run(&["login", "--server", &fixture.server.url(), "--key", &key]).await.expect(0);
    let said = cli.run(&["run", &agent, "count"]).await;
    assert_eq!(said.code, Some(3));
    assert!(said.stderr.contains("some of the output is missing"), "{}", said.stderr);
}

#[tokio::test]
async fn oldest_output_is_deleted_first_and_marked() {
    let options = ServerOptions::default().with("MUSTER_OUTPUT_QUOTA_BYTES", 0);
    let fixture = Fixture::with(options).await;
    let scripts = [Script::new("count", "seq 1 100000"), Script::new("hi", "echo hi")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let long = fixture.api.execute(&agent, "count", json!({})).await;
    let short = fixture.api.execute(&agent, "hi", json!({})).await;
    let command = eventually("the long output is dropped", async || {
        let command = fixture.api.command(&long).await;
        command["output_dropped_at"].is_string().then_some(command)
    })
    .await;
    assert_eq!(command["output_bytes"], counted(100_000).len(), "{command}");
    let path = format!("/api/commands/{long}/output");
    fixture.api.get(&path).await.expect_problem(410, "output_dropped");
    let live = format!("/api/executions/{long}/output/live");
    fixture.api.get(&live).await.expect_problem(410, "output_dropped");
    let cli = Cli::new(&fixture.test_dir);
    let key = fixture.api.key().to_owned();
    cli.run(&["login", "--server", &fixture.server.url(), "--key", &key]).await.expect(0);
    let said = cli.run(&["logs", &long]).await;
    assert!(said.code != Some(0) && said.stderr.contains("output_quota_bytes"), "{}", said.stderr);
    assert!(!said.stderr.contains("trying again"), "{}", said.stderr);
    assert!(files(&fixture, "compacted").is_empty());
    fixture.api.finished(&short).await;
    assert_eq!(fixture.api.output(&short).await, b"hi\n");
    assert_eq!(fixture.api.command(&short).await["output_dropped_at"], Value::Null);
}

#[tokio::test]
async fn damaged_output_file_is_reported_and_never_served() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("count", "seq 1 100000");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "count", json!({})).await;
    fixture.api.finished(&id).await;
    is_compacted(&fixture).await;
    let file = files(&fixture, "compacted").remove(0);
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[1_000] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    let path = format!("/api/commands/{id}/output");
    fixture.api.get(&path).await.expect_problem(410, "output_damaged");
    let live = format!("/api/executions/{id}/output/live");
    fixture.api.get(&live).await.expect_problem(410, "output_damaged");
    std::fs::remove_file(&file).expect("remove");
    fixture.api.get(&path).await.expect_problem(410, "output_damaged");
    // After it is restored from a backup, it is read as before.
    bytes[1_000] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    assert!(fixture.api.output(&id).await == counted(100_000), "the output differs");
}

#[tokio::test]
async fn live_stream_breaks_off_at_damaged_output_and_reports_it_on_reconnect() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("count", "seq 1 1000000");
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let id = fixture.api.execute(&agent, "count", json!({})).await;
    fixture.api.finished(&id).await;
    is_compacted(&fixture).await;
    let file = files(&fixture, "compacted").remove(0);
    let mut bytes = std::fs::read(&file).expect("read");
    // After the part that is read before the answer starts.
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    let live = format!("/api/executions/{id}/output/live");
    let mut stream = LiveStream::open(&fixture.api, &live, "").await.expect("a live stream");
    let (mut seen, mut last_id) = (Vec::new(), String::new());
    while let Some(event) = stream.next().await {
        assert_eq!(event.name, "output", "{event:?}");
        seen.extend_from_slice(event.data.text("text").as_bytes());
        last_id = event.id;
    }
    let all = counted(1_000_000);
    assert!(!seen.is_empty() && seen.len() < all.len() && all.starts_with(&seen), "a prefix");
    let refused = LiveStream::open(&fixture.api, &live, &last_id).await.expect_err("a refusal");
    refused.expect_problem(410, "output_damaged");
}

#[tokio::test]
async fn server_with_a_full_disk_records_results_and_receives_the_output_later() {
    muster_tests::needs_root();
    let test_dir = TestDir::new();
    let disk = test_dir.folder("server").join("output");
    // 64 MiB of it are reserved for others.
    let mounts =
        format!("mkdir -p '{0}'\nmount -t tmpfs -o size=80m,mode=0700 tmpfs '{0}'", disk.display());
    let options = ServerOptions::default().with_mounts(&mounts);
    let mut fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    let scripts = [Script::new("count", "seq 1 5000000"), Script::new("hi", "echo hi")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let long = fixture.api.execute(&agent, "count", json!({})).await;
    eventually("the server says that there is no room", async || {
        fixture.server.log().contains("less than 64 MiB are free").then_some(())
    })
    .await;
    let all = counted(5_000_000);
    let committed = fixture.api.output(&long).await;
    assert!(committed.len() < all.len() && all.starts_with(&committed), "it is a prefix");
    assert_eq!(fixture.api.command(&long).await["state"], "running");
    // The session continues, and commands with short output end in the meantime.
    let short = fixture.api.execute(&agent, "hi", json!({})).await;
    fixture.api.finished(&short).await;
    assert_eq!(fixture.api.output(&short).await, b"hi\n");
    assert_eq!(fixture.ask(&agent, "ping", json!({})).await["success"], true);
    let pid = fixture.server.process().id();
    let remount = format!("mount -o remount,size=400m '{}'", disk.display());
    let namespace = format!("--mount=/proc/{pid}/ns/mnt");
    let grown = Command::new("nsenter").args([&namespace, "sh", "-c", &remount]).status();
    assert!(grown.expect("run nsenter").success());
    let command = finished(&fixture, &long).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(fixture.api.output(&long).await == all, "the output differs");
}

#[tokio::test]
async fn execution_whose_output_does_not_fit_waits_and_keeps_its_session() {
    muster_tests::needs_root();
    let test_dir = TestDir::new();
    let disk = test_dir.folder("server").join("output");
    // Less than the reserved 64 MiB.
    let mounts =
        format!("mkdir -p '{0}'\nmount -t tmpfs -o size=40m,mode=0700 tmpfs '{0}'", disk.display());
    let options = ServerOptions::default().with_mounts(&mounts);
    let mut fixture = Fixture::on(test_dir, Database::Sqlite, options).await;
    // More than is stored without space, and it ends at once, so output and report arrive together.
    let scripts = [Script::new("count", "seq 1 2500"), Script::new("hi", "echo hi")];
    let (_agent, agent) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let long = fixture.api.execute(&agent, "count", json!({})).await;
    eventually("the server says that the output waits", async || {
        fixture.server.log().contains("output waits on its host").then_some(())
    })
    .await;
    for _ in 0..5 {
        let short = fixture.api.execute(&agent, "hi", json!({})).await;
        assert_eq!(fixture.api.finished(&short).await["state"], "succeeded");
    }
    let history = format!("/api/agents/{agent}/events");
    let events = fixture.api.get(&history).await.expect(200);
    assert_eq!(events.to_string().matches("\"online\"").count(), 1, "{events}");
    assert_eq!(fixture.api.command(&long).await["state"], "running");
    let pid = fixture.server.process().id();
    let remount = format!("mount -o remount,size=400m '{}'", disk.display());
    let namespace = format!("--mount=/proc/{pid}/ns/mnt");
    let grown = Command::new("nsenter").args([&namespace, "sh", "-c", &remount]).status();
    assert!(grown.expect("run nsenter").success());
    let command = finished(&fixture, &long).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(fixture.api.output(&long).await == counted(2_500), "the output differs");
    let events = fixture.api.get(&history).await.expect(200);
    assert_eq!(events.to_string().matches("\"online\"").count(), 2, "{events}");
}
