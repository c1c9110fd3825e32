//! Secret parameters: they reach the script, and nobody else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use muster_tests::{
    AgentOptions, Cli, Database, FakeAgent, Script, Server, ServerOptions, World, eventually,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(
    a_secret_reaches_the_script_and_is_seen_by_nobody,
    a_secret_that_waits_for_its_agent_outlives_the_server,
    a_secret_that_did_not_arrive_is_sent_again,
    only_agents_that_keep_secrets_are_sent_them,
);

const SECRET: &str = "correct-horse/battery";
const MASKED: &str = "TOKEN is *** and *** and ***\n";

/// Prints its secret in two pieces, then whole; behind another gate, encoded.
fn telling() -> Script {
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

async fn both_streams(world: &World, id: &str) -> (String, String) {
    let of = async |stream: &str| {
        let path = format!("/api/commands/{id}/output?stream={stream}");
        String::from_utf8(world.api.get(&path).await.bytes).expect("text")
    };
    (of("stdout").await, of("stderr").await)
}

async fn a_secret_reaches_the_script_and_is_seen_by_nobody(world: World) {
    let (agent, id) = world.agent(AgentOptions::with_scripts([telling()])).await;
    let gate = world.site.path().join("gate");
    let run = world.api.execute(&id, "tell", data(&gate)).await;
    // The beginning of the secret is held back until it is known to be no more than that.
    world.api.output_reaches(&run, "TOKEN is ".len() as u64).await;
    assert_eq!(world.api.output(&run).await, b"TOKEN is ");
    let kept = agent.state_dir().join(format!("executions/{run}/parameters.json"));
    let mode = std::fs::metadata(&kept).expect("the ledger keeps it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let in_the_open = [kept.display().to_string()];
    assert_eq!(holding(world.site.path(), SECRET.as_bytes()), in_the_open);

    std::fs::write(&gate, "").expect("open the gate");
    world.api.output_reaches(&run, "TOKEN is *** and ***".len() as u64).await;
    std::fs::write(gate.with_extension("2"), "").expect("open the second");
    let command = world.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    let (stdout, stderr) = both_streams(&world, &run).await;
    assert_eq!(stdout, MASKED);
    assert_eq!(stderr, "to stderr: ***\n");
    assert_eq!(command["result"]["output_bytes"], stdout.len() + stderr.len());
    for path in ["/api/commands", &format!("/api/commands/{run}"), "/api/audit"] {
        let shown = world.api.get(path).await.expect(200).to_string();
        assert!(!shown.contains(SECRET) && !shown.contains("secret_parameters"), "{shown}");
    }
    eventually("nothing on either host holds the secret", async || {
        holding(world.site.path(), SECRET.as_bytes()).is_empty().then_some(())
    })
    .await;
}

async fn a_secret_that_waits_for_its_agent_outlives_the_server(mut world: World) {
    let (mut agent, id) = world.agent(AgentOptions::with_scripts([telling()])).await;
    let gate = world.site.path().join("gate");
    open(&gate);
    agent.stop();
    let path = format!("/api/agents/{id}/command");
    let queued = world.api.post_once(&path, "once", execute(&gate)).await.expect(202);
    assert_eq!(holding(world.site.path(), SECRET.as_bytes()), Vec::<String>::new());
    world.server.kill_9();
    world.server.resume();
    world.server.ready().await;
    // The server knows the same secret from another, though it keeps neither.
    let again = world.api.post_once(&path, "once", execute(&gate)).await.expect(202);
    assert_eq!(queued["id"], again["id"]);
    let mut other = execute(&gate);
    other["data"]["secret_parameters"]["TOKEN"] = "another".into();
    let reused = world.api.post_once(&path, "once", other).await;
    reused.expect_problem(422, "idempotency_key_reused");

    agent.resume();
    let run = queued["id"].as_str().expect("an id");
    let command = world.api.finished(run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(both_streams(&world, run).await.0, MASKED);
}

async fn a_secret_that_did_not_arrive_is_sent_again(world: World) {
    let (key_id, key) = world.api.agent_key(json!({"permissions": ["execute"]})).await;
    let host = json!({
        "machine_id": "m".repeat(32), "ledger_id": uuid::Uuid::new_v4(),
        "instance_id": uuid::Uuid::new_v4(), "capabilities": ["execute", "secret_parameters"],
    });
    let address = world.server.address();
    let (mut agent, registered) = FakeAgent::registered_full(&address, &key, host.clone()).await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    let run = world.api.execute(&id, "tell", data(Path::new("/"))).await;
    let first = agent.expect("command").await;
    assert_eq!(first["data"]["secret_parameters"], json!({"TOKEN": SECRET}));
    drop(agent);
    let mut again = host;
    again["agent_id"] = registered["data"]["agent_id"].clone();
    let (mut agent, _) = FakeAgent::registered_full(&address, &key, again).await;
    let second = agent.expect("command").await;
    assert_eq!((&second["command_id"], &second["data"]), (&json!(run), &first["data"]));
}

async fn only_agents_that_keep_secrets_are_sent_them(world: World) {
    let gate = Path::new("/");
    let (key_id, key) = world.api.agent_key(json!({"permissions": ["execute"]})).await;
    let basic = FakeAgent::registered(&world.server.address(), &key, "basic").await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/agents/{id}/command");
    world.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");
    drop(basic);
    world.with_status(&key_id, "offline").await;
    world.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");

    let (key_id, key) = world.api.agent_key(json!({"permissions": ["execute"]})).await;
    let (_old, _) = FakeAgent::registered_full(&world.server.address(), &key, json!({})).await;
    let id = world.online(&key_id).await["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/agents/{id}/command");
    world.api.post(&path, execute(gate)).await.expect_problem(409, "secrets_unsupported");
    assert_eq!(world.api.get("/api/commands").await.expect(200)["items"], json!([]));

    for secrets in [json!({"PATH": "x"}), json!({"GATE": "x"}), json!({"N": 77_777_777})] {
        let mut refused = execute(gate);
        refused["data"]["secret_parameters"] = secrets;
        let answer = world.api.post(&path, refused).await;
        assert_eq!(answer.status, 422, "{}", answer.json());
        assert!(!answer.json().to_string().contains("7777"), "{}", answer.json());
    }
}

#[tokio::test]
async fn a_parameter_that_the_host_declares_secret_is_refused_in_the_open() {
    let world = World::on_sqlite().await;
    let declared = json!([{"name": "TOKEN", "secret": true}, {"name": "GATE"}]);
    let options = AgentOptions::with_scripts([telling().with("parameters", declared)]);
    let (_agent, id) = world.agent(options).await;
    world.ask(&id, "scripts", json!({})).await;
    let gate = world.site.path().join("gate");
    open(&gate);
    let open = json!({"parameters": {"TOKEN": "x", "GATE": gate}});
    let open = json!({"script": "tell", "parameters": open["parameters"]});
    let refused = world.api.try_execute(&id, open.clone()).await;
    let refused = refused.expect_problem(422, "invalid_parameters");
    let detail = refused["detail"].as_str().expect("a sentence");
    assert!(detail.contains("secret_parameters"), "{detail}");
    let run = world.api.execute_anyway(&id, open).await;
    let refused = world.api.finished(&run).await;
    assert_eq!(refused["error_code"], "invalid_parameters", "{refused}");
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("secret_parameters")));
    let run = world.api.execute(&id, "tell", data(&gate)).await;
    assert_eq!(world.api.finished(&run).await["state"], "succeeded");
}

#[tokio::test]
async fn the_command_line_takes_secrets_from_a_file_and_never_from_its_arguments() {
    let world = World::on_sqlite().await;
    let (_agent, _) = world.agent(AgentOptions::with_scripts([telling()])).await;
    let gate = world.site.path().join("gate");
    open(&gate);
    let cli = Cli::new(&world.site);
    let login = ["login", "--server", &world.server.url()];
    cli.run_with_input(&login, world.api.key()).await.expect(0);
    let file = cli.home().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).expect("written");
    let (gate, from_file) =
        (format!("GATE={}", gate.display()), format!("TOKEN=@{}", file.display()));
    let agents = world.api.get("/api/agents").await.expect(200);
    let agent = agents["items"][0]["id"].as_str().expect("an id");
    let said = cli.run(&["run", agent, "tell", &gate, "--secret", &from_file]).await;
    assert_eq!(said.expect(0), MASKED);
    let plain = cli.run(&["run", agent, "tell", "--secret", "TOKEN=hunter2"]).await;
    assert!(!plain.stderr.contains("hunter2"), "{}", plain.stderr);
    plain.expect(2);
    cli.run(&["run", agent, "tell", "--secret", "TOKEN=env"]).await.expect(2);
    cli.run(&["run", agent, "tell", "--secret", "TOKEN"]).await.expect(2);
}

#[tokio::test]
async fn a_secret_whose_key_is_given_up_ends_its_command_and_no_other() {
    let mut world = World::on_sqlite().await;
    let scripts = [telling(), Script::new("hi", "echo hi")];
    let (mut agent, id) = world.agent(AgentOptions::with_scripts(scripts)).await;
    agent.stop();
    let sealed = world.api.execute(&id, "tell", data(Path::new("/"))).await;
    let plain = world.api.execute(&id, "hi", json!({})).await;
    world.server.stop();
    std::fs::remove_file(world.server.data_dir().join("master.key")).expect("lose it");
    // As docs/SERVER.md says.
    world.server.query("DELETE FROM settings WHERE name = 'master_key_check'");
    world.server.resume();
    world.server.ready().await;
    agent.resume();
    let refused = world.api.finished(&sealed).await;
    assert_eq!(
        (&refused["state"], &refused["error_code"]),
        (&json!("rejected"), &json!("secrets_undeliverable"))
    );
    assert_eq!(world.api.finished(&plain).await["state"], "succeeded");
}

#[tokio::test]
async fn a_server_without_its_master_key_does_not_start_and_says_what_to_do() {
    let mut world = World::on_sqlite().await;
    world.server.stop();
    let file = world.server.data_dir().join("master.key");
    let key = std::fs::read(&file).expect("the key");
    let refused = async |world: &World, word: &str| {
        let mut process = world.server.spawn();
        assert!(!process.ended().await.success());
        let log = process.log();
        assert!(log.contains("failed to") && log.contains(word), "{log}");
    };
    std::fs::remove_file(&file).expect("lose it");
    refused(&world, "from a backup").await;
    std::fs::write(&file, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect("another");
    refused(&world, "give that one").await;
    std::fs::write(&file, &key).expect("put back");
    world.server.resume();
    world.server.ready().await;

    let site = muster_tests::Site::new();
    let options = ServerOptions::default().with("MUSTER_MASTER_KEY", "no key");
    let mut server = Server::unstarted(&site, Database::Sqlite, options).spawn();
    assert!(!server.ended().await.success());
    assert!(server.log().contains("MUSTER_MASTER_KEY"), "{}", server.log());
    assert!(!server.log().contains("no key"), "{}", server.log());
}
