//! The `muster` command: what it keeps, prints and exits with.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{AgentOptions, Cli, Script, World, ended, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

async fn logged_in(world: &World) -> Cli {
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    cli
}

/// The one command of this world, once it has printed something.
async fn printing(world: &World) -> String {
    let run = eventually("the run is there", async || {
        let listed = world.api.get("/api/commands").await.expect(200);
        listed["items"][0]["id"].as_str().map(str::to_owned)
    });
    let run = run.await;
    world.api.output_reaches(&run, 1).await;
    run
}

#[tokio::test]
async fn a_login_is_kept_for_its_owner_alone_and_a_wrong_key_is_not_kept() {
    let mut world = World::on_sqlite().await;
    let cli = Cli::new(&world.site);
    let url = world.server.url();
    let wrong = format!("mst_live_{}", "x".repeat(43));
    let refused = cli.run_with_input(&["login", "--server", &url], &wrong).await;
    refused.expect(1);
    cli.run(&["agents"]).await.expect(2);

    let said = cli.run_with_input(&["login", "--server", &url], world.api.key()).await;
    assert!(!said.expect(0).contains(world.api.key()), "the key is printed");
    let kept = cli.home().join(".config/muster/config.toml");
    let mode = std::fs::metadata(&kept).expect("the context").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(cli.run(&["agents", "--json"]).await.json()["items"], json!([]));
    // The key belongs to the server that it was kept for.
    cli.run(&["agents", "--server", "http://127.0.0.1:1"]).await.expect(2);
    world.server.stop();
    cli.run(&["agents"]).await.expect(3);
}

#[tokio::test]
async fn keys_and_agents_can_be_looked_after() {
    let world = World::on_sqlite().await;
    let cli = logged_in(&world).await;
    let made = ["keys", "create", "web", "--permission", "ping", "--tag", "blue", "--json"];
    let made = cli.run(&made).await.json();
    assert!(made["key"].as_str().is_some_and(|key| key.starts_with("mst_agent_")), "{made}");
    assert_eq!((&made["permissions"], &made["tags"]), (&json!(["ping"]), &json!(["blue"])));
    assert!(!cli.run(&["keys"]).await.expect(0).contains("mst_agent_"));
    cli.run(&["keys", "disable", "web"]).await.expect(0);
    let shown = cli.run(&["keys", "show", "web", "--json"]).await.json();
    assert_eq!(shown["status"], "disabled", "{shown}");

    let (_agent, id) = world.agent(AgentOptions::named("agent")).await;
    cli.run(&["agents", "rename", &id, "front"]).await.expect(0);
    assert!(cli.run(&["agents"]).await.expect(0).contains("front"));
    cli.run(&["ping", "front"]).await.expect(0);
    let echo = ["command", "front", "echo", "--data", r#"{"message": "✓"}"#, "--json"];
    assert_eq!(cli.run(&echo).await.json()["data"]["message"], "✓");
    let nobody = cli.run(&["ping", "nobody"]).await;
    nobody.expect(2);
    assert!(nobody.stderr.contains("nobody"), "{}", nobody.stderr);
    cli.run(&["ping"]).await.expect(2);
}

#[tokio::test]
async fn a_run_prints_both_streams_and_exits_as_the_script_did() {
    let world = World::on_sqlite().await;
    let body = "printf '\\377 %s\\n' \"$NAME\"; echo oh >&2; exit 7";
    let scripts =
        [Script::new("seven", body).taking(["NAME"]), Script::new("crash", "kill -KILL $$")];
    let (_agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&world).await;
    let said = cli.run(&["run", &id, "seven", "NAME=Ada = x"]).await;
    assert_eq!(said.code, Some(7), "{}", said.stderr);
    assert_eq!(said.stdout, b"\xff Ada = x\n");
    assert!(said.stderr.contains("oh"), "{}", said.stderr);
    cli.run(&["run", &id, "crash"]).await.expect(128 + 9);
    let unlisted = cli.run(&["run", &id, "nothing"]).await;
    unlisted.expect(1);
    assert!(unlisted.stderr.contains("nothing"), "{}", unlisted.stderr);
}

#[tokio::test]
async fn a_run_is_followed_across_the_end_of_server_and_agent() {
    let mut world = World::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (mut agent, id) = world.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&world).await;
    let following = cli.start(&["run", &id, "long"]);
    printing(&world).await;
    world.server.kill_9();
    agent.kill_9();
    world.server.resume();
    agent.resume();
    let said = ended(following).await;
    said.expect(0);
    assert!(said.stderr.matches("trying again").count() <= 1, "{}", said.stderr);
    assert!(said.stdout == Script::counted(2_000), "{} bytes: {}", said.stdout.len(), said.stderr);
}

#[tokio::test]
async fn an_interrupt_ends_the_run_and_not_only_the_following() {
    let world = World::on_sqlite().await;
    let scripts = [Script::new("sleep", "echo begun; exec sleep 600")];
    let (_agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&world).await;
    let following = cli.start(&["run", &id, "sleep"]);
    let run = printing(&world).await;
    kill(Pid::from_raw(following.id() as i32), Signal::SIGINT).expect("interrupt");
    ended(following).await.expect(130);
    assert_eq!(world.api.finished(&run).await["state"], "cancelled");
}

#[tokio::test]
async fn a_detached_run_is_found_again_and_cancelled() {
    let world = World::on_sqlite().await;
    let scripts = [Script::new("sleep", "exec sleep 600")];
    let (_agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&world).await;
    let run = cli.run(&["run", "--detach", &id, "sleep"]).await.expect(0);
    let run = run.trim();
    world.api.in_state(run, "running").await;
    let shown = cli.run(&["commands", "show", run, "--json"]).await.json();
    assert_eq!(shown["id"], run);
    cli.run(&["commands", "cancel", run]).await.expect(0);
    assert_eq!(world.api.finished(run).await["state"], "cancelled");
}

#[tokio::test]
async fn a_new_key_comes_with_the_line_to_paste_and_its_agent_can_be_waited_for() {
    let world = World::on_sqlite().await;
    let cli = logged_in(&world).await;
    let made = cli.run(&["keys", "create", "web"]).await;
    let key = made.expect(0);
    let line = format!("{}/install/deploy.sh | sudo sh -s -- --key {key}", world.server.url());
    assert!(made.stderr.contains(line.trim()), "{}", made.stderr);

    let none = cli.run(&["agents", "wait", "front", "--timeout", "0"]).await;
    none.expect(1);
    assert!(none.stderr.contains("--status"), "{}", none.stderr);
    let (_agent, id) = world.agent(AgentOptions::named("front")).await;
    cli.run(&["agents", "rename", &id, "front"]).await.expect(0);
    assert!(cli.run(&["agents", "wait", "front"]).await.expect(0).contains(&id));
}

#[tokio::test]
async fn whoever_waits_for_an_agent_hears_of_it_when_it_connects() {
    let world = World::on_sqlite().await;
    let cli = logged_in(&world).await;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let waiting = cli.start(&["agents", "wait", hostname.trim(), "--json"]);
    let (_agent, id) = world.agent(AgentOptions::named("late")).await;
    assert_eq!(ended(waiting).await.json()["id"], id.as_str());
}

#[tokio::test]
async fn a_terminal_gets_text_and_colours_and_a_pipe_every_byte() {
    let world = World::on_sqlite().await;
    let body = r"printf 'a\033]0;title\007\033[31mred\033[0m\033[2J\033]52;c;aGk=\033\\b\n'";
    let options = AgentOptions::with_scripts([Script::new("steer", body)]);
    let (_agent, id) = world.agent(options).await;
    let cli = logged_in(&world).await;
    let all = b"a\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J\x1b]52;c;aGk=\x1b\\b\n";
    assert_eq!(cli.run(&["run", &id, "steer"]).await.stdout, all);
    let shown = cli.run_on_a_terminal(&["run", &id, "steer"]).await;
    assert_eq!(shown.expect(0), "a\x1b[31mred\x1b[0mb\r\n");
    // The terminal turns each line break into two characters, and leaves the rest.
    let raw = cli.run_on_a_terminal(&["run", "--raw", &id, "steer"]).await;
    assert_eq!(raw.expect(0).replace("\r\n", "\n").as_bytes(), all);
}

#[tokio::test]
async fn parameters_can_be_announced_and_a_refusal_says_what_was_meant() {
    let world = World::on_sqlite().await;
    let options = AgentOptions::with_scripts([
        Script::new("greet", "echo \"$WHO $HOW\"").taking(["WHO", "HOW"])
    ]);
    let (_agent, id) = world.agent(options).await;
    let cli = logged_in(&world).await;
    let said = cli.run(&["run", "-p", "WHO=Ada", &id, "greet", "--parameter", "HOW=a=b"]).await;
    assert_eq!(said.expect(0), "Ada a=b\n");
    // What it has run stands on the list that the host has told.
    let refused = cli.run(&["run", &id, "great"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("did you mean `greet`?"), "{}", refused.stderr);
    let rejected = cli.run(&["run", "--on-mismatch", "send", &id, "great"]).await;
    rejected.expect(1);
    assert!(rejected.stderr.contains("the host refused"), "{}", rejected.stderr);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_following_and_not_the_run() {
    let world = World::on_sqlite().await;
    let script = Script::counting("long", 400, 50, "0.1");
    let (_agent, id) = world.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&world).await;
    let mut following = cli.start(&["run", &id, "long"]);
    drop(following.stdout.take());
    let run = printing(&world).await;
    let said = ended(following).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(141), ""));
    assert_eq!(world.api.finished(&run).await["state"], "succeeded");
    assert!(world.api.output(&run).await == Script::counted(400), "all of it is kept");
}
