//! The output of a service that prints much, with real servers and agents that are killed meanwhile.

use muster_tests::{Fixture, JsonFields as _, eventually, on_both_databases};
use serde_json::json;

use super::{hosted, in_state, remove};

on_both_databases!(the_newest_output_of_a_service_is_kept_although_server_and_agent_are_killed,);

/// Prints 15 MB at once, and then nothing.
const BURST: &str = "seq 1 2000000\necho end\nexec tail -f /dev/null\n";

/// Prints 15 MB of numbers, and then lines until it is ended.
const NOISY: &str = "seq 1 2000000\nwhile true; do echo end; sleep 0.1; done\n";
const SETTINGS: &str = "max_log_bytes = 4194304";
const KEPT: usize = 4 * 1024 * 1024;

/// What the program prints, with more of its last lines than it prints during a test.
fn printed() -> String {
    let numbers: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    numbers + &"end\n".repeat(100_000)
}

/// Checks kept output against what was printed: each part is a part of it, and each gap has the size that the
/// line in its place says.
fn check(kept: &str, printed: &str) {
    let mut lines = kept.lines().skip(1).zip(kept.lines().skip(2));
    let whole = lines.find_map(|(line, next)| {
        let (one, two) = (line.parse::<u64>().ok()?, next.parse::<u64>().ok()?);
        (one + 1 == two).then_some(one)
    });
    let line = format!("\n{}\n", whole.expect("two numbers in a row"));
    let from = kept.find(&line).expect("it is there") + 1;
    let mut at = printed.find(&line).expect("it was printed") + 1;
    for (number, part) in kept[from..].split("\n[muster: ").enumerate() {
        let part = match part.split_once("]\n").filter(|_| number > 0) {
            Some((text, part)) => {
                let missing = text.split(' ').next().and_then(|count| count.parse::<usize>().ok());
                at += missing.expect("a number of bytes");
                part
            }
            None => part,
        };
        assert!(printed[at..].starts_with(part), "part {number} is not what was printed");
        at += part.len();
    }
}

async fn the_newest_output_of_a_service_is_kept_although_server_and_agent_are_killed(
    mut fixture: Fixture,
) {
    let mut hosted = hosted(&fixture, NOISY, SETTINGS).await;
    let running = in_state(&fixture, &hosted.id, "running").await;
    let run = running.text("run_id").to_owned();
    fixture.server.kill_9();
    fixture.server.resume();
    hosted.agent.kill_9();
    hosted.agent.resume();
    let path = format!("/api/executions/{run}/output");
    let answer = eventually("the last lines are there", async || {
        let answer = fixture.api.get(&path).await;
        let is_there = answer.status == 200 && answer.bytes.ends_with(b"end\nend\n");
        is_there.then_some(answer)
    })
    .await;
    let printed = printed();
    let kept = String::from_utf8(answer.bytes.clone()).expect("text");
    check(&kept, &printed);
    assert!(kept.len() < 2 * KEPT, "{}", kept.len());
    let first: u64 = match answer.header("muster-first-offset") {
        "" => 0,
        text => text.parse().expect("a number"),
    };
    // The spool of the host takes no more than it may.
    let file = hosted.agent.state_dir().join("executions").join(&run).join("output");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file).expect("there"));
    assert!(blocks * 512 <= KEPT as u64 + 64 * 1024, "{blocks} blocks");
    if first > 0 {
        assert!(kept.len() >= KEPT, "{}", kept.len());
        let live = format!("/api/executions/{run}/output/live?follow=false");
        let events = String::from_utf8(fixture.api.get(&live).await.bytes).expect("text");
        let removed = events.split("event: removed").nth(1).expect("older output was removed");
        assert!(removed.contains("\"offset_bytes\":0,"), "{}", &removed[..200]);
    }
    let body = json!({});
    fixture.api.post(&format!("/api/services/{}/stop", hosted.id), body).await.expect(202);
    let ended = fixture.api.finished(&run).await;
    assert_eq!(ended["state"], "cancelled");
    let answer = fixture.api.get(&path).await;
    check(std::str::from_utf8(&answer.bytes).expect("text"), &printed);
    remove(&fixture, &hosted.agent, &hosted.id).await;
}

#[tokio::test]
async fn the_last_line_of_a_burst_is_kept_although_nothing_is_printed_after_it() {
    let fixture = Fixture::on_sqlite().await;
    let hosted = hosted(&fixture, BURST, SETTINGS).await;
    let running = in_state(&fixture, &hosted.id, "running").await;
    let path = format!("/api/executions/{}/output", running.text("run_id"));
    let answer = eventually("the last line is there", async || {
        let answer = fixture.api.get(&path).await;
        let is_there = answer.status == 200 && answer.bytes.ends_with(b"\n2000000\nend\n");
        is_there.then_some(answer)
    })
    .await;
    check(std::str::from_utf8(&answer.bytes).expect("text"), &printed());
    remove(&fixture, &hosted.agent, &hosted.id).await;
}
