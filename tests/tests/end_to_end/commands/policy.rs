//! What a host's policy allows, and as which user its scripts run. All of it needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use muster_tests::{
    Agent, AgentOptions, Fixture, JsonFields as _, Script, eventually, needs_root, write_policy,
};
use nix::unistd::{Group, User};
use serde_json::{Value, json};

const NOBODY: u32 = 65_534;

/// An agent with these scripts whose policy runs them as `nobody`.
async fn running_as_nobody(fixture: &Fixture, scripts: Vec<Script>) -> (Agent, String) {
    needs_root();
    let options = AgentOptions::with_scripts(scripts);
    let state = fixture.test_dir.folder(&options.name);
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).expect("close");
    write_policy(&state, r#"{"run_as": "nobody"}"#);
    fixture.agent(options).await
}

async fn run(fixture: &Fixture, agent: &str, script: &str) -> (Value, String) {
    let id = fixture.api.execute(agent, script, json!({})).await;
    let command = fixture.api.finished(&id).await;
    (command, String::from_utf8(fixture.api.output(&id).await).expect("text"))
}

#[tokio::test]
async fn script_runs_as_the_user_of_the_policy_and_cannot_read_agent_files() {
    let fixture = Fixture::on_sqlite().await;
    let body = "id -un; id -Gn; echo \"$HOME $USER $LOGNAME $SHELL\"; pwd\n\
                echo by name >/dev/stderr\n\
                for file in identity.json ledger.json executions settled wake.sock lock; do\n\
                  ls -ld \"../$file\" >/dev/null || exit 9\n\
                  cat \"../$file\" 2>/dev/null && echo \"read $file\"\n\
                  ls \"../$file/\" 2>/dev/null && echo \"listed $file\"\n\
                done\n\
                for open in /proc/self/fd/*; do\n\
                  [ -f \"$open\" ] && [ ! \"$open\" -ef \"$0\" ] && echo \"has $open\"\n\
                done\n\
                ls .. 2>/dev/null && echo listed the state directory\n\
                cat \"$0\" >/dev/null && echo can read itself\n\
                touch here 2>/dev/null && echo can write beside itself\n\
                exit 0";
    let (agent, id) = running_as_nobody(&fixture, vec![Script::new("who", body)]).await;
    let (command, output) = run(&fixture, &id, "who").await;
    assert_eq!(command["state"], "succeeded", "{command}\n{output}");
    let nobody = User::from_name("nobody").expect("look up").expect("exists everywhere");
    let group = Group::from_gid(nobody.gid).expect("look up").expect("its group").name;
    let (home, shell) = (nobody.dir.display(), nobody.shell.display());
    let folder = agent.state_dir().join("scripts");
    let expected = format!(
        "nobody\n{group}\n{home} nobody nobody {shell}\n{}\nby name\ncan read itself\n",
        folder.display()
    );
    assert_eq!(output, expected);
    let mode = |path: &Path| fs::metadata(path).expect("look").permissions().mode() & 0o777;
    assert_eq!(mode(&agent.state_dir().join("executions")), 0o700);
    assert_eq!(mode(&agent.state_dir().join("wake.sock")), 0o600);
}

#[tokio::test]
async fn private_directory_is_opened_only_as_far_as_scripts_need() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let (agent, id) = fixture.agent(AgentOptions::named("agent")).await;
    let mode = |path: &Path| fs::metadata(path).expect("look").permissions().mode() & 0o777;
    fs::set_permissions(agent.state_dir(), fs::Permissions::from_mode(0o700)).expect("close");
    assert_eq!(mode(&agent.state_dir().join("scripts")), 0o700, "closed while it is not needed");
    agent.write_policy(r#"{"run_as": "nobody"}"#);
    let (command, output) = run(&fixture, &id, "hello").await;
    assert_eq!(command["state"], "succeeded", "{command}\n{output}");
    assert_eq!(mode(agent.state_dir()), 0o711);
    assert_eq!(mode(&agent.state_dir().join("scripts")), 0o755);
}

#[tokio::test]
async fn cancel_and_timeout_kill_another_users_script_and_its_children() {
    let fixture = Fixture::on_sqlite().await;
    let body = "trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &\n\
                echo begun; while :; do sleep 1; done";
    let scripts = vec![
        Script::new("cancelled", body),
        Script::new("late", "setsid sleep 600 & echo begun; sleep 600")
            .with("timeout_ms", json!(500)),
    ];
    let (agent, id) = running_as_nobody(&fixture, scripts).await;
    let (command, output) = run(&fixture, &id, "late").await;
    assert_eq!((&command["state"], output.as_str()), (&json!("timed_out"), "begun\n"));
    let stubborn = fixture.api.execute(&id, "cancelled", json!({})).await;
    fixture.api.output_reaches(&stubborn, 6).await;
    fixture.api.post(&format!("/api/commands/{stubborn}/cancel"), json!({})).await.expect(202);
    assert_eq!(fixture.api.finished(&stubborn).await["state"], "cancelled");
    assert!(agent.shim_ids().is_empty());
}

#[tokio::test]
async fn killed_shim_of_another_users_script_leaves_no_process() {
    let fixture = Fixture::on_sqlite().await;
    let body = "setsid sleep 600 & echo begun; sleep 600";
    let (agent, id) = running_as_nobody(&fixture, vec![Script::new("long", body)]).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.kill_9_shims().await;
    assert_eq!(fixture.api.finished(&run).await["state"], "lost");
    let left = fixture.test_dir.processes(agent.state_dir(), "sleep 600");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn lost_execution_is_killed_even_where_root_cannot_inspect_other_users_processes() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let body = "setsid sleep 600 & echo begun; sleep 600";
    // As in most containers.
    let kept = "+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid";
    let options = AgentOptions::with_scripts([Script::new("long", body)])
        .with_mounts(&format!("exec setpriv --bounding-set=-all,{kept} \"$0\" run"));
    write_policy(&fixture.test_dir.folder("agent"), r#"{"run_as": "nobody"}"#);
    let (agent, id) = fixture.agent(options).await;
    let run = fixture.api.execute(&id, "long", json!({})).await;
    fixture.api.output_reaches(&run, 6).await;
    agent.kill_9_shims().await;
    assert_eq!(fixture.api.finished(&run).await["state"], "lost");
    let left = fixture.test_dir.processes(agent.state_dir(), "sleep 600");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn user_of_a_command_is_fixed_when_it_is_accepted() {
    let fixture = Fixture::on_sqlite().await;
    let gate = fixture.test_dir.path().join("gate");
    let wait = format!("id -un; while [ ! -e '{}' ]; do sleep 0.05; done", gate.display());
    let (agent, id) = running_as_nobody(&fixture, vec![Script::new("wait", &wait)]).await;
    let first = fixture.api.execute(&id, "wait", json!({})).await;
    fixture.api.output_reaches(&first, 7).await;
    let record = agent.state_dir().join("executions").join(&first).join("command.json");
    let record = fs::read_to_string(record).expect("the record");
    assert!(record.contains(r#""run_as":"nobody""#), "{record}");
    agent.write_policy("{}");
    fs::write(&gate, "").expect("open the gate");
    assert_eq!(fixture.api.finished(&first).await["state"], "succeeded");
    assert_eq!(run(&fixture, &id, "wait").await.1, "root\n");
}

#[tokio::test]
async fn invalid_policy_rejects_durable_commands_and_keeps_the_session() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let (agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("hi", "echo hi")])).await;
    let path = format!("/api/agents/{id}/command");
    for (policy, told) in [
        (r#"{"alow": "shell"}"#, "`alow`"),
        ("{", "policy.json"),
        (r#"{"allow": "everything"}"#, "`everything`"),
    ] {
        agent.write_policy(policy);
        for body in [
            json!({"command": "execute", "data": {"script": "hi"}}),
            json!({"command": "shutdown"}),
        ] {
            let made = fixture.api.post(&path, body).await.expect(202);
            rejected(&fixture, made.id(), "invalid_policy", told).await;
        }
        assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
    }
    agent.write_policy(r#"{"run_as": "nobody-by-this-name"}"#);
    let run_id = fixture.api.execute(&id, "hi", json!({})).await;
    rejected(&fixture, &run_id, "invalid_policy", "`nobody-by-this-name`").await;
    agent.write_policy("{}");
    assert_eq!(run(&fixture, &id, "hi").await.1, "hi\n");
}

async fn rejected(fixture: &Fixture, command: &str, code: &str, told: &str) {
    let command = fixture.api.finished(command).await;
    assert_eq!((&command["state"], &command["error_code"]), (&json!("rejected"), &json!(code)));
    let error = command.text("error");
    assert!(error.contains(told), "{error}");
}

#[tokio::test]
async fn files_that_others_can_change_are_refused_with_path_and_fix() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let (agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("hi", "echo hi")])).await;
    let state = agent.state_dir().to_owned();
    agent.write_policy("{}");
    for (path, code) in [
        (state.join("policy.json"), "invalid_policy"),
        (state.clone(), "unsafe_permissions"),
        (state.join("scripts"), "unsafe_permissions"),
        (state.join("scripts/hi.sh"), "unsafe_permissions"),
    ] {
        let before = fs::metadata(&path).expect("look").permissions();
        let open = fs::Permissions::from_mode(before.mode() | 0o020);
        fs::set_permissions(&path, open).expect("open to the group");
        let told = format!("chmod go-w '{}'", path.display());
        let command = fixture.api.execute(&id, "hi", json!({})).await;
        rejected(&fixture, &command, code, &told).await;
        fs::set_permissions(&path, before).expect("close");
        chown(&path, Some(NOBODY), None).expect("give away");
        let command = fixture.api.execute(&id, "hi", json!({})).await;
        rejected(&fixture, &command, code, &format!("chown root '{}'", path.display())).await;
        chown(&path, Some(0), None).expect("take back");
        assert_eq!(run(&fixture, &id, "hi").await.1, "hi\n");
    }
    // A script that runs as another user may belong to that user.
    agent.write_policy(r#"{"run_as": "nobody"}"#);
    chown(state.join("scripts/hi.sh"), Some(NOBODY), None).expect("give away");
    assert_eq!(run(&fixture, &id, "hi").await.1, "hi\n");
}

#[tokio::test]
async fn manifest_that_others_can_write_is_ignored_with_a_reason() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let (agent, id) =
        fixture.agent(AgentOptions::with_scripts([Script::new("one", "echo 1")])).await;
    let list = agent.state_dir().join("script_manifest.json");
    agent.allow(&[Script::new("one", "echo 1"), Script::new("two", "echo 2")]);
    chown(&list, Some(NOBODY), None).expect("give away");
    fixture.ask(&id, "scripts", json!({})).await;
    let told = format!("chown root '{}'", list.display());
    let refused = fixture.api.try_execute(&id, json!({"script": "two"})).await;
    let refused = refused.expect_problem(422, "unknown_script");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains(&told)), "{refused}");
    let command = fixture.api.execute_anyway(&id, json!({"script": "two"})).await;
    rejected(&fixture, &command, "unknown_script", &told).await;
    assert_eq!(run(&fixture, &id, "one").await.1, "1\n", "the last good list stays");
    chown(&list, Some(0), None).expect("take back");
    assert_eq!(run(&fixture, &id, "two").await.1, "2\n");
}

#[tokio::test]
async fn unprivileged_agent_cannot_run_scripts_as_another_user() {
    let fixture = Fixture::on_sqlite().await;
    needs_root();
    let state = fixture.test_dir.folder("agent");
    muster_tests::install(&state, &[Script::new("who", "id -un")]);
    write_policy(&state, r#"{"run_as": "daemon"}"#);
    let program = fixture.test_dir.path().join("muster-agent");
    // A copy that the other user can read.
    fs::copy(muster_tests::binary("muster-agent"), &program).expect("copy the program");
    let own = format!("chown -R {NOBODY} '{}'", state.display());
    let become_other = format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups");
    let commands = format!("{own}\nexec {become_other} '{}' run", program.display());
    let (agent, id) = fixture.agent(AgentOptions::named("agent").with_mounts(&commands)).await;
    let command = fixture.api.execute(&id, "who", json!({})).await;
    rejected(&fixture, &command, "invalid_policy", "not root").await;
    agent.write_policy(r#"{"allow": "library"}"#);
    assert_eq!(run(&fixture, &id, "who").await.1, "nobody\n");
}

#[tokio::test]
async fn agent_reports_its_policy_to_the_server() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id) = fixture.agent(AgentOptions::named("agent")).await;
    let shown = async |policy: &str| {
        eventually(&format!("the policy is {policy}"), async || {
            let agent = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
            (agent["policy"] == policy).then_some(())
        })
        .await;
    };
    shown("manifest").await;
    agent.write_policy(r#"{"allow": "shell"}"#);
    fixture.ask(&id, "scripts", json!({})).await;
    shown("shell").await;
    agent.stop();
    agent.write_policy(r#"{"allow": "library"}"#);
    agent.resume();
    shown("library").await;
}

#[tokio::test]
async fn life_cycle_command_that_the_policy_forbids_is_refused_before_it_is_stored() {
    let fixture = Fixture::on_sqlite().await;
    let state = fixture.test_dir.folder("agent");
    write_policy(&state, r#"{"forbid": ["restart", "update", "rekey"]}"#);
    let (mut agent, id) = fixture.agent(AgentOptions::named("agent").supervised()).await;
    let before = agent.agent_ids();
    eventually("the agent has reported its policy", async || {
        let scripts = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
        (scripts["forbidden_commands"] == json!(["restart", "update", "rekey"])).then_some(())
    })
    .await;
    let path = format!("/api/agents/{id}/command");
    let send = async |command: &str| fixture.api.post(&path, json!({"command": command})).await;
    let refused = send("restart").await.expect(409);
    assert_eq!(refused["code"], "forbidden_by_policy", "{refused}");
    assert_eq!(agent.agent_ids(), before);

    // Also while the host is offline, until it reports another policy.
    agent.stop();
    eventually("the agent is offline", async || {
        let agent = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
        (agent["status"] == "offline").then_some(())
    })
    .await;
    assert_eq!(send("restart").await.expect(409)["code"], "forbidden_by_policy");
    agent.write_policy("{}");
    agent.resume();
    fixture.reached_over(&id, "websocket").await;
    eventually("the policy forbids nothing", async || {
        let scripts = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
        (scripts["forbidden_commands"] == json!([])).then_some(())
    })
    .await;
    let command = send("restart").await.expect(202);
    assert_eq!(fixture.api.finished(command.id()).await["state"], "succeeded");
}
