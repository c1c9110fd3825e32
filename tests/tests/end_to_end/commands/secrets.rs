//! Secret parameters: they reach the script, and no one else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_tests::{
    AgentOptions, Cli, Database, FakeAgent, Fixture, JsonFields as _, Script, Server,
    ServerOptions, eventually, on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    secret_reaches_the_script_and_is_visible_nowhere_else,
    secret_for_an_offline_agent_survives_a_server_restart,
    secret_that_did_not_arrive_is_sent_again,
    secrets_are_sent_only_to_agents_that_support_them,
);

const SECRET: &str = "correct-horse/battery";
const MASKED: &str = "TOKEN is *** and *** and ***\n";

/// Prints its secret in two pieces, then whole, and after another gate encoded.
fn print_secret() -> Script {
    let body = r#"printf 'TOKEN is %s' "${TOKEN%battery}"
        until [ -e "$GATE" ]; do sleep 0.02; done
        printf '%s and %s' "${TOKEN#*/}" "$TOKEN"
        until [ -e "$GATE.2" ]; do sleep 0.02; done
        printf ' and '
        printf '%s' "$TOKEN" | base64
        echo "to stderr: $TOKEN" >&2
        [ "$TOKEN" = correct-horse"/"battery ]"#;
    Script::new("tell", body).taking(["TOKEN", "GATE"])
}

fn open(gate: &Path) {
    for gate in [gate, &gate.with_extension("2")] {
        std::fs::write(gate, "").expect("open the gate");
    }
}

fn data(gate: &Path) -> Value {
    json!({"secret_parameters": {"TOKEN": SECRET}, "parameters": {"GATE": gate}})
}

fn execute(gate: &Path) -> Value {
    let mut data = data(gate);
    data["script"] = "tell".into();
    json!({"command": "execute", "data": data})
}

/// The files below a folder that hold some bytes.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
            found.extend(holding(&path, bytes));
        } else if kind.is_ok_and(|kind| kind.is_file()) {
            let content = std::fs::read(&path).unwrap_or_default();
            if content.windows(bytes.len()).any(|part| part == bytes) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

async fn both_streams(fixture: &Fixture, id: &str) -> (String, String) {
    let of = async |stream: &str| {
        let path = format!("/api/commands/{id}/output?stream={stream}");
        String::from_utf8(fixture.api.get(&path).await.bytes).expect("text")
    };
    (of("stdout").await, of("stderr").await)
}

async fn secret_reaches_the_script_and_is_visible_nowhere_else(fixture: Fixture) {
    let (agent, id) = fixture.agent(AgentOptions::with_scripts([print_secret()])).await;
    let gate = fixture.test_dir.path().join("gate");
    let run = fixture.api.execute(&id, "tell", data(&gate)).await;
    // The start of the secret is held back until the next bytes show that it is not the secret.
    fixture.api.output_reaches(&run, "TOKEN is ".len() as u64).await;
    assert_eq!(fixture.api.output(&run).await, b"TOKEN is ");
    let kept = agent.state_dir().join(format!("executions/{run}/parameters.json"));
    let mode = std::fs::metadata(&kept).expect("the ledger keeps it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let in_the_open = [kept.display().to_string()];
    assert_eq!(holding(fixture.test_dir.path(), SECRET.as_bytes()), in_the_open);

    std::fs::write(&gate, "").expect("open the gate");
    fixture.api.output_reaches(&run, "TOKEN is *** and ***".len() as u64).await;
    std::fs::write(gate.with_extension("2"), "").expect("open the second");
    let command = fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let (stdout, stderr) = both_streams(&fixture, &run).await;
    assert_eq!(stdout, MASKED);
    assert_eq!(stderr, "to stderr: ***\n");
    assert_eq!(command["result"]["output_bytes"], stdout.len() + stderr.len());
    for path in ["/api/commands", &format!("/api/commands/{run}"), "/api/audit"] {
        let shown = fixture.api.get(path).await.expect(200).to_string();
        assert!(!shown.contains(SECRET) && !shown.contains("secret_parameters"), "{shown}");
    }
    eventually("nothing on either host holds the secret", async || {
        holding(fixture.test_dir.path(), SECRET.as_bytes()).is_empty().then_some(())
    })
    .await;
}

async fn secret_for_an_offline_agent_survives_a_server_restart(mut fixture: Fixture) {
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts([print_secret()])).await;
    let gate = fixture.test_dir.path().join("gate");
    open(&gate);
    agent.stop();
    let path = format!("/api/agents/{id}/command");
    let queued = fixture.api.post_once(&path, "once", execute(&gate)).await.expect(202);
    assert_eq!(holding(fixture.test_dir.path(), SECRET.as_bytes()), Vec::<String>::new());
    fixture.server.kill_9();
    fixture.server.resume();
    fixture.server.ready().await;
    // The server distinguishes the same secret from another one, although it stores neither.
    let again = fixture.api.post_once(&path, "once", execute(&gate)).await.expect(202);
    assert_eq!(queued["id"], again["id"]);
    let mut other = execute(&gate);
    other["data"]["secret_parameters"]["TOKEN"] = "another".into();
    let reused = fixture.api.post_once(&path, "once", other).await;
    reused.expect_problem(422, "idempotency_key_reused");

    agent.resume();
    let run = queued.id();
    let command = fixture.api.finished(run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(both_streams(&fixture, run).await.0, MASKED);
}

async fn secret_that_did_not_arrive_is_sent_again(fixture: Fixture) {
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ["execute"]})).await;
    let host = json!({
        "machine_id": "m".repeat(32), "ledger_id": uuid::Uuid::new_v4(),
        "instance_id": uuid::Uuid::new_v4(), "capabilities": ["execute", "secret_parameters"],
    });
    let address = fixture.server.address();
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host.clone()).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    let run = fixture.api.execute(&id, "tell", data(Path::new("/"))).await;
    let first = agent.expect("command").await;
    assert_eq!(first["data"]["secret_parameters"], json!({"TOKEN": SECRET}));
    drop(agent);
    let mut again = host;
    again["agent_id"] = registered["data"]["agent_id"].clone();
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, again).await;
    let second = agent.expect("command").await;
    assert_eq!((&second["command_id"], &second["data"]), (&json!(run), &first["data"]));
}

async fn secrets_are_sent_only_to_agents_that_support_them(fixture: Fixture) {
    let gate = Path::new("/");
    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ["execute"]})).await;
    let basic = FakeAgent::registered(&fixture.server.address(), &key, "basic").await;
    let id = fixture.online(&key_id).await.id().to_owned();
    let path = format!("/api/agents/{id}/command");
    fixture.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");
    drop(basic);
    fixture.with_status(&key_id, "offline").await;
    fixture.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");

    let (key_id, key) = fixture.api.agent_key(json!({"permissions": ["execute"]})).await;
    let (_old, _) = FakeAgent::registered_full(&fixture.server.address(), &key, json!({})).await;
    let id = fixture.online(&key_id).await.id().to_owned();
    let path = format!("/api/agents/{id}/command");
    fixture.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");
    assert_eq!(fixture.api.get("/api/commands").await.expect(200)["items"], json!([]));

    for secrets in [json!({"PATH": "x"}), json!({"GATE": "x"}), json!({"N": 77_777_777})] {
        let mut refused = execute(gate);
        refused["data"]["secret_parameters"] = secrets;
        let answer = fixture.api.post(&path, refused).await;
        assert_eq!(answer.status, 422, "{}", answer.json());
        assert!(!answer.json().to_string().contains("7777"), "{}", answer.json());
    }
}

#[tokio::test]
async fn secret_parameter_sent_as_plain_text_is_refused() {
    let fixture = Fixture::on_sqlite().await;
    let declared = json!([{"name": "TOKEN", "secret": true}, {"name": "GATE"}]);
    let options = AgentOptions::with_scripts([print_secret().with("parameters", declared)]);
    let (_agent, id) = fixture.agent(options).await;
    fixture.ask(&id, "scripts", json!({})).await;
    let gate = fixture.test_dir.path().join("gate");
    open(&gate);
    let open = json!({"parameters": {"TOKEN": "x", "GATE": gate}});
    let open = json!({"script": "tell", "parameters": open["parameters"]});
    let refused = fixture.api.try_execute(&id, open.clone()).await;
    let refused = refused.expect_problem(422, "invalid_parameters");
    let detail = refused.text("detail");
    assert!(detail.contains("secret_parameters"), "{detail}");
    let run = fixture.api.execute_anyway(&id, open).await;
    let refused = fixture.api.finished(&run).await;
    assert_eq!(refused["error_code"], "invalid_parameters", "{refused}");
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("secret_parameters")));
    let run = fixture.api.execute(&id, "tell", data(&gate)).await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
}

#[tokio::test]
async fn command_line_reads_secrets_from_files_and_never_from_arguments() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = fixture.agent(AgentOptions::with_scripts([print_secret()])).await;
    let gate = fixture.test_dir.path().join("gate");
    open(&gate);
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    let file = cli.home().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).expect("written");
    let (gate, from_file) =
        (format!("GATE={}", gate.display()), format!("TOKEN=@{}", file.display()));
    let agents = fixture.api.get("/api/agents").await.expect(200);
    let agent = agents["items"][0].id();
    let said = cli.run(&["run", agent, "tell", &gate, "--secret", &from_file]).await;
    assert_eq!(said.expect(0), MASKED);
    let plain = cli.run(&["run", agent, "tell", "--secret", "TOKEN=hunter2"]).await;
    assert!(!plain.stderr.contains("hunter2"), "{}", plain.stderr);
    plain.expect(2);
    cli.run(&["run", agent, "tell", "--secret", "TOKEN=env"]).await.expect(2);
    cli.run(&["run", agent, "tell", "--secret", "TOKEN"]).await.expect(2);
}

#[tokio::test]
async fn secret_without_its_master_key_rejects_only_its_command() {
    let mut fixture = Fixture::on_sqlite().await;
    let scripts = [print_secret(), Script::new("hi", "echo hi")];
    let (mut agent, id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    agent.stop();
    let sealed = fixture.api.execute(&id, "tell", data(Path::new("/"))).await;
    let plain = fixture.api.execute(&id, "hi", json!({})).await;
    fixture.server.stop();
    std::fs::remove_file(fixture.server.data_dir().join("master.key")).expect("lose it");
    // As described in docs/SERVER.md.
    fixture.server.query("DELETE FROM settings WHERE name IN ('master_key_check', 'audit_key')");
    fixture.server.resume();
    fixture.server.ready().await;
    agent.resume();
    let refused = fixture.api.finished(&sealed).await;
    assert_eq!(
        (&refused["state"], &refused["error_code"]),
        (&json!("rejected"), &json!("secrets_undeliverable"))
    );
    assert_eq!(fixture.api.finished(&plain).await["state"], "succeeded");
}

#[tokio::test]
async fn server_without_its_master_key_does_not_start_and_explains_the_fix() {
    let mut fixture = Fixture::on_sqlite().await;
    fixture.server.stop();
    let file = fixture.server.data_dir().join("master.key");
    let key = std::fs::read(&file).expect("the key");
    let refused = async |fixture: &Fixture, word: &str| {
        let mut process = fixture.server.spawn();
        assert!(!process.ended().await.success());
        let log = process.log();
        assert!(log.contains("failed to") && log.contains(word), "{log}");
    };
    std::fs::remove_file(&file).expect("lose it");
    refused(&fixture, "from a backup").await;
    std::fs::write(&file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect("another");
    refused(&fixture, "use that key").await;
    std::fs::write(&file, &key).expect("put back");
    fixture.server.resume();
    fixture.server.ready().await;

    let test_dir = muster_tests::TestDir::new();
    let options = ServerOptions::default().with("MUSTER_MASTER_KEY", "no key");
    let mut server = Server::unstarted(&test_dir, Database::Sqlite, options).spawn();
    assert!(!server.ended().await.success());
    assert!(server.log().contains("MUSTER_MASTER_KEY"), "{}", server.log());
    assert!(!server.log().contains("no key"), "{}", server.log());
}
