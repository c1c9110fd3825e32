//! A person follows a stream at the command line for longer than an access token is valid.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use muster_tests::{Cli, Fixture, PASSWORD, ServerOptions, TestDir, eventually, fake_time};
use serde_json::{Value, json};

fn set_clock(file: &Path, offset: &str) {
    std::fs::write(file, offset).expect("write the offset");
}

/// A server whose clock is set by a file.
async fn fixture_with_clock(file: &Path) -> Fixture {
    set_clock(file, "+0s");
    let mut options = ServerOptions::default()
        .with("FAKETIME_TIMESTAMP_FILE", file.display())
        .with("FAKETIME_NO_CACHE", "1");
    for (name, value) in fake_time("+0s") {
        if name != "FAKETIME" {
            options = options.with(name, value);
        }
    }
    Fixture::with(options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_of_a_person_outlives_its_access_tokens_and_repeats_nothing() {
    let folder = TestDir::new();
    let clock = folder.path().join("clock");
    let fixture = fixture_with_clock(&clock).await;
    fixture.owner().await;
    let cli = Cli::new(&fixture.test_dir);
    let url = fixture.server.url();
    let login = ["login", "--server", &url, "--email", "ada@example.com"];
    cli.run_with_input(&login, &format!("{PASSWORD}\n")).await.expect(0);
    let follow = ["audit", "follow", "--json", "--action", "agent_key.create"];
    let mut following = cli.start(&follow);
    let stdout = BufReader::new(following.stdout.take().expect("a pipe"));
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
    });
    let mut seen: Vec<String> = Vec::new();
    let mut made = 0;
    // Twice, so that the refresh token of the first renewal is used, too.
    for offset in ["+0s", "+16m", "+40m"] {
        set_clock(&clock, offset);
        let before = seen.len();
        eventually("the stream shows a change", async || {
            made += 1;
            let body = json!({"name": format!("key {made}")});
            fixture.api.post("/api/agents/keys", body).await.expect(201);
            seen.extend(lines.try_iter());
            (seen.len() > before).then_some(())
        })
        .await;
        // Another command renews the same session meanwhile.
        cli.run(&["whoami"]).await.expect(0);
    }
    let shown = |seen: &[String]| -> Vec<String> {
        let entries = seen.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        entries.map(|entry| entry["subject_id"].as_str().expect("an id").to_owned()).collect()
    };
    let first = shown(&seen)[0].clone();
    eventually("the stream has caught up", async || {
        seen.extend(lines.try_iter());
        let page =
            fixture.api.get("/api/audit?action=agent_key.create&limit=500").await.expect(200);
        let entries = page["items"].as_array().expect("items").iter();
        let mut all: Vec<_> = entries.filter_map(|entry| entry["subject_id"].as_str()).collect();
        all.reverse();
        let from = all.iter().position(|id| *id == first).expect("the first one");
        (shown(&seen) == all[from..]).then_some(())
    })
    .await;
    let distinct: BTreeSet<_> = shown(&seen).into_iter().collect();
    assert_eq!(distinct.len(), seen.len(), "an entry was repeated");
    assert!(following.try_wait().expect("its status").is_none(), "the stream ended");
    following.kill().expect("end the program");
    following.wait().expect("wait for it");
}
