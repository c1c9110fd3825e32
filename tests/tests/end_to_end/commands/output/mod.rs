//! Output at length: byte for byte, compacted, bounded, and never silently less than it was.

mod ended;
mod live;
mod logs;
mod viewers;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_tests::{
    AgentOptions, Cli, Database, LiveStream, Script, ServerOptions, Site, World, eventually,
    on_both_databases, within,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    a_hundred_mebibytes_arrive_byte_for_byte_and_read_the_same_once_compacted,
    a_server_that_is_killed_while_it_compacts_loses_nothing,
);

const MIB: usize = 1024 * 1024;
/// For what moves a hundred megabytes, or waits until output is sent again.
const PATIENCE: Duration = Duration::from_secs(300);

/// What `seq 1 <to>` prints: long, and every place of it different.
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
fn files(world: &World, kind: &str) -> Vec<PathBuf> {
    files_below(&world.server.data_dir().join("output").join(kind))
}

async fn is_compacted(world: &World) {
    within(PATIENCE, "the output is compacted", async || {
        let is_over = files(world, "live").is_empty() && files(world, "compacted").len() == 1;
        is_over.then_some(())
    })
    .await;
}

async fn finished(world: &World, id: &str) -> Value {
    within(PATIENCE, "the command ends", async || {
        let command = world.api.command(id).await;
        command["finished_at"].is_string().then_some(command)
    })
    .await
}

async fn range(world: &World, id: &str, from: usize, to: usize) -> Vec<u8> {
    let path = format!("/api/commands/{id}/output");
    let range = format!("bytes={from}-{}", to - 1);
    let answer = world.api.try_send(Method::GET, &path, &[("range", &range)], None).await;
    let answer = answer.expect("reach the server");
    assert_eq!(answer.status, 206, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.bytes
}

async fn assert_ranges(world: &World, id: &str, all: &[u8]) {
    for from in [0, 1, 262_143, 5_000_001, all.len() / 2, all.len() - 70_000, all.len() - 1] {
        for length in [1, 4_096, 70_000, 600_000] {
            let to = (from + length).min(all.len());
            assert!(
                range(world, id, from, to).await == all[from..to],
                "bytes {from} to {to} differ"
            );
        }
    }
}

async fn a_hundred_mebibytes_arrive_byte_for_byte_and_read_the_same_once_compacted(world: World) {
    let all = counted(13_000_000);
    assert!(all.len() > 100 * MIB);
    let script = Script::new("count", "seq 1 13000000");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "count", json!({})).await;
    let command = finished(&world, &id).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(command["output_bytes"], all.len(), "{command}");
    assert_ranges(&world, &id, &all).await;
    is_compacted(&world).await;
    assert_ranges(&world, &id, &all).await;
    assert!(world.api.output(&id).await == all, "the output differs");
    let compacted = files(&world, "compacted").remove(0).metadata().expect("look").len();
    assert!(compacted < all.len() as u64 / 2, "{compacted} bytes are stored");
    let other = format!("/api/commands/{id}/output?stream=stderr");
    assert_eq!(world.api.get(&other).await.bytes, b"");
}

async fn a_server_that_is_killed_while_it_compacts_loses_nothing(mut world: World) {
    let all = counted(2_000_000);
    let script = Script::new("count", "seq 1 2000000");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "count", json!({})).await;
    world.api.finished(&id).await;
    let has = |world: &World, ending: &str| {
        let found = files(world, "compacted");
        found.iter().any(|path| path.to_string_lossy().ends_with(ending))
    };
    // At its first byte, once it has a name, and at whatever comes behind that.
    for moment in ["1.new", ".1", ".1", ".1"] {
        eventually("the compaction gets so far", async || has(&world, moment).then_some(())).await;
        world.server.kill_9();
        world.server.resume();
        world.server.ready().await;
        assert!(world.api.output(&id).await == all, "the output differs");
    }
    is_compacted(&world).await;
    assert!(world.api.output(&id).await == all, "the output differs");
}

#[tokio::test]
async fn what_is_beyond_the_servers_cap_is_dropped_on_the_host_and_marked() {
    let options = ServerOptions::default().with("MUSTER_MAX_OUTPUT_BYTES", 100_000);
    let world = World::with(options).await;
    let script = Script::new("count", "seq 1 100000; exit 3");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "count", json!({})).await;
    let command = world.api.finished(&id).await;
    let all = counted(100_000);
    let result = &command["result"];
    assert_eq!(result["exit_code"], 3, "{command}");
    assert_eq!(result["output_bytes"], 100_000, "{command}");
    assert_eq!(result["dropped_bytes"], all.len() - 100_000, "{command}");
    assert_eq!(result["output_complete"], false, "{command}");
    assert!(world.api.output(&id).await == all[..100_000], "it is a prefix");
    let cli = Cli::new(&world.site);
    let key = world.api.key().to_owned();
    cli.run(&["login", "--server", &world.server.url(), "--key", &key]).await.expect(0);
    let said = cli.run(&["run", &agent, "count"]).await;
    assert_eq!(said.code, Some(3));
    assert!(said.stderr.contains("some of the output is missing"), "{}", said.stderr);
}

#[tokio::test]
async fn the_oldest_output_gives_way_and_says_so() {
    let options = ServerOptions::default().with("MUSTER_OUTPUT_QUOTA_BYTES", 0);
    let world = World::with(options).await;
    let scripts = [Script::new("count", "seq 1 100000"), Script::new("hi", "echo hi")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let long = world.api.execute(&agent, "count", json!({})).await;
    let short = world.api.execute(&agent, "hi", json!({})).await;
    let command = eventually("the long output is dropped", async || {
        let command = world.api.command(&long).await;
        command["output_dropped_at"].is_string().then_some(command)
    })
    .await;
    assert_eq!(command["output_bytes"], counted(100_000).len(), "{command}");
    let path = format!("/api/commands/{long}/output");
    world.api.get(&path).await.expect_problem(410, "output_dropped");
    let live = format!("/api/executions/{long}/output/live");
    world.api.get(&live).await.expect_problem(410, "output_dropped");
    let cli = Cli::new(&world.site);
    let key = world.api.key().to_owned();
    cli.run(&["login", "--server", &world.server.url(), "--key", &key]).await.expect(0);
    let said = cli.run(&["logs", &long]).await;
    assert!(said.code != Some(0) && said.stderr.contains("output_quota_bytes"), "{}", said.stderr);
    assert!(!said.stderr.contains("trying again"), "{}", said.stderr);
    assert!(files(&world, "compacted").is_empty());
    world.api.finished(&short).await;
    assert_eq!(world.api.output(&short).await, b"hi\n");
    assert_eq!(world.api.command(&short).await["output_dropped_at"], Value::Null);
}

#[tokio::test]
async fn a_damaged_file_is_told_of_and_never_read_out() {
    let world = World::on_sqlite().await;
    let script = Script::new("count", "seq 1 100000");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "count", json!({})).await;
    world.api.finished(&id).await;
    is_compacted(&world).await;
    let file = files(&world, "compacted").remove(0);
    let mut bytes = std::fs::read(&file).expect("read");
    bytes[1_000] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    let path = format!("/api/commands/{id}/output");
    world.api.get(&path).await.expect_problem(410, "output_damaged");
    let live = format!("/api/executions/{id}/output/live");
    world.api.get(&live).await.expect_problem(410, "output_damaged");
    std::fs::remove_file(&file).expect("remove");
    world.api.get(&path).await.expect_problem(410, "output_damaged");
    // Put back from a backup, it is read as before.
    bytes[1_000] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    assert!(world.api.output(&id).await == counted(100_000), "the output differs");
}

#[tokio::test]
async fn a_live_view_that_comes_to_damage_is_cut_off_there_and_told_of_it_when_it_comes_back() {
    let world = World::on_sqlite().await;
    let script = Script::new("count", "seq 1 1000000");
    let (_agent, agent) = world.agent(AgentOptions::with_scripts([script])).await;
    let id = world.api.execute(&agent, "count", json!({})).await;
    world.api.finished(&id).await;
    is_compacted(&world).await;
    let file = files(&world, "compacted").remove(0);
    let mut bytes = std::fs::read(&file).expect("read");
    // Behind what is read before the answer begins.
    let at = bytes.len() * 3 / 4;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).expect("write");
    let live = format!("/api/executions/{id}/output/live");
    let mut stream = LiveStream::open(&world.api, &live, "").await.expect("a live stream");
    let (mut seen, mut last_id) = (Vec::new(), String::new());
    while let Some(event) = stream.next().await {
        assert_eq!(event.name, "output", "{event:?}");
        seen.extend_from_slice(event.data["text"].as_str().expect("text").as_bytes());
        last_id = event.id;
    }
    let all = counted(1_000_000);
    assert!(!seen.is_empty() && seen.len() < all.len() && all.starts_with(&seen), "a prefix");
    let refused = LiveStream::open(&world.api, &live, &last_id).await.expect_err("a refusal");
    refused.expect_problem(410, "output_damaged");
}

#[tokio::test]
async fn a_server_without_room_for_output_settles_what_is_short_and_gets_the_rest_later() {
    muster_tests::needs_root();
    let site = Site::new();
    let disk = site.folder("server").join("output");
    // 64 MiB of it are left to others.
    let mounts =
        format!("mkdir -p '{0}'\nmount -t tmpfs -o size=80m,mode=0700 tmpfs '{0}'", disk.display());
    let options = ServerOptions::default().with_mounts(&mounts);
    let mut world = World::on(site, Database::Sqlite, options).await;
    let scripts = [Script::new("count", "seq 1 5000000"), Script::new("hi", "echo hi")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let long = world.api.execute(&agent, "count", json!({})).await;
    eventually("the server says that there is no room", async || {
        world.server.log().contains("less than 64 MiB are free").then_some(())
    })
    .await;
    let all = counted(5_000_000);
    let committed = world.api.output(&long).await;
    assert!(committed.len() < all.len() && all.starts_with(&committed), "it is a prefix");
    assert_eq!(world.api.command(&long).await["state"], "running");
    // The session goes on, and what is short is settled meanwhile.
    let short = world.api.execute(&agent, "hi", json!({})).await;
    world.api.finished(&short).await;
    assert_eq!(world.api.output(&short).await, b"hi\n");
    assert_eq!(world.ask(&agent, "ping", json!({})).await["success"], true);
    let pid = world.server.process().id();
    let remount = format!("mount -o remount,size=400m '{}'", disk.display());
    let namespace = format!("--mount=/proc/{pid}/ns/mnt");
    let grown = Command::new("nsenter").args([&namespace, "sh", "-c", &remount]).status();
    assert!(grown.expect("run nsenter").success());
    let command = finished(&world, &long).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(world.api.output(&long).await == all, "the output differs");
}

#[tokio::test]
async fn a_short_run_whose_output_finds_no_room_waits_and_its_session_goes_on() {
    muster_tests::needs_root();
    let site = Site::new();
    let disk = site.folder("server").join("output");
    // Less than the 64 MiB that are left to others.
    let mounts =
        format!("mkdir -p '{0}'\nmount -t tmpfs -o size=40m,mode=0700 tmpfs '{0}'", disk.display());
    let options = ServerOptions::default().with_mounts(&mounts);
    let mut world = World::on(site, Database::Sqlite, options).await;
    // More than is taken in without room, and over at once: output and report come together.
    let scripts = [Script::new("count", "seq 1 2500"), Script::new("hi", "echo hi")];
    let (_agent, agent) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let long = world.api.execute(&agent, "count", json!({})).await;
    eventually("the server says that the output waits", async || {
        world.server.log().contains("output waits on its host").then_some(())
    })
    .await;
    for _ in 0..5 {
        let short = world.api.execute(&agent, "hi", json!({})).await;
        assert_eq!(world.api.finished(&short).await["state"], "succeeded");
    }
    let history = format!("/api/agents/{agent}/events");
    let events = world.api.get(&history).await.expect(200);
    assert_eq!(events.to_string().matches("\"online\"").count(), 1, "{events}");
    assert_eq!(world.api.command(&long).await["state"], "running");
    let pid = world.server.process().id();
    let remount = format!("mount -o remount,size=400m '{}'", disk.display());
    let namespace = format!("--mount=/proc/{pid}/ns/mnt");
    let grown = Command::new("nsenter").args([&namespace, "sh", "-c", &remount]).status();
    assert!(grown.expect("run nsenter").success());
    let command = finished(&world, &long).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert!(world.api.output(&long).await == counted(2_500), "the output differs");
    let events = world.api.get(&history).await.expect(200);
    assert_eq!(events.to_string().matches("\"online\"").count(), 2, "{events}");
}
