//! The `muster` command: what it stores and prints, and its exit codes.

mod closed_pipes;
mod output;

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{Agent, AgentOptions, Cli, Fixture, JsonFields as _, Script, ended, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

async fn logged_in(fixture: &Fixture) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli
}

/// The only command on this server, after it has printed something.
async fn printing(fixture: &Fixture) -> String {
    let run = eventually("the run is there", async || {
        let listed = fixture.api.get("/api/commands").await.expect(200);
        listed["items"][0]["id"].as_str().map(str::to_owned)
    });
    let run = run.await;
    fixture.api.output_reaches(&run, 1).await;
    run
}

#[tokio::test]
async fn login_is_stored_for_its_owner_only_and_a_wrong_key_is_not_stored() {
    let mut fixture = Fixture::on_sqlite().await;
    let cli = Cli::new(&fixture.test_dir);
    let url = fixture.server.url();
    let wrong = format!("mst_live_{}", "x".repeat(43));
    let refused = cli.run_with_input(&["login", "--server", &url], &wrong).await;
    refused.expect(1);
    cli.run(&["agents"]).await.expect(2);

    let said = cli.run_with_input(&["login", "--server", &url], fixture.api.key()).await;
    assert!(!said.expect(0).contains(fixture.api.key()), "the key is printed");
    let kept = cli.home().join(".config/muster/config.toml");
    let mode = std::fs::metadata(&kept).expect("the context").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(cli.run(&["agents", "--json"]).await.json()["items"], json!([]));
    let secure = ["login", "--server", &url.replace("http:", "https:")];
    let refused = cli.run_with_input(&secure, fixture.api.key()).await;
    refused.expect(3);
    assert!(refused.stderr.contains("this server speaks plain http"), "{}", refused.stderr);
    // The key belongs to the server that it was stored for.
    cli.run(&["agents", "--server", "http://127.0.0.1:1"]).await.expect(2);
    fixture.server.stop();
    cli.run(&["agents"]).await.expect(3);
}

#[tokio::test]
async fn command_line_manages_keys_and_agents() {
    let fixture = Fixture::on_sqlite().await;
    let cli = logged_in(&fixture).await;
    let made = ["keys", "create", "web", "--permission", "ping", "--tag", "blue", "--json"];
    let made = cli.run(&made).await.json();
    assert!(made["key"].as_str().is_some_and(|key| key.starts_with("mst_agent_")), "{made}");
    assert_eq!((&made["permissions"], &made["tags"]), (&json!(["ping"]), &json!(["blue"])));
    assert!(!cli.run(&["keys"]).await.expect(0).contains("mst_agent_"));
    cli.run(&["keys", "disable", "web"]).await.expect(0);
    let shown = cli.run(&["keys", "show", "web", "--json"]).await.json();
    assert_eq!(shown["status"], "disabled", "{shown}");

    let (_agent, id) = fixture.agent(AgentOptions::named("agent")).await;
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
async fn printed_remedy_for_a_missing_permission_works_and_costs_no_identity() {
    let fixture = Fixture::on_sqlite().await;
    let cli = logged_in(&fixture).await;
    let made = cli.run(&["keys", "create", "web", "--json"]).await;
    let offered = remedy(&made.stderr).to_owned();
    let made = made.json();
    let (key_id, key) = (made.id(), made.text("key"));
    let options = AgentOptions::named("agent");
    let _agent = Agent::start(&fixture.test_dir, &fixture.server.url(), key, options);
    let id = fixture.online(key_id).await.id().to_owned();

    let refused = cli.run(&["command", &id, "restart"]).await;
    refused.expect(1);
    let printed = remedy(&refused.stderr);
    assert_eq!(printed.split(' ').collect::<Vec<_>>()[..3], ["keys", "set", key_id]);
    let run = async |line: &str| {
        cli.run(&line.split(' ').collect::<Vec<_>>()).await.expect(0);
    };
    run(printed).await;
    let restarted = cli.run(&["command", &id, "restart", "--json"]).await;
    restarted.expect(0);
    // The same for what `keys create` offers.
    run(&offered).await;
    let key = cli.run(&["keys", "show", "web", "--json"]).await.json();
    let permissions = ["ping", "info", "echo", "scripts", "execute", "restart", "update"];
    assert_eq!(key["permissions"], json!(permissions), "{key}");
    let agents = fixture.agents_of(key_id).await;
    assert_eq!((agents.len(), agents[0].id()), (1, id.as_str()), "{agents:?}");
}

/// The arguments of the `muster` command in a message.
fn remedy(message: &str) -> &str {
    let (_, line) = message.split_once("muster keys set ").expect("a remedy");
    let end = line.find(['`', '\n']).unwrap_or(line.len());
    let start = message.len() - line.len() - "keys set ".len();
    message[start..][.."keys set ".len() + end].trim_end()
}

#[tokio::test]
async fn run_prints_both_streams_and_exits_like_the_script() {
    let fixture = Fixture::on_sqlite().await;
    let body = "printf '\\377 %s\\n' \"$NAME\"; echo oh >&2; exit 7";
    let scripts =
        [Script::new("seven", body).taking(["NAME"]), Script::new("crash", "kill -KILL $$")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&fixture).await;
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
async fn run_is_followed_across_restarts_of_server_and_agent() {
    let mut fixture = Fixture::on_sqlite().await;
    let script = Script::counting("long", 2_000, 50, "0.05");
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&fixture).await;
    let following = cli.start(&["run", &id, "long"]);
    printing(&fixture).await;
    fixture.server.kill_9();
    agent.kill_9();
    fixture.server.resume();
    agent.resume();
    let said = ended(following).await;
    said.expect(0);
    assert!(said.stderr.matches("trying again").count() <= 1, "{}", said.stderr);
    assert!(said.stdout == Script::counted(2_000), "{} bytes: {}", said.stdout.len(), said.stderr);
}

#[tokio::test]
async fn interrupt_cancels_the_run() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [Script::new("sleep", "echo begun; exec sleep 600")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&fixture).await;
    let following = cli.start(&["run", &id, "sleep"]);
    let run = printing(&fixture).await;
    kill(Pid::from_raw(following.id() as i32), Signal::SIGINT).expect("interrupt");
    ended(following).await.expect(130);
    assert_eq!(fixture.api.finished(&run).await["state"], "cancelled");
}

#[tokio::test]
async fn detached_run_can_be_found_and_cancelled() {
    let fixture = Fixture::on_sqlite().await;
    let scripts = [Script::new("sleep", "exec sleep 600")];
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let cli = logged_in(&fixture).await;
    let run = cli.run(&["run", "--detach", &id, "sleep"]).await.expect(0);
    let run = run.trim();
    fixture.api.in_state(run, "running").await;
    let shown = cli.run(&["commands", "show", run, "--json"]).await.json();
    assert_eq!(shown["id"], run);
    cli.run(&["commands", "cancel", run]).await.expect(0);
    assert_eq!(fixture.api.finished(run).await["state"], "cancelled");
}

#[tokio::test]
async fn new_key_prints_the_install_line_and_can_wait_for_its_agent() {
    let fixture = Fixture::on_sqlite().await;
    let cli = logged_in(&fixture).await;
    let made = cli.run(&["keys", "create", "web"]).await;
    let key = made.expect(0);
    let line = format!("{}/install/deploy.sh | sudo sh -s -- --key {key}", fixture.server.url());
    assert!(made.stderr.contains(line.trim()), "{}", made.stderr);

    let none = cli.run(&["agents", "wait", "front", "--timeout", "0"]).await;
    none.expect(1);
    assert!(none.stderr.contains("--status"), "{}", none.stderr);
    let (_agent, id) = fixture.agent(AgentOptions::named("front")).await;
    cli.run(&["agents", "rename", &id, "front"]).await.expect(0);
    assert!(cli.run(&["agents", "wait", "front"]).await.expect(0).contains(&id));
}

#[tokio::test]
async fn waiting_for_an_agent_ends_when_it_connects() {
    let fixture = Fixture::on_sqlite().await;
    let cli = logged_in(&fixture).await;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let waiting = cli.start(&["agents", "wait", hostname.trim(), "--json"]);
    let (_agent, id) = fixture.agent(AgentOptions::named("late")).await;
    assert_eq!(ended(waiting).await.json()["id"], id.as_str());
}

#[tokio::test]
async fn terminal_gets_text_and_colours_and_a_pipe_gets_every_byte() {
    let fixture = Fixture::on_sqlite().await;
    let body = r"printf 'a\033]0;title\007\033[31mred\033[0m\033[2J\033]52;c;aGk=\033\\b\n'";
    let options = AgentOptions::with_scripts([Script::new("steer", body)]);
    let (_agent, id) = fixture.agent(options).await;
    let cli = logged_in(&fixture).await;
    let all = b"a\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b[2J\x1b]52;c;aGk=\x1b\\b\n";
    assert_eq!(cli.run(&["run", &id, "steer"]).await.stdout, all);
    let shown = cli.run_on_a_terminal(&["run", &id, "steer"]).await;
    assert_eq!(shown.expect(0), "a\x1b[31mred\x1b[0mb\r\n");
    // The terminal turns each line break into two characters and changes nothing else.
    let raw = cli.run_on_a_terminal(&["run", "--raw", &id, "steer"]).await;
    assert_eq!(raw.expect(0).replace("\r\n", "\n").as_bytes(), all);
}

#[tokio::test]
async fn parameters_are_passed_and_a_refusal_suggests_the_right_name() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([
        Script::new("greet", "echo \"$WHO $HOW\"").taking(["WHO", "HOW"])
    ]);
    let (_agent, id) = fixture.agent(options).await;
    let cli = logged_in(&fixture).await;
    let said = cli.run(&["run", "-p", "WHO=Ada", &id, "greet", "--parameter", "HOW=a=b"]).await;
    assert_eq!(said.expect(0), "Ada a=b\n");
    // The script is in the manifest that the host reported.
    let refused = cli.run(&["run", &id, "great"]).await;
    refused.expect(1);
    assert!(refused.stderr.contains("did you mean `greet`?"), "{}", refused.stderr);
    let rejected = cli.run(&["run", "--on-mismatch", "send", &id, "great"]).await;
    rejected.expect(1);
    assert!(rejected.stderr.contains("the host refused"), "{}", rejected.stderr);
}

#[tokio::test]
async fn closed_pipe_ends_the_output_and_not_the_run() {
    let fixture = Fixture::on_sqlite().await;
    let script = Script::counting("long", 400, 50, "0.1");
    let (_agent, id) = fixture.agent(AgentOptions::with_scripts([script])).await;
    let cli = logged_in(&fixture).await;
    let mut following = cli.start(&["run", &id, "long"]);
    drop(following.stdout.take());
    let run = printing(&fixture).await;
    let said = ended(following).await;
    assert_eq!((said.code, said.stderr.as_str()), (Some(141), ""));
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    assert!(fixture.api.output(&run).await == Script::counted(400), "all of it is kept");
}
