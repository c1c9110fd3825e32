//! `muster-server backup`, `verify` and `restore`, also killed while they work.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::Utc;
use muster_tests::{
    AgentOptions, Api, Database, Fixture, JsonFields as _, PostgresDatabase, Script, binary,
    eventually, on_both_databases,
};
use reqwest::Method;
use serde_json::{Value, json};

on_both_databases!(
    a_backup_under_load_restores_what_was_promised_and_nothing_runs_twice,
    damaged_backups_and_used_directories_are_refused,
);

const LINES: u32 = 4_000;

fn shown(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn verify(file: &Path) -> Output {
    let mut command = Command::new(binary("muster-server"));
    command.arg("verify").arg(file).output().expect("run muster-server")
}

fn back_up(fixture: &Fixture, file: &Path, options: &[&str]) -> Output {
    let file = file.to_str().expect("plain text");
    fixture.server.run(&[&["backup", file][..], options].concat())
}

fn restore(fixture: &Fixture, file: &Path) -> Output {
    fixture.server.run(&["restore", file.to_str().expect("plain text")])
}

/// Removes the server's folder and gives it an empty database. Keeps the key of the tests.
fn lose_everything(fixture: &mut Fixture) {
    let folder = fixture.server.data_dir().to_owned();
    std::fs::remove_dir_all(&folder).expect("lose the data");
    if fixture.server.is_postgres() {
        fixture.server.database = Database::Postgres(PostgresDatabase::empty());
    }
}

/// Sends executions with these numbers, until it is stopped. Returns what the server has promised.
async fn load(
    api: Api,
    agent: String,
    numbers: Range<u32>,
    stop: Arc<AtomicBool>,
) -> Vec<(String, u32)> {
    let mut promised = Vec::new();
    for number in numbers {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let data = json!({"script": "note", "parameters": {"N": number.to_string()}});
        let body = json!({"command": "execute", "data": data}).to_string().into_bytes();
        let path = format!("/api/agents/{agent}/command");
        let sent = api.try_send(Method::POST, &path, &[], Some(body)).await;
        if let Ok(answer) = sent.map(|answer| (answer.status, answer.json()))
            && answer.0 == 202
        {
            promised.push((answer.1.id().to_owned(), number));
        }
    }
    promised
}

async fn a_backup_under_load_restores_what_was_promised_and_nothing_runs_twice(
    mut fixture: Fixture,
) {
    let notes = fixture.test_dir.path().join("notes");
    let scripts = [
        Script::new("note", &format!("echo \"$N\" >> {}", notes.display())).taking(["N"]),
        Script::counting("long", LINES, LINES, "0"),
    ];
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let long = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.finished(&long).await;
    let job =
        json!({"script": "note", "parameters": {"N": "schedule"}, "target": {"expression": "all"}});
    let schedule = json!({"name": "often", "rule": {"every_ms": 1_000}, "missed": "all", "max_catch_up": 100,
        "overlap": "allow", "job": job});
    fixture.api.post("/api/schedules", schedule).await.expect(201);
    let secret_url = json!({"url": "https://hooks.example/x"});
    let secret = fixture.api.post("/api/webhooks/secret", secret_url.clone()).await.expect(200);

    // Queued when the backup is made, and run after it.
    agent.stop();
    eventually("the agent is offline", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] != "online").then_some(())
    })
    .await;
    let queued = fixture.api.execute(&id, "note", json!({"parameters": {"N": "queued"}})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let before = tokio::spawn(load(fixture.api.clone(), id.clone(), 0..150, Arc::clone(&stop)));
    let file = fixture.test_dir.path().join("backup.tar.zst");
    let mut killed = fixture.server.start_command(&["backup", file.to_str().expect("text")]);
    eventually("the backup has started", async || {
        let is_over = killed.try_wait().expect("wait").is_some();
        (is_over || file.with_added_extension("new").exists()).then_some(())
    })
    .await;
    let _ = killed.kill();
    killed.wait().expect("it ends");
    let _ = std::fs::remove_file(&file);
    stop.store(true, Ordering::Relaxed);
    let promised = before.await.expect("the load");
    assert!(!promised.is_empty());

    stop.store(false, Ordering::Relaxed);
    let during =
        tokio::spawn(load(fixture.api.clone(), id.clone(), 1_000..1_150, Arc::clone(&stop)));
    let done = back_up(&fixture, &file, &["--with-keys"]);
    assert!(done.status.success(), "{}", shown(&done));
    agent.resume();
    let ran = fixture.api.finished(&queued).await;
    assert_eq!(ran["state"], "succeeded", "{ran}");
    // The server is killed while it works and while another backup reads.
    let second = fixture.test_dir.path().join("second.tar.zst");
    let mut other = fixture.server.start_command(&["backup", second.to_str().expect("text")]);
    fixture.server.kill_9();
    let is_whole = other.wait().expect("it ends").success();
    assert_eq!(is_whole, second.exists(), "a backup has its name if it is whole");
    if is_whole {
        assert!(verify(&second).status.success());
    }
    stop.store(true, Ordering::Relaxed);
    during.await.expect("the load");
    let key = std::fs::read(fixture.server.data_dir().join("bootstrap_key")).expect("the key");

    let checked = verify(&file);
    assert!(checked.status.success(), "{}", shown(&checked));
    lose_everything(&mut fixture);
    let restored_at = Utc::now().timestamp_millis();
    let restored = restore(&fixture, &file);
    assert!(restored.status.success(), "{}", shown(&restored));
    std::fs::write(fixture.server.data_dir().join("bootstrap_key"), key).expect("write");
    fixture.server.resume();
    fixture.server.ready().await;
    eventually("the agent is back, over WebSocket or HTTP", async || {
        let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (shown["status"] == "online").then_some(())
    })
    .await;

    let audited = fixture.api.get("/api/audit?action=server.restore").await.expect(200);
    assert_eq!(audited.list("items").len(), 1, "{audited}");
    let entry = &audited["items"][0];
    assert!(entry["detail"]["backup_created_at"].is_string() && entry["detail"]["file"].is_null());
    let server = fixture.api.get("/api/audit?log=server&action=server.restore").await.expect(200);
    let detail = &server["items"][0]["detail"];
    assert_eq!(detail["file"], json!(file.file_name().expect("a name").to_str()));
    assert!(detail["user"].as_str().is_some_and(|user| !user.is_empty()), "{server}");
    assert_eq!(fixture.api.get("/api/audit/verify").await.expect(200)["is_intact"], true);
    // The next start makes no second entry.
    fixture.server.stop();
    fixture.server.resume();
    fixture.server.ready().await;
    let again = fixture.api.get("/api/audit?action=server.restore").await.expect(200);
    assert_eq!(again.list("items").len(), 1, "{again}");

    for (id, number) in &promised {
        let command = fixture.api.finished(id).await;
        assert_eq!(command["state"], "succeeded", "{number}: {command}");
    }
    assert_eq!(fixture.api.finished(&queued).await["state"], "succeeded");
    assert!(fixture.api.output(&long).await == Script::counted(LINES), "the output differs");
    let again = fixture.api.post("/api/webhooks/secret", secret_url).await.expect(200);
    assert_eq!(again["secret"], secret["secret"], "the master key was restored");
    eventually("the schedule goes on", async || {
        let rows = fixture.server.query(&format!(
            "SELECT COUNT(*) FROM fires WHERE state = 'fired' AND due_at > {restored_at}"
        ));
        (rows != ["0"]).then_some(())
    })
    .await;
    let made_up = format!(
        "SELECT COUNT(*) FROM fires WHERE recorded_at >= {restored_at} AND due_at < {restored_at}"
    );
    assert_eq!(fixture.server.query(&made_up), ["0"], "what was due meanwhile may have run");
    let ran = std::fs::read_to_string(&notes).expect("the notes");
    let ran: Vec<&str> = ran.lines().filter(|line| *line != "schedule").collect();
    let once: BTreeSet<&str> = ran.iter().copied().collect();
    assert_eq!(once.len(), ran.len(), "something ran twice: {ran:?}");
    let missing: Vec<_> =
        promised.iter().filter(|(_, number)| !once.contains(number.to_string().as_str())).collect();
    assert_eq!(missing, Vec::<&(String, u32)>::new());
    assert!(once.contains("queued"));
}

async fn damaged_backups_and_used_directories_are_refused(mut fixture: Fixture) {
    let file = fixture.test_dir.path().join("backup.tar.zst");
    let done = back_up(&fixture, &file, &[]);
    assert!(done.status.success(), "{}", shown(&done));
    assert!(shown(&done).contains("does not contain the master key"), "{}", shown(&done));
    let again = back_up(&fixture, &file, &[]);
    assert!(!again.status.success() && shown(&again).contains("exists"), "{}", shown(&again));
    let running = restore(&fixture, &file);
    assert!(shown(&running).contains("stop it first"), "{}", shown(&running));
    fixture.server.stop();
    let used = restore(&fixture, &file);
    assert!(!used.status.success(), "{}", shown(&used));
    assert!(shown(&used).contains("empty"), "{}", shown(&used));

    let key = std::fs::read(fixture.server.data_dir().join("master.key")).expect("the key");
    let first = std::fs::read(fixture.server.data_dir().join("bootstrap_key")).expect("the key");
    let whole = std::fs::read(&file).expect("read");
    let bad = fixture.test_dir.path().join("bad.tar.zst");
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 0x10;
    lose_everything(&mut fixture);
    for content in [&changed[..], &whole[..whole.len() - 1], &whole[..whole.len() / 2], b""] {
        std::fs::write(&bad, content).expect("write");
        for refused in [verify(&bad), restore(&fixture, &bad)] {
            assert!(!refused.status.success(), "{}", shown(&refused));
            assert!(shown(&refused).contains("backup"), "{}", shown(&refused));
        }
        let names: Vec<_> = std::fs::read_dir(fixture.server.data_dir()).expect("list").collect();
        assert_eq!(names.len(), 1, "more than the lock: {names:?}");
    }

    // A restore that was killed: no server starts on it, and it can be repeated.
    let partial = fixture.server.data_dir().join("restore.new");
    std::fs::create_dir(&partial).expect("make");
    std::fs::write(partial.join("database.sqlite"), b"half").expect("write");
    let refused = fixture.server.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(shown(&refused).contains("restore"), "{}", shown(&refused));
    let done = restore(&fixture, &file);
    assert!(done.status.success(), "{}", shown(&done));
    assert!(!partial.exists());

    // Without its key the server does not start, and creates no other one.
    let locked = fixture.server.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(shown(&locked).contains("master key"), "{}", shown(&locked));
    std::fs::write(fixture.server.data_dir().join("master.key"), key).expect("write");
    std::fs::write(fixture.server.data_dir().join("bootstrap_key"), first).expect("write");
    fixture.server.resume();
    fixture.server.ready().await;
    let agents: Value = fixture.api.get("/api/agents").await.expect(200);
    assert_eq!(agents.list("items").len(), 0);
}
