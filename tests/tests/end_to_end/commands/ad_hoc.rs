//! Ad-hoc commands: a program and its arguments, on hosts whose policy is `shell`.

use muster_tests::{Agent, AgentOptions, Cli, Script, World, eventually, needs_root, write_policy};
use serde_json::{Value, json};

const SHELL: &str = r#"{"allow": "shell"}"#;

/// An agent whose policy this is, and its id.
async fn under(world: &World, name: &str, policy: &str) -> (Agent, String) {
    write_policy(&world.site.folder(name), policy);
    let options =
        AgentOptions { scripts: vec![Script::new("hi", "echo hi")], ..AgentOptions::named(name) };
    let (agent, id) = world.agent(options).await;
    let tagged = json!({"name": name, "tags": ["web"]});
    world.api.patch(&format!("/api/agents/{id}"), tagged).await.expect(200);
    (agent, id)
}

/// What came of an ad-hoc command, and what it printed.
async fn ran(world: &World, agent: &str, data: Value) -> (Value, String) {
    let made = world.api.try_execute(agent, data).await.expect(202);
    let id = made["id"].as_str().expect("an id");
    let command = world.api.finished(id).await;
    (command, String::from_utf8(world.api.output(id).await).expect("text"))
}

#[tokio::test]
async fn words_reach_the_program_as_they_stand_with_parameters_and_masked_secrets() {
    let world = World::on_sqlite().await;
    let (_agent, id) = under(&world, "one", SHELL).await;
    let words = ["printf", "%s\\n", "$HOME `id` *", "", "a b;c"];
    let (command, output) = ran(&world, &id, json!({"argv": words})).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(output, "$HOME `id` *\n\na b;c\n");
    let script =
        "echo \"$GREETING, $TOKEN\"; pwd; echo \"$PATH\"; env | grep -c mst_agent_; exit 3";
    let data = json!({"argv": ["/bin/sh", "-c", script], "parameters": {"GREETING": "hello"},
                      "secret_parameters": {"TOKEN": "hunter2-hunter2"}});
    let (command, output) = ran(&world, &id, data).await;
    assert_eq!((&command["state"], &command["result"]["exit_code"]), (&json!("failed"), &json!(3)));
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(output, format!("hello, ***\n/\n{path}\n0\n"));
    let audit = world.api.get("/api/audit").await.expect(200).to_string();
    assert!(audit.contains("printf") && !audit.contains("hunter2"), "{audit}");
}

#[tokio::test]
async fn what_can_not_be_run_is_refused_in_a_sentence() {
    let world = World::on_sqlite().await;
    let (_agent, id) = under(&world, "one", SHELL).await;
    let (missing, _) = ran(&world, &id, json!({"argv": ["no-such-program"]})).await;
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
        let refused = world.api.try_execute(&id, data.clone()).await;
        refused.expect_problem(422, code);
        let mut job = data;
        job["target"] = json!({"ids": [id]});
        world.api.post("/api/jobs", job).await.expect_problem(422, code);
    }
}

#[tokio::test]
async fn a_host_of_another_policy_is_sent_none_and_named() {
    let world = World::on_sqlite().await;
    let (_free, free) = under(&world, "free", SHELL).await;
    let (strict_runs, strict) = under(&world, "strict", "{}").await;
    let uname = json!({"argv": ["uname"]});
    let refused = world.api.try_execute(&strict, uname.clone()).await;
    let refused = refused.expect_problem(409, "argv_not_allowed");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("strict")), "{refused}");
    let mut job = json!({"argv": ["uname"], "target": {"tags": ["web"]}});
    let refused = world.api.post("/api/jobs", job.clone()).await;
    let refused = refused.expect_problem(409, "argv_not_allowed");
    let detail = refused["detail"].as_str().expect("a sentence");
    assert!(detail.contains("1 of 2 hosts") && detail.contains("strict"), "{detail}");
    assert_eq!(world.api.get("/api/commands").await.expect(200)["items"], json!([]));
    // The hosts have the last word, each for itself.
    job["on_mismatch"] = json!("send");
    let made = world.api.post("/api/jobs", job).await.expect(202);
    assert_eq!((&made["argv"], &made.get("script")), (&json!(["uname"]), &None), "{made}");
    let path = format!("/api/jobs/{}", made["id"].as_str().expect("an id"));
    eventually("the job is over", async || {
        let job = world.api.get(&path).await.expect(200);
        (job["counts"] == json!({"succeeded": 1, "rejected": 1})).then_some(())
    })
    .await;
    // A policy that was changed a moment ago counts already, either way.
    strict_runs.write_policy(SHELL);
    assert_eq!(ran(&world, &strict, uname.clone()).await.1, "Linux\n");
    world.api.post(&format!("{path}/retry"), json!({})).await.expect(202);
    strict_runs.write_policy("{}");
    let (rejected, _) = ran(&world, &strict, uname.clone()).await;
    assert_eq!(rejected["error_code"], "argv_not_allowed", "{rejected}");
    world.api.try_execute(&strict, uname).await.expect_problem(409, "argv_not_allowed");
    let (still, _) = ran(&world, &free, json!({"script": "hi"})).await;
    assert_eq!(still["state"], "succeeded", "{still}");
}

#[tokio::test]
async fn whoever_runs_scripts_may_not_run_anything() {
    let world = World::on_sqlite().await;
    let (_agent, id) = under(&world, "one", SHELL).await;
    let key = async |fields: Value| {
        let made = world.api.post("/api/keys", fields).await.expect(201);
        world.api.with_key(made["key"].as_str().expect("a key"))
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
    world.api.post("/api/keys", beyond).await.expect_problem(403, "scope_not_held");
}

#[tokio::test]
async fn an_ad_hoc_command_is_the_user_that_the_policy_names() {
    let world = World::on_sqlite().await;
    needs_root();
    let policy = r#"{"allow": "shell", "run_as": "nobody"}"#;
    let (_agent, id) = under(&world, "one", policy).await;
    let (command, output) = ran(&world, &id, json!({"argv": ["id", "-un"]})).await;
    assert_eq!(output, "nobody\n", "{command}");
}

#[tokio::test]
async fn at_the_command_line_a_command_stands_behind_two_dashes() {
    let world = World::on_sqlite().await;
    let (_agent, _) = under(&world, "one", SHELL).await;
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    let said = cli.run(&["run", "one", "-p", "A=1", "--", "sh", "-c", "echo $A $0; exit 7", "-x"]);
    assert_eq!(said.await.expect(7), "1 -x\n");
    assert_eq!(cli.run(&["run", "--tag", "web", "--", "true"]).await.expect(0), "1 succeeded\n");
    cli.run(&["run", "--", "uname"]).await.expect(2);
}
