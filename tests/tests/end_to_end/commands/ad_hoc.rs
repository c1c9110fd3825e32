//! Ad-hoc commands: a program and its arguments, on hosts whose policy is `shell`.

use muster_tests::{
    Agent, AgentOptions, Cli, Fixture, JsonFields as _, Script, eventually, needs_root,
    write_policy,
};
use serde_json::{Value, json};

const SHELL: &str = r#"{"allow": "shell"}"#;

/// An agent with this policy, and its id.
async fn under(fixture: &Fixture, name: &str, policy: &str) -> (Agent, String) {
    write_policy(&fixture.test_dir.folder(name), policy);
    let options =
        AgentOptions { scripts: vec![Script::new("hi", "echo hi")], ..AgentOptions::named(name) };
    let (agent, id) = fixture.agent(options).await;
    let tagged = json!({"name": name, "tags": ["web"]});
    fixture.api.patch(&format!("/api/agents/{id}"), tagged).await.expect(200);
    (agent, id)
}

/// The result of an ad-hoc command, and its output.
async fn ran(fixture: &Fixture, agent: &str, data: Value) -> (Value, String) {
    let made = fixture.api.try_execute(agent, data).await.expect(202);
    let id = made.id();
    let command = fixture.api.finished(id).await;
    (command, String::from_utf8(fixture.api.output(id).await).expect("text"))
}

#[tokio::test]
async fn arguments_reach_the_program_unchanged_and_secrets_are_masked() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = under(&fixture, "one", SHELL).await;
    let words = ["printf", "%s\\n", "$HOME `id` *", "", "a b;c"];
    let (command, output) = ran(&fixture, &id, json!({"argv": words})).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(output, "$HOME `id` *\n\na b;c\n");
    let script =
        "echo \"$GREETING, $TOKEN\"; pwd; echo \"$PATH\"; env | grep -c mst_agent_; exit 3";
    let data = json!({"argv": ["/bin/sh", "-c", script], "parameters": {"GREETING": "hello"},
                      "secret_parameters": {"TOKEN": "hunter2-hunter2"}});
    let (command, output) = ran(&fixture, &id, data).await;
    assert_eq!((&command["state"], &command["result"]["exit_code"]), (&json!("failed"), &json!(3)));
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(output, format!("hello, ***\n/\n{path}\n0\n"));
    let audit = fixture.api.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains("printf") && !audit.contains("hunter2"), "{audit}");
}

#[tokio::test]
async fn invalid_ad_hoc_commands_are_refused_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = under(&fixture, "one", SHELL).await;
    let (missing, _) = ran(&fixture, &id, json!({"argv": ["no-such-program"]})).await;
    assert_eq!(
        (&missing["state"], &missing["error_code"]),
        (&json!("rejected"), &json!("program_missing"))
    );
    let many = vec!["x"; 1_025];
    for (data, code) in [
        (json!({"argv": []}), "invalid_argv"),
        (json!({"argv": ["./run"]}), "invalid_argv"),
        (json!({"argv": ["echo", "a\0b"]}), "invalid_argv"),
        (json!({"argv": many}), "invalid_argv"),
        (json!({"argv": ["echo", "x".repeat(65_536)]}), "invalid_argv"),
        (json!({"argv": "uname -a"}), "invalid_field"),
        (json!({"argv": ["uname"], "script": "hi"}), "invalid_field"),
        (json!({"argv": ["uname"], "parameters": {"LD_PRELOAD": "x"}}), "invalid_parameters"),
    ] {
        let refused = fixture.api.try_execute(&id, data.clone()).await;
        refused.expect_problem(422, code);
        let mut job = data;
        job["target"] = json!({"ids": [id]});
        fixture.api.post("/api/jobs", job).await.expect_problem(422, code);
    }
}

#[tokio::test]
async fn ad_hoc_command_is_refused_naming_hosts_of_another_policy() {
    let fixture = Fixture::on_sqlite().await;
    let (_free, free) = under(&fixture, "free", SHELL).await;
    let (strict_runs, strict) = under(&fixture, "strict", "{}").await;
    let uname = json!({"argv": ["uname"]});
    let refused = fixture.api.try_execute(&strict, uname.clone()).await;
    let refused = refused.expect_problem(409, "argv_not_allowed");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("strict")), "{refused}");
    let mut job = json!({"argv": ["uname"], "target": {"tags": ["web"]}});
    let refused = fixture.api.post("/api/jobs", job.clone()).await;
    let refused = refused.expect_problem(409, "argv_not_allowed");
    let detail = refused.text("detail");
    assert!(detail.contains("1 of 2 hosts") && detail.contains("strict"), "{detail}");
    assert_eq!(fixture.api.get("/api/commands").await.expect(200)["items"], json!([]));
    // Each host decides for itself.
    job["on_mismatch"] = json!("send");
    let made = fixture.api.post("/api/jobs", job).await.expect(202);
    assert_eq!((&made["argv"], &made.get("script")), (&json!(["uname"]), &None), "{made}");
    let path = format!("/api/jobs/{}", made.id());
    eventually("the job is over", async || {
        let job = fixture.api.get(&path).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "rejected": 1})).then_some(())
    })
    .await;
    // A policy that was changed a moment ago is in force already, in both directions.
    strict_runs.write_policy(SHELL);
    assert_eq!(ran(&fixture, &strict, uname.clone()).await.1, "Linux\n");
    fixture.api.post(&format!("{path}/retry"), json!({})).await.expect(202);
    strict_runs.write_policy("{}");
    let (rejected, _) = ran(&fixture, &strict, uname.clone()).await;
    assert_eq!(rejected["error_code"], "argv_not_allowed", "{rejected}");
    fixture.api.try_execute(&strict, uname).await.expect_problem(409, "argv_not_allowed");
    let (still, _) = ran(&fixture, &free, json!({"script": "hi"})).await;
    assert_eq!(still["state"], "succeeded", "{still}");
}

#[tokio::test]
async fn right_to_run_scripts_does_not_include_ad_hoc_commands() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = under(&fixture, "one", SHELL).await;
    let key = async |fields: Value| {
        let made = fixture.api.post("/api/keys", fields).await.expect(201);
        fixture.api.with_key(made.text("key"))
    };
    let member = key(json!({"name": "member", "role": "member"})).await;
    let narrow = json!({"name": "narrow", "role": "admin", "scopes": ["commands:run"]});
    let narrow = key(narrow).await;
    let data = json!({"argv": ["uname"]});
    for caller in [&member, &narrow] {
        let refused = caller.try_execute(&id, data.clone()).await;
        let refused = refused.expect_problem(403, "missing_scope");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("commands:shell")));
        let job = json!({"argv": ["uname"], "target": {"ids": [id]}});
        caller.post("/api/jobs", job).await.expect_problem(403, "missing_scope");
        caller.try_execute(&id, json!({"script": "hi"})).await.expect(202);
    }
    let admin = key(json!({"name": "admin", "role": "admin"})).await;
    admin.try_execute(&id, data).await.expect(202);
    let beyond = json!({"name": "x", "role": "member", "scopes": ["commands:shell"]});
    fixture.api.post("/api/keys", beyond).await.expect_problem(403, "scope_not_held");
}

#[tokio::test]
async fn ad_hoc_command_runs_as_the_user_of_the_policy() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let policy = r#"{"allow": "shell", "run_as": "nobody"}"#;
    let (_agent, id) = under(&fixture, "one", policy).await;
    let (command, output) = ran(&fixture, &id, json!({"argv": ["id", "-un"]})).await;
    assert_eq!(output, "nobody\n", "{command}");
}

#[tokio::test]
async fn command_line_takes_an_ad_hoc_command_after_two_dashes() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = under(&fixture, "one", SHELL).await;
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let said = cli.run(&["run", "one", "-p", "A=1", "--", "sh", "-c", "echo $A $0; exit 7", "-x"]);
    assert_eq!(said.await.expect(7), "1 -x\n");
    assert_eq!(cli.run(&["run", "--tag", "web", "--", "true"]).await.expect(0), "1 succeeded\n");
    cli.run(&["run", "--", "uname"]).await.expect(2);
}
