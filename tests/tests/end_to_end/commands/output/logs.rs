//! `muster logs`: every byte once, even if programs are killed in the meantime.

use std::io::Read as _;

use muster_tests::{AgentOptions, Cli, Fixture, JsonFields as _, Script, ended, eventually};
use serde_json::{Value, json};

async fn logged_in(fixture: &Fixture) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli
}

#[tokio::test]
async fn logs_print_each_stream_to_its_own_descriptor() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::new("both", "printf 'one\\377\\n'; echo oh >&2; exit 3");
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&fixture).await;
    let run = fixture.api.execute(&id, "both", json!({})).await;
    fixture.api.finished(&run).await;
    let said = cli.run(&["logs", &run]).await;
    assert_eq!((said.code, said.stdout.as_slice()), (Some(0), b"one\xff\n".as_slice()));
    assert_eq!(said.stderr, "oh\n");
    let alone = cli.run(&["logs", &run, "--stream", "stderr", "-f"]).await;
    assert_eq!((alone.code, alone.stdout.as_slice()), (Some(0), b"oh\n".as_slice()));
    let behind = cli.run(&["logs", &run, "--from", "4", "--stream", "stdout"]).await;
    assert_eq!((behind.code, behind.stdout.len()), (Some(0), 1), "{}", behind.stderr);
    let short = cli.run(&["logs", &run[..8]]).await;
    assert_eq!((short.code, short.stdout), (said.code, said.stdout));
    for wrong in
        [&["logs", "both"][..], &["logs", "00000000"], &["logs", &id], &["logs", &run, "--json"]]
    {
        cli.run(wrong).await.expect(2);
    }
}

#[tokio::test]
async fn logs_are_searched_by_the_server_and_show_when_they_were_received() {
    let fixture = Fixture::on_sqlite().await;
    let lines = "echo first error; echo fine; echo 'ERROR again' >&2; printf '\\033[31mred error\\033[0m\\n'";
    let (_agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("lines", lines)])).await;
    let cli = logged_in(&fixture).await;
    let run = fixture.api.execute(&id, "lines", json!({})).await;
    fixture.api.finished(&run).await;
    let found = cli.run(&["logs", &run[..8], "--search", "error"]).await.expect(0);
    let mut shown: Vec<_> = found.lines().filter_map(|line| line.split_once(": ")).collect();
    shown.sort_by_key(|(_, text)| *text);
    let texts: Vec<_> = shown.iter().map(|(_, text)| *text).collect();
    assert_eq!(texts, ["ERROR again", "first error", "red error"], "{found}");
    assert!(shown[0].0.ends_with(" (stderr)") && shown[1].0 == "0", "{found}");
    let one = ["logs", &run, "--search", "error", "--stream", "stdout", "--limit", "1"];
    let said = cli.run(&one).await;
    assert_eq!((said.code, said.stdout.as_slice()), (Some(0), b"0: first error\n".as_slice()));
    assert!(said.stderr.contains("--limit"), "{}", said.stderr);
    let all = cli.run(&["logs", &run, "--search", "error", "--json"]).await.json();
    assert_eq!(all.list("items").len(), 3, "{all}");
    let none = cli.run(&["logs", &run, "--search", "nothing"]).await;
    assert_eq!((none.code, none.stdout.len()), (Some(0), 0));
    assert!(none.stderr.contains("no line has this text"), "{}", none.stderr);

    let said = cli.run(&["logs", &run, "--times", "--utc"]).await;
    let marks = fixture.api.get(&format!("/api/executions/{run}/output/times")).await.expect(200);
    let at = marks["items"][0].text("received_at");
    let first = format!("{} {}Z | first error", &at[..10], &at[11..19]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().next(), Some(first.as_str()));
    assert!(said.stderr.ends_with("Z | ERROR again\n"), "{}", said.stderr);
    for wrong in
        [&["--times", "--follow"][..], &["--search", "x", "--from", "2"], &["--limit", "2"]]
    {
        cli.run(&[&["logs", &run][..], wrong].concat()).await.expect(2);
    }
    let job = json!({"script": "lines", "target": {"ids": [id]}});
    let job = fixture.api.post("/api/jobs", job).await.expect(202).id().to_owned();
    let refused = cli.run(&["logs", &job, "--search", "error"]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("needs the id of an execution"), "{}", refused.stderr);
}

#[tokio::test]
async fn logs_continue_across_restarts_of_server_and_agent() {
    let mut fixture = Fixture::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&fixture).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    let following = cli.start(&["logs", "--follow", &run]);
    fixture.api.output_reaches(&run, 1).await;
    fixture.server.kill_9();
    agent.kill_9();
    fixture.server.resume();
    agent.resume();
    let said = ended(following).await;
    said.expect(0);
    assert!(said.stdout == Script::counted(2_000), "{} bytes: {}", said.stdout.len(), said.stderr);
}

#[tokio::test]
async fn logs_without_follow_print_what_is_stored_and_ignore_a_closed_pipe() {
    let fixture = Fixture::on_sqlite().await;
    let script =
        Script::new("flood", "yes 'a line of the flood' | head -c 3000000; exec sleep 600");
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&fixture).await;
    let run = fixture.api.execute(&id, "flood", json!({})).await;
    fixture.api.output_reaches(&run, 3_000_000).await;
    assert_eq!(cli.run(&["logs", &run]).await.stdout.len(), 3_000_000);
    let mut child = cli.start(&["logs", "-f", &run]);
    let mut begun = [0; 6];
    child.stdout.take().expect("a pipe").read_exact(&mut begun).expect("a line");
    let said = ended(child).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(141), ""));
    fixture.api.post(&format!("/api/commands/{run}/cancel"), json!({})).await.expect(202);
    fixture.api.finished(&run).await;
}

/// Lines of a job's logs, sorted, because executions are printed in any order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn logs_of_a_job_prefix_lines_with_agent_names_until_it_ends() {
    let fixture = Fixture::on_sqlite().await;
    let gate = fixture.test_dir.path().join("gate");
    let body = "echo begun; while [ ! -e \"$GATE\" ]; do sleep 0.05; done; printf 'last'";
    let mut agents = Vec::new();
    for name in ["one", "two"] {
        let scripts = vec![Script::new("gate", body).taking(["GATE"])];
        let options = AgentOptions { scripts, ..AgentOptions::named(name) };
        let (agent, id) = fixture.agent(options).await;
        let path = format!("/api/agents/{id}");
        fixture.api.patch(&path, json!({"name": name, "tags": ["web"]})).await.expect(200);
        agents.push((agent, id));
    }
    // The agent is offline when the job starts.
    agents[1].0.stop();
    let path = format!("/api/agents/{}", agents[1].1);
    eventually("it is away", async || {
        (fixture.api.get(&path).await.expect(200)["status"] == "offline").then_some(())
    })
    .await;
    let cli = logged_in(&fixture).await;
    let body = json!({"script": "gate", "parameters": {"GATE": gate}, "target": {"tags": ["web"]}});
    let job: Value = fixture.api.post("/api/jobs", body).await.expect(202);
    let job = job.id();
    let mut following = cli.start(&["logs", "-f", job]);
    let mut first = [0; 12];
    following.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a line");
    assert_eq!(&first, b"one | begun\n");
    agents[1].0.resume();
    following.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("a line");
    assert_eq!(&first, b"two | begun\n");
    std::fs::write(&gate, "").expect("open the gate");
    let said = ended(following).await;
    assert_eq!(sorted(&said.expect(0)), ["one | last", "two | last"], "{}", said.stderr);
    let all = cli.run(&["logs", job]).await.expect(0);
    assert_eq!(sorted(&all), ["one | begun", "one | last", "two | begun", "two | last"]);
    // The executions were created with the job, so their ids begin alike.
    let short = cli.run(&["logs", &job[..8]]).await.expect(0);
    assert_eq!(sorted(&short), sorted(&all));
}
