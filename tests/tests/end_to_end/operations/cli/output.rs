//! The output for people at a terminal: lists, and refusals that name the options.

use muster_tests::{
    Agent, AgentOptions, Cli, Fixture, JsonFields as _, Script, ServerOptions, write_policy,
};
use serde_json::json;

async fn logged_in(fixture: &Fixture) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli
}

/// An agent called `one`, with a script `hi`.
async fn host(fixture: &Fixture) -> (Agent, String) {
    let options = AgentOptions::with_scripts([Script::new("hi", "echo hi")]);
    let (agent, id) = fixture.agent(options).await;
    fixture.api.patch(&format!("/api/agents/{id}"), json!({"name": "one"})).await.expect(200);
    (agent, id)
}

#[tokio::test]
async fn list_shows_commands_readably_and_fits_the_terminal() {
    let fixture = Fixture::on_sqlite().await;
    write_policy(&fixture.test_dir.folder("agent"), r#"{"allow": "shell"}"#);
    let (_agent, id) = host(&fixture).await;
    let cli = logged_in(&fixture).await;
    let long = "x".repeat(200);
    let said = cli.run(&["run", "--on", "all", "--", "echo", "two words", &long]).await;
    said.expect(0);
    assert!(said.stderr.contains(" on 1 agent\n"), "{}", said.stderr);
    cli.run(&["run", &id, "hi"]).await.expect(0);

    let jobs = cli.run(&["jobs"]).await.expect(0);
    assert!(jobs.contains("echo 'two words' xxx") && jobs.contains("1 succeeded"), "{jobs}");
    assert!(!jobs.contains('{') && !jobs.contains(&long), "{jobs}");
    let all = cli.run(&["executions"]).await.expect(0);
    let scripts: Vec<_> = all.lines().map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(scripts[1], Some("hi"), "{all}");
    assert!(scripts[2].is_some_and(|line| line.starts_with("echo 'two words' xxx")), "{all}");
    let shown = cli.run(&["jobs", "list", "--json"]).await.json();
    let job = shown["items"][0].id();
    let details = cli.run(&["jobs", "show", job]).await.expect(0);
    assert!(details.contains("counts.succeeded") && !details.contains('{'), "{details}");

    let narrow = cli.run_on_a_terminal_of(110, &["executions"]).await.expect(0);
    assert!(narrow.lines().all(|line| line.chars().count() <= 110), "{narrow}");
    assert!(narrow.contains('…') && !all.lines().any(|line| line.len() <= 110), "{narrow}\n{all}");
    let run = all.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("an id");
    assert!(narrow.contains(run), "ids stay whole: {narrow}");
}

#[tokio::test]
async fn every_list_takes_a_limit_and_reports_more_entries() {
    let options = ServerOptions::default().with("MUSTER_ALLOW_PRIVATE_WEBHOOKS", true);
    let fixture = Fixture::with(options).await;
    let (_agent, id) = host(&fixture).await;
    let cli = logged_in(&fixture).await;
    // No receiver listens there, so they stay pending.
    let webhook = ["--webhook", "http://127.0.0.1:1/"];
    for _ in 0..2 {
        fixture.api.agent_key(json!({"name": "spare"})).await;
        cli.run(&[&["run", "--on", "all", "hi"][..], &webhook].concat()).await.expect(0);
        cli.run(&["run", &id, "hi"]).await.expect(0);
    }
    for name in ["a", "b"] {
        cli.run(&["groups", "create", name, "--on", "tag:nobody"]).await.expect(0);
    }
    let lists: [&[&str]; 6] = [
        &["keys", "list"],
        &["jobs", "list"],
        &["executions", "list"],
        &["commands", "list"],
        &["webhooks", "list"],
        &["groups", "list"],
    ];
    for list in lists {
        let one = cli.run(&[list, &["--limit", "1"]].concat()).await;
        assert_eq!(one.expect(0).lines().count(), 2, "{list:?}");
        assert_eq!(
            one.stderr, "only the newest item is shown; use --limit N for more\n",
            "{list:?}"
        );
        let page = cli.run(&[list, &["--limit", "1", "--json"]].concat()).await;
        assert_eq!(page.stderr, "");
        let page = page.json();
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{list:?}: {page}");
        assert!(page["next_cursor"].is_string(), "{list:?}: {page}");
        let all = cli.run(list).await;
        assert!(all.expect(0).lines().count() > 2 && all.stderr.is_empty(), "{}", all.stderr);
    }
    for list in [&["agents", "list", "--limit", "1"][..], &["release", "list", "--limit", "1"]] {
        cli.run(list).await.expect(0);
    }
    let meant = cli.run(&["agents", "list", "--on", "all", "--json"]).await.json();
    assert_eq!(meant["items"].as_array().map(Vec::len), Some(1), "{meant}");
}

#[tokio::test]
async fn refusal_names_the_matching_options() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = host(&fixture).await;
    let cli = logged_in(&fixture).await;
    for (line, told) in [
        (
            &["run", "one", "ho"][..],
            "Use --on-mismatch send to send it anyway and let each host decide",
        ),
        (&["run", "one", "--", "true"], "Use --on-mismatch send"),
        (&["run", "one", "--", "a/b"], "the first word of the command must be"),
        (&["run", "--tag", "no", "hi"], "`muster agents list`"),
        (&["run", "--tag", "a b", "hi"], "--tag must be 1 to 64 letters"),
        (&["run", "one", "hi", "--timeout", "200h"], "--timeout must be at most 7d"),
        (&["run", "one", "hi", "--timeout-ms", "0"], "--timeout must be at least 1ms"),
        (&["run", "one", "hi", "--expires", "0s"], "--expires must be at least 1ms"),
        (&["run", "--on", "all", "hi", "--wave", "0"], "--wave must be"),
        (
            &["run", "--on", "all", "hi", "--wave", "1", "--pause", "30h"],
            "--pause must be at most 1d",
        ),
        (&["groups", "create", "g"], "--on or --tag is required"),
        (
            &["groups", "create", "g", "--tag", "a", "--version", "new"],
            "--version must be a version such as 0.2.0",
        ),
        (&["keys", "create", "k", "--max-agents", "0"], "--max-agents must be"),
        (&["executions", "list", "--trigger", "odd"], "--trigger must be"),
        (&["commands", "list", "--state", "odd"], "--state must be"),
        (&["keys", "create", "k", "--expires", "2020-01-01"], "--expires is in the past"),
        (&["jobs", "executions", "01a1fdb4-5130-7149-8191-20f9622b2a14"], "there is no such job"),
    ] {
        let said = cli.run(line).await;
        said.expect(1);
        assert!(said.stderr.contains(told), "{line:?}: {}", said.stderr);
        for field in ["on_mismatch", "_ms`", "/api/", "secret_parameters", "`argv`", "`data"] {
            assert!(!said.stderr.contains(field), "{line:?}: {}", said.stderr);
        }
    }
    // Users who write fields get refusals that name fields.
    let data = ["command", "one", "execute", "--data", r#"{"script": "hi", "timeout_ms": 0}"#];
    let said = cli.run(&data).await;
    said.expect(1);
    assert!(said.stderr.contains("`data.timeout_ms`"), "{}", said.stderr);
}
