//! Full disks of a host or of the server: nothing is promised that can't be kept.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use muster_tests::{
    Agent, AgentOptions, Database, Fixture, JsonFields as _, Script, ServerOptions, SmallDisk,
    TestDir, eventually,
};
use serde_json::json;

const MIB: u64 = 1024 * 1024;

/// An agent whose state is on a disk of this size, in a mount namespace of its own.
async fn on_a_small_disk(fixture: &Fixture, mib: u64, scripts: Vec<Script>) -> (Agent, String) {
    let disk = fixture.test_dir.folder("disk");
    let seed = fixture.test_dir.folder("seed");
    muster_tests::install(&seed, &scripts);
    let mounts = format!(
        "mount -t tmpfs -o size={mib}m,mode=0700 tmpfs '{0}'\ncp -a '{1}/.' '{0}/'",
        disk.display(),
        seed.display(),
    );
    let mut options = AgentOptions::named("agent").with_mounts(&mounts);
    options.state_dir = Some(disk);
    fixture.agent(options).await
}

/// The path of the agent's disk for this process, through the agent's own mount namespace.
fn inside(agent: &mut Agent) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", agent.process().id()));
    let disk = agent.state_dir().strip_prefix("/").expect("an absolute path").to_owned();
    root.join(disk)
}

fn fill(file: &Path, bytes: u64) {
    let zeros = vec![0; usize::try_from(bytes).expect("it fits")];
    std::fs::write(file, zeros).expect("fill the disk");
}

/// Writes until no byte is free.
fn fill_up(file: &Path) {
    let mut file = File::create(file).expect("make a file");
    let mut step = vec![0; 1024 * 1024];
    while !step.is_empty() {
        while file.write_all(&step).is_ok() {}
        step.truncate(step.len() / 2);
    }
}

#[tokio::test]
async fn host_with_a_full_disk_rejects_commands_until_there_is_space() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = vec![Script::new("hi", "echo hi")];
    let (mut agent, id) = on_a_small_disk(&fixture, 160, scripts).await;
    let filler = inside(&mut agent).join("filler");
    fill(&filler, 120 * MIB);
    let run = fixture.api.execute(&id, "hi", json!({})).await;
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "rejected", "{command}");
    assert_eq!(command["error_code"], "no_space", "{command}");
    std::fs::remove_file(&filler).expect("make space");
    let run = fixture.api.execute(&id, "hi", json!({})).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
}

#[tokio::test]
async fn disk_that_fills_during_a_script_loses_output_and_never_the_result() {
    prints_on_a_disk_with_room_for(20 * MIB).await;
}

#[tokio::test]
async fn completely_full_disk_loses_output_and_never_the_result() {
    prints_on_a_disk_with_room_for(0).await;
}

async fn prints_on_a_disk_with_room_for(room: u64) {
    let fixture = Fixture::on_sqlite().await;
    let body = "echo begun\nwhile [ ! -e \"$GATE\" ]; do sleep 0.05; done\n\
                head -c 60000000 /dev/zero | tr '\\0' x\nexit 3";
    let (mut agent, id) =
        on_a_small_disk(&fixture, 120, vec![Script::new("fill", body).taking(["GATE"])]).await;
    let gate = fixture.test_dir.path().join("gate");
    let run = fixture.api.execute(&id, "fill", json!({"parameters": {"GATE": gate}})).await;
    fixture.api.output_reaches(&run, 6).await;
    let disk = inside(&mut agent);
    fill_up(&disk.join("filler"));
    if room > 0 {
        let filler = File::options().write(true).open(disk.join("filler")).expect("open");
        let length = filler.metadata().expect("look").len();
        filler.set_len(length - room).expect("make room");
    }
    std::fs::write(&gate, "").expect("open the gate");
    let command = eventually("the run ends", async || {
        let command = fixture.api.command(&run).await;
        (command["state"] != "running").then_some(command)
    })
    .await;
    assert_eq!(command["state"], "failed", "{command}");
    let result = &command["result"];
    assert_eq!(result["exit_code"], 3, "{result}");
    assert_eq!(result["output_complete"], false, "{result}");
    assert!(result["dropped_bytes"].as_u64().is_some_and(|bytes| bytes > MIB), "{result}");
    let output = fixture.api.output(&run).await;
    assert_eq!(result["output_bytes"], output.len(), "{result}");
    let rest = output.strip_prefix(b"begun\n").expect("a prefix of what it printed");
    assert!(rest.iter().all(|byte| *byte == b'x'), "a prefix of what it printed");
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
}

#[tokio::test]
async fn agent_keeps_working_if_its_log_cannot_be_written() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]).supervised();
    // Every write to this device fails as on a full disk.
    let (agent, id) = fixture.agent(options.with_mounts("exec >/dev/full 2>&1")).await;
    let run = fixture.api.execute(&id, "hi", json!({})).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, b"hi\n");
    assert!(agent.log().is_empty(), "it was to be unable to say anything: {}", agent.log());
}

#[tokio::test]
async fn server_with_a_full_disk_refuses_new_work_and_loses_no_accepted_work() {
    // Dropped in the opposite order: the disk after the server, the folder after the disk.
    let test_dir = TestDir::new();
    let disk = SmallDisk::over(&test_dir.folder("server"), 64);
    let fixture = Fixture::on(test_dir, Database::Sqlite, ServerOptions::default()).await;
    let body = "echo begun\nwhile [ ! -e \"$GATE\" ]; do sleep 0.05; done\necho done";
    let options = AgentOptions::with_scripts([Script::new("wait", body).taking(["GATE"])]);
    let (_agent, id) = fixture.agent(options).await;
    let gate = fixture.test_dir.path().join("gate");
    let run = fixture.api.execute(&id, "wait", json!({"parameters": {"GATE": gate}})).await;
    fixture.api.output_reaches(&run, 6).await;
    disk.fill();
    let path = format!("/api/agents/{id}/command");
    let data = json!({"script": "wait", "parameters": {"GATE": "/"}});
    let body = json!({"command": "execute", "data": data});
    // The database's log has some free space in its file.
    let mut numbers = 0..400;
    let (refused, number) = eventually("the server has no room", async || {
        let key = format!("more-{}", numbers.next()?);
        let answer = fixture.api.post_once(&path, &key, body.clone()).await;
        (answer.status != 202).then_some((answer, key))
    })
    .await;
    assert!(!refused.header("retry-after").is_empty());
    refused.expect_problem(503, "storage_unavailable");
    std::fs::write(&gate, "").expect("open the gate");
    disk.clear();
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(fixture.api.output(&run).await, b"begun\ndone\n");
    let again = eventually("the server has room", async || {
        let answer = fixture.api.post_once(&path, &number, body.clone()).await;
        (answer.status == 202).then(|| answer.json())
    })
    .await;
    let again = again.id();
    assert_eq!(fixture.api.finished(again).await["state"], "succeeded");
    let all = eventually("everything that was accepted has run", async || {
        let page = fixture.api.get("/api/commands?limit=500").await.expect(200);
        let items = page.list("items").clone();
        items.iter().all(|command| command["state"] == "succeeded").then_some(items)
    })
    .await;
    assert!(all.iter().any(|command| command["id"] == again));
}
