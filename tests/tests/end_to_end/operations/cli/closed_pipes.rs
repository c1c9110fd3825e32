//! Programs whose output is not read, as in `muster-server openapi | head -1`: they end without a message.

use std::process::Command;

use muster_tests::{AgentOptions, Fixture, JsonFields as _, Script, TestDir, binary, unread};
use serde_json::json;

/// 128 + SIGPIPE.
const CLOSED_PIPE: Option<i32> = Some(141);

#[tokio::test]
async fn server_and_agent_end_without_a_message_if_their_output_is_not_read() {
    let test_dir = TestDir::new();
    let state = test_dir.folder("state").display().to_string();
    for (program, args, code) in [
        ("muster-server", &["openapi"][..], CLOSED_PIPE),
        ("muster-server", &["asyncapi"], CLOSED_PIPE),
        ("muster-server", &["frames"], CLOSED_PIPE),
        ("muster-server", &["--help"], Some(0)),
        ("muster-agent", &["version"], Some(0)),
        ("muster-agent", &["explain", "--state-dir", &state], Some(0)),
        ("muster-agent", &["doctor", "--state-dir", &state], Some(1)),
        ("muster-agent", &["--help"], Some(0)),
        ("muster-supervisor", &["--help"], Some(0)),
    ] {
        let mut command = Command::new(binary(program));
        command.args(args).env_clear();
        let said = unread(command).await;
        assert_eq!((said.code, said.stderr.as_str()), (code, ""), "{program} {args:?}");
    }
}

#[tokio::test]
async fn every_command_that_prints_ends_without_a_message_if_its_output_is_not_read() {
    let fixture = Fixture::on_sqlite().await;
    let options = AgentOptions::with_scripts([Script::new("hello", "echo hello")]);
    let (_agent, agent) = fixture.agent(options).await;
    let cli = fixture.cli().await;
    let run = fixture.api.execute(&agent, "hello", json!({})).await;
    fixture.api.finished(&run).await;
    cli.run(&["groups", "create", "web", "--tag", "web"]).await.expect(0);
    let keys = fixture.api.get("/api/agents/keys").await.expect(200);
    let key = keys["items"][0].text("id").to_owned();
    for args in [
        &["agents"][..],
        &["agents", "list"],
        &["agents", "show", &agent],
        &["agents", "scripts", &agent],
        &["keys"],
        &["keys", "show", &key],
        &["api-keys"],
        &["jobs"],
        &["executions"],
        &["executions", "show", &run],
        &["commands"],
        &["groups"],
        &["groups", "show", "web"],
        &["release", "list"],
        &["webhooks"],
        &["logs", &run],
        &["verify", &run],
        &["ping", &agent],
        &["command", &agent, "info"],
        &["run", &agent, "hello"],
        &["completion", "bash"],
    ] {
        let said = cli.run_unread(args).await;
        assert_eq!((said.code, said.stderr.as_str()), (CLOSED_PIPE, ""), "{args:?}");
        // These print no JSON, or the script's output on standard error.
        if ["logs", "completion", "run"].contains(&args[0]) {
            continue;
        }
        let json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let said = cli.run_unread(&json).await;
        assert_eq!((said.code, said.stderr.as_str()), (CLOSED_PIPE, ""), "{json:?}");
    }
    for args in [["keys", "create", "one"], ["api-keys", "create", "one"]] {
        let said = cli.run_unread(&args).await;
        assert_eq!((said.code, said.stderr.as_str()), (CLOSED_PIPE, ""), "{args:?}");
    }
}

/// Each command's own list of commands, as its help shows it.
async fn commands_of(cli: &muster_tests::Cli, path: &[String]) -> Vec<Vec<String>> {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = cli.run(&args).await.expect(0);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // Names have two spaces in front, continued descriptions more.
        let name = line.strip_prefix("  ")?.split_whitespace().next()?;
        (!line.starts_with("   ") && name != "help").then(|| name.to_owned())
    });
    names.map(|name| path.iter().cloned().chain([name]).collect()).collect()
}

#[tokio::test]
async fn help_of_every_command_may_be_cut_off() {
    let test_dir = TestDir::new();
    let cli = muster_tests::Cli::new(&test_dir);
    let mut paths = vec![Vec::new()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let said = cli.run_unread(&args).await;
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{path:?}");
        paths.extend(commands_of(&cli, &path).await);
        next += 1;
    }
    assert!(paths.len() > 40, "{paths:?}");
}
