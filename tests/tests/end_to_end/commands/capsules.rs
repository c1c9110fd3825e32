//! Hosts that pin approvers run nothing of what their policy names without a signature of one of them,
//! even if the server and its database say otherwise.

use std::path::PathBuf;

use muster_tests::{
    Agent, AgentOptions, Api, Cli, Fixture, JsonFields as _, ProgramOutput, Script, eventually,
    install, on_both_databases, sha256, write_policy,
};
use serde_json::{Value, json};

on_both_databases!(
    a_host_runs_what_its_approver_signed_and_nothing_else,
    a_changed_database_starts_nothing_on_a_host_with_approvers,
    a_signature_for_one_host_starts_nothing_on_another_that_gets_its_id,
    nothing_is_signed_that_was_not_shown,
    a_signature_is_about_every_step_and_its_file,
);

/// A host whose policy pins an approver, the approver's key file, and a key of another person.
struct Pinned {
    agent: Agent,
    id: String,
    key: PathBuf,
    grace: Api,
}

async fn keygen(fixture: &Fixture, name: &str) -> (PathBuf, String) {
    let file = fixture.test_dir.path().join(name);
    let path = file.to_str().expect("text").to_owned();
    let cli = Cli::new(&fixture.test_dir);
    let made = cli.run(&["approver", "keygen", &path, "--json"]).await.json();
    let mode = std::fs::metadata(&file).expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o600);
    (file, made.text("public_key").to_owned())
}

async fn pinned(fixture: &Fixture) -> Pinned {
    let (key, public_key) = keygen(fixture, "approver.pem").await;
    let marker = fixture.test_dir.path().join("started");
    let deploy = format!("echo $WHAT >> {}", marker.display());
    let scripts = [Script::new("deploy", &deploy).taking(["WHAT"]), Script::new("status", "true")];
    let options = AgentOptions::with_scripts(scripts);
    let state = fixture.test_dir.folder(&options.name);
    let policy = json!({"allow": "shell", "needs_approval":
        {"approvers": [public_key], "scripts": ["deploy"]}});
    write_policy(&state, &policy.to_string());
    let (agent, id) = fixture.agent(options).await;
    // The people who run the server count as one person, so an invited member approves.
    let grace = fixture.owner().await.add("grace@example.com", "owner").await;
    let made = json!({"name": "grace", "role": "owner"});
    let made = grace.api.post("/api/keys", made).await.expect(201);
    let grace = fixture.api.with_key(made.text("key"));
    let rule = json!({"name": "signed", "scripts": ["deploy"], "ad_hoc": true, "life_cycle": true});
    fixture.api.post("/api/approvals/rules", rule).await.expect(201);
    Pinned { agent, id, key, grace }
}

fn started(fixture: &Fixture) -> String {
    std::fs::read_to_string(fixture.test_dir.path().join("started")).unwrap_or_default()
}

async fn pending(api: &Api) -> String {
    let page = api.get("/api/approvals?state=pending").await.expect(200);
    page["items"][0].id().to_owned()
}

async fn refused(fixture: &Fixture, command: &str, code: &str) {
    let ended = fixture.api.finished(command).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!(code)),
        "{ended}"
    );
}

async fn deploy(fixture: &Fixture, id: &str, what: &str) -> String {
    fixture.api.execute(id, "deploy", json!({"parameters": {"WHAT": what}})).await
}

/// Approves with a signature over what the command line shows now.
async fn sign(cli: &Cli, request: &str, options: &[&str]) -> ProgramOutput {
    let digest = digest(cli, request).await;
    let approve = ["approvals", "approve", request, "--expect", &digest];
    cli.run(&[&approve[..], options].concat()).await
}

/// The digest of what would be signed, as it is shown.
async fn digest(cli: &Cli, request: &str) -> String {
    let shown = cli.run(&["approvals", "show", request]).await;
    let digest = shown.stderr.split("--expect ").nth(1).map(|rest| rest.trim().to_owned());
    digest.unwrap_or_else(|| panic!("{}", shown.stderr))
}

async fn a_host_runs_what_its_approver_signed_and_nothing_else(fixture: Fixture) {
    let Pinned { agent, id, key, grace } = pinned(&fixture).await;
    let cli = fixture.cli().await;
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let own = agent.state_dir().join("scripts/deploy.sh");
    let own = own.to_str().expect("text");
    let key = key.to_str().expect("text");

    // What the policy does not name runs as before.
    let free = fixture.api.execute(&id, "status", json!({})).await;
    assert_eq!(fixture.api.finished(&free).await["state"], "succeeded");
    // An approval without a signature is not enough for the host.
    let command = deploy(&fixture, &id, "unsigned").await;
    cli.run(&["approvals", "approve", &pending(&grace).await]).await.expect(0);
    refused(&fixture, &command, "capsule_required").await;
    // A signature with a key that the host has not pinned.
    let (other, _) = keygen(&fixture, "other.pem").await;
    let command = deploy(&fixture, &id, "stranger").await;
    let other = other.to_str().expect("text");
    let request = pending(&grace).await;
    sign(&cli, &request, &["--sign", other, "--script-file", own]).await.expect(0);
    refused(&fixture, &command, "capsule_invalid").await;
    // Another script than the one on the host.
    let copy = fixture.test_dir.path().join("copy.sh");
    std::fs::write(&copy, "echo other").expect("written");
    let command = deploy(&fixture, &id, "other-file").await;
    let request = pending(&grace).await;
    let copy = copy.to_str().expect("text");
    sign(&cli, &request, &["--sign", key, "--script-file", copy]).await.expect(0);
    let ended = fixture.api.finished(&command).await;
    assert_ne!(ended["state"], "succeeded", "{ended}");
    assert_eq!(started(&fixture), "");
    // The right one, as a job, and an ad-hoc command, and a restart.
    let body =
        json!({"script": "deploy", "parameters": {"WHAT": "signed"}, "target": {"ids": [id]}});
    let job = fixture.api.post("/api/jobs", body).await.expect(202).id().to_owned();
    let request = pending(&grace).await;
    // Without a hash in the manifest, the approver's own copy of the script is needed.
    let without = sign(&cli, &request, &["--sign", key]).await;
    without.expect(2);
    assert!(without.stderr.contains("--script-file"), "{}", without.stderr);
    sign(&cli, &request, &["--sign", key, "--script-file", own]).await.expect(0);
    eventually("the signed job ends", async || {
        let job = fixture.api.get(&format!("/api/jobs/{job}")).await.expect(200);
        assert_ne!(job["state"], "failed", "{job}");
        (job["state"] == "succeeded").then_some(())
    })
    .await;
    assert_eq!(started(&fixture), "signed\n");
    let words = json!({"command": "execute", "data": {"argv": ["uname"]}});
    let words = fixture.api.post(&format!("/api/agents/{id}/command"), words).await.expect(202);
    sign(&cli, &pending(&grace).await, &["--sign", key]).await.expect(0);
    assert_eq!(fixture.api.finished(words.id()).await["state"], "succeeded");
    // Secret parameters can't be signed, because the approver does not see them.
    let secret = json!({"command": "execute", "data":
        {"script": "deploy", "secret_parameters": {"WHAT": "hunter2-secret"}}});
    let secret = fixture.api.post(&format!("/api/agents/{id}/command"), secret).await.expect(202);
    let request = pending(&grace).await;
    sign(&cli, &request, &["--sign", key, "--script-file", own]).await.expect(0);
    refused(&fixture, secret.id(), "capsule_invalid").await;
    assert_eq!(started(&fixture), "signed\n");
    // The server refuses signatures that are about something else, before anybody waits for a host.
    let command = deploy(&fixture, &id, "last").await;
    let request = pending(&grace).await;
    let path = format!("/api/approvals/{request}/approve");
    let broken = json!({"capsules": [{"document": "{}", "signature": "AAAA"}]});
    grace.post(&path, broken).await.expect_problem(422, "invalid_field");
    let shown = grace.get(&format!("/api/approvals/{request}")).await.expect(200);
    assert_eq!(shown["commands"][0]["command_id"], json!(command), "{shown}");
}

/// A server that was taken over: its operator copies, changes and releases rows as it likes.
async fn a_changed_database_starts_nothing_on_a_host_with_approvers(fixture: Fixture) {
    let Pinned { mut agent, id, key, grace } = pinned(&fixture).await;
    let cli = fixture.cli().await;
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let own = agent.state_dir().join("scripts/deploy.sh");
    let (own, key) = (own.to_str().expect("text"), key.to_str().expect("text"));
    let signed = deploy(&fixture, &id, "signed").await;
    let request = pending(&grace).await;
    sign(&cli, &request, &["--sign", key, "--script-file", own]).await.expect(0);
    assert_eq!(fixture.api.finished(&signed).await["state"], "succeeded");
    assert_eq!(started(&fixture), "signed\n");

    // Held work that is released in the database, with the signature of the other command and without.
    for capsule in [false, true] {
        let held = deploy(&fixture, &id, "forged").await;
        let (held_id, signed_id) = (literal(&fixture, &held), literal(&fixture, &signed));
        if capsule {
            fixture.server.query(&format!(
                "UPDATE commands SET capsule = (SELECT capsule FROM commands WHERE id = {signed_id}) \
                 WHERE id = {held_id}"
            ));
        }
        let release = "is_held = FALSE, expires_at = created_at + 600000";
        fixture.server.query(&format!("UPDATE commands SET {release} WHERE id = {held_id}"));
        // A new session gets what is queued.
        agent.stop();
        agent.resume();
        let code = if capsule { "capsule_invalid" } else { "capsule_required" };
        refused(&fixture, &held, code).await;
    }
    // Other parameters, and other words, under the signed command's own signature.
    let held = deploy(&fixture, &id, "before").await;
    let request = pending_of(&grace, &held).await;
    fixture.server.query(&format!(
        "UPDATE commands SET data = REPLACE(data, 'before', 'after') WHERE id = {}",
        literal(&fixture, &held)
    ));
    sign(&cli, &request, &["--sign", key, "--script-file", own]).await.expect(0);
    refused(&fixture, &held, "capsule_invalid").await;
    // The signed command once more: the host has used its signature.
    let again = literal(&fixture, &signed);
    fixture.server.query(&format!(
        "UPDATE commands SET state = 'queued', finished_at = NULL, delivered_at = NULL, \
         started_at = NULL, expires_at = created_at + 600000 WHERE id = {again}"
    ));
    agent.stop();
    agent.resume();
    fixture.api.in_state(&signed, "delivered").await;
    let free = fixture.api.execute(&id, "status", json!({})).await;
    assert_eq!(fixture.api.finished(&free).await["state"], "succeeded");
    assert_eq!(started(&fixture), "signed\n", "{}", agent.log());
    let used = std::fs::read_to_string(agent.state_dir().join("used_capsules")).expect("read");
    assert!(used.contains(&signed), "{used}");
}

async fn pending_of(api: &Api, command: &str) -> String {
    let page = api.get("/api/approvals?state=pending").await.expect(200);
    let is_of = |item: &&Value| item["command_id"] == *command;
    page.list("items").iter().find(is_of).expect("a request").id().to_owned()
}

/// An id as a literal of SQL.
fn literal(fixture: &Fixture, id: &str) -> String {
    match fixture.server.is_postgres() {
        true => format!("'{id}'"),
        false => format!("X'{}'", id.replace('-', "")),
    }
}

async fn nothing_is_signed_that_was_not_shown(fixture: Fixture) {
    let Pinned { agent, id, key, grace } = pinned(&fixture).await;
    let cli = fixture.cli().await;
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let own = agent.state_dir().join("scripts/deploy.sh");
    let (own, key) = (own.to_str().expect("text"), key.to_str().expect("text"));
    let command = deploy(&fixture, &id, "seen").await;
    let request = pending(&grace).await;
    let approve = ["approvals", "approve", &request, "--sign", key, "--script-file", own];
    // There is no terminal to ask at.
    let unseen = cli.run(&approve).await;
    unseen.expect(2);
    assert!(unseen.stderr.contains("--expect"), "{}", unseen.stderr);
    // The server shows something else than when the approver looked.
    let seen = digest(&cli, &request).await;
    for table in ["approvals", "commands"] {
        fixture.server.query(&format!("UPDATE {table} SET data = REPLACE(data, 'seen', 'evil')"));
    }
    let changed = cli.run(&[&approve[..], &["--expect", &seen]].concat()).await;
    changed.expect(2);
    assert!(changed.stderr.contains("nothing was signed"), "{}", changed.stderr);
    // A host that the approver does not know.
    let now = digest(&cli, &request).await;
    let unknown = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let options = ["--expect", &now, "--host", unknown];
    let refused = cli.run(&[&approve[..], &options].concat()).await;
    refused.expect(2);
    assert!(refused.stderr.contains("no --host names"), "{}", refused.stderr);
    assert_eq!(fixture.api.command(&command).await["is_held"], true);
    assert_eq!(started(&fixture), "");
}

/// The server hands out ids, so a person who controls it can give one host's id to another.
async fn a_signature_for_one_host_starts_nothing_on_another_that_gets_its_id(mut fixture: Fixture) {
    let Pinned { mut agent, id, key, grace } = pinned(&fixture).await;
    let cli = fixture.cli().await;
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let own = agent.state_dir().join("scripts/deploy.sh");
    let (own, key) = (own.to_str().expect("text"), key.to_str().expect("text"));
    // Another host with the same policy and the same script.
    let policy = std::fs::read(agent.state_dir().join("policy.json")).expect("read");
    let marker = fixture.test_dir.path().join("started");
    let script = Script::new("deploy", &format!("echo $WHAT >> {}", marker.display()));
    let scripts = vec![script.taking(["WHAT"])];
    let options = AgentOptions { scripts, ..AgentOptions::named("other") };
    write_policy(&fixture.test_dir.folder(&options.name), &String::from_utf8_lossy(&policy));
    let (mut other, other_id) = fixture.agent(options).await;
    agent.stop();
    let command = deploy(&fixture, &id, "once").await;
    let request = pending(&grace).await;
    sign(&cli, &request, &["--sign", key, "--script-file", own]).await.expect(0);

    other.stop();
    fixture.server.stop();
    let (one, two) = (literal(&fixture, &id), literal(&fixture, &other_id));
    let swap = |statement: &str| fixture.server.query(statement);
    swap(&format!(
        "CREATE TABLE keys_before AS SELECT id, public_key FROM agents WHERE id IN ({one}, {two})"
    ));
    swap(&format!("UPDATE agents SET public_key = NULL WHERE id IN ({one}, {two})"));
    for (to, from) in [(&one, &two), (&two, &one)] {
        swap(&format!(
            "UPDATE agents SET public_key = (SELECT public_key FROM keys_before WHERE id = {from}) WHERE id = {to}"
        ));
    }
    swap("DROP TABLE keys_before");
    // Both count as hosts of one agent key, which is how the server finds a host.
    swap(&format!(
        "UPDATE agents SET key_id = (SELECT key_id FROM agents WHERE id = {two}) WHERE id = {one}"
    ));
    swap("UPDATE agent_keys SET max_agents = 10");
    fixture.server.resume();
    fixture.server.ready().await;
    other.resume();
    refused(&fixture, &command, "capsule_invalid").await;
    assert!(other.log().contains("enrolled this host again"), "{}", other.log());
    assert_eq!(started(&fixture), "");
}

async fn a_signature_is_about_every_step_and_its_file(fixture: Fixture) {
    let Pinned { agent, id, key, grace } = pinned(&fixture).await;
    let cli = fixture.cli().await;
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, grace.key()).await.expect(0);
    let key = key.to_str().expect("text");
    let steps = |what: &str| {
        json!({"steps": [{"script": "status"},
            {"script": "deploy", "parameters": {"WHAT": what}}, {"argv": ["true"]}]})
    };
    let held = fixture.api.try_execute(&id, steps("before")).await.expect(202);
    // The manifest requires no hash yet, so there is nothing to sign for the steps.
    let request = pending_of(&grace, held.id()).await;
    let without = sign(&cli, &request, &["--sign", key]).await;
    without.expect(2);
    assert!(without.stderr.contains("of step 1"), "{}", without.stderr);
    cli.run(&["approvals", "approve", &request]).await.expect(0);
    refused(&fixture, held.id(), "capsule_required").await;

    let marker = fixture.test_dir.path().join("started");
    let hash_of = |name: &str| {
        let file = agent.state_dir().join(format!("scripts/{name}.sh"));
        json!(sha256(&std::fs::read(file).expect("a script")))
    };
    let text = format!("echo $WHAT >> {}", marker.display());
    let scripts = [
        Script::new("deploy", &text).taking(["WHAT"]).with("sha256", hash_of("deploy")),
        Script::new("status", "true").with("sha256", hash_of("status")),
    ];
    install(agent.state_dir(), &scripts);
    eventually("the hashes are known", async || {
        fixture.ask(&id, "scripts", json!({})).await;
        let scripts = fixture.api.get(&format!("/api/agents/{id}/scripts")).await.expect(200);
        scripts["items"][0]["sha256"].is_string().then_some(())
    })
    .await;
    let held = fixture.api.try_execute(&id, steps("signed")).await.expect(202);
    let request = pending_of(&grace, held.id()).await;
    sign(&cli, &request, &["--sign", key]).await.expect(0);
    assert_eq!(fixture.api.finished(held.id()).await["state"], "succeeded");
    assert_eq!(started(&fixture), "signed\n");
    // A step that was changed in the database, under the signature of the command.
    let held = fixture.api.try_execute(&id, steps("honest")).await.expect(202);
    let request = pending_of(&grace, held.id()).await;
    fixture.server.query(&format!(
        "UPDATE commands SET data = REPLACE(data, 'honest', 'evil') WHERE id = {}",
        literal(&fixture, held.id())
    ));
    sign(&cli, &request, &["--sign", key]).await.expect(0);
    refused(&fixture, held.id(), "capsule_invalid").await;
    assert_eq!(started(&fixture), "signed\n");
}
