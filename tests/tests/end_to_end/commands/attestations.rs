//! Attestations: a changed result or byte of output is found.

use muster_tests::{
    AgentOptions, Cli, Fixture, JsonFields as _, ProgramOutput, Script, agent_program, key_pair_of,
    on_both_databases,
};
use serde_json::{Value, json};

on_both_databases!(every_change_of_a_stored_execution_is_found_out);

async fn verify(cli: &Cli, words: &[&str]) -> ProgramOutput {
    let mut args = vec!["verify"];
    args.extend(words);
    cli.run(&args).await
}

/// The sentence with which `muster verify` refuses an execution.
async fn finding(cli: &Cli, words: &[&str]) -> String {
    let output = verify(cli, words).await;
    output.expect(1);
    output.stderr
}

async fn logged_in(fixture: &Fixture) -> Cli {
    let cli = Cli::new(&fixture.test_dir);
    let login = ["login", "--server", &fixture.server.url()];
    cli.run_with_input(&login, fixture.api.key()).await.expect(0);
    cli
}

async fn every_change_of_a_stored_execution_is_found_out(fixture: Fixture) {
    let parameters = json!([{"name": "WHO"}, {"name": "STAGE", "default": "test"}]);
    let scripts = [
        Script::new("three", "echo hello; exit 3").with("parameters", parameters),
        Script::new("four", "echo other; exit 4"),
    ];
    let (agent, agent_id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let three = fixture.api.execute(&agent_id, "three", json!({"parameters": {"WHO": "me"}})).await;
    let four = fixture.api.execute(&agent_id, "four", json!({})).await;
    fixture.api.finished(&three).await;
    fixture.api.finished(&four).await;
    let cli = logged_in(&fixture).await;
    for id in [&three, &four] {
        let said = verify(&cli, &[id]).await.expect(0);
        assert!(said.contains("verified: agent") && said.contains(&agent_id), "{said}");
        assert!(said.contains("not checked: the key"), "{said}");
    }
    let shown = fixture.api.get(&format!("/api/executions/{three}")).await.expect(200);
    let document: Value =
        serde_json::from_str(shown["attestation"].text("document")).expect("a document");
    let script = std::fs::read(agent.state_dir().join("scripts/three.sh")).expect("the script");
    assert_eq!(document["run"]["program_sha256"], muster_tests::sha256(&script));
    assert_eq!(document["run"]["policy"], "manifest");
    // The fingerprint that the owner of the host sees is the one that signs.
    let status = agent_program(agent.state_dir(), &["status", "--json"], &[]).await.json();
    let own = status["agent"].text("fingerprint");
    let said = verify(&cli, &[&three, "--public-key", own]).await.expect(0);
    assert!(said.contains("signed: the script `three` ran from 20"), "{said}");
    assert!(!said.contains("not checked: the key"), "{said}");
    let stranger = key_pair_of("stranger").public_key().to_string();
    let other_key = finding(&cli, &[&three, "--public-key", &stranger]).await;
    assert!(other_key.contains("was signed with"), "{other_key}");

    let server = &fixture.server;
    let exit_code = |from: u8, to: u8| {
        server.query(&format!(
            "UPDATE command_reports SET data = replace(data, '\"exit_code\":{from},', '\"exit_code\":{to},')"
        ));
    };
    exit_code(3, 0);
    let changed = finding(&cli, &[&three]).await;
    assert!(changed.contains("`exit_code` is 0, and the agent signed 3"), "{changed}");
    exit_code(0, 3);
    verify(&cli, &[&three]).await.expect(0);

    server.query("UPDATE commands SET state = 'succeeded' WHERE script = 'three'");
    let changed = finding(&cli, &[&three]).await;
    assert!(changed.contains("`state`"), "{changed}");
    server.query("UPDATE commands SET state = 'failed' WHERE script = 'three'");

    let parameter = |from: &str, to: &str| {
        server
            .query(&format!("UPDATE commands SET data = replace(data, '\"{from}\"', '\"{to}\"')"));
    };
    parameter("me", "you");
    let changed = finding(&cli, &[&three]).await;
    assert!(changed.contains("parameters were changed"), "{changed}");
    parameter("you", "me");
    verify(&cli, &[&three]).await.expect(0);

    // "hello" is stored as one record: stream, length, bytes.
    let (hello, hellp) = ("010000000668656c6c6f0a", "010000000668656c6c700a");
    let literal = |hex: &str| match server.is_postgres() {
        true => format!("'\\x{hex}'::bytea"),
        false => format!("X'{hex}'"),
    };
    let (hello, hellp) = (literal(hello), literal(hellp));
    server.query(&format!("UPDATE output_chunks SET records = {hellp} WHERE records = {hello}"));
    let changed = finding(&cli, &[&three]).await;
    assert!(changed.contains("output was changed"), "{changed}");
    server.query(&format!("UPDATE output_chunks SET records = {hello} WHERE records = {hellp}"));
    verify(&cli, &[&three]).await.expect(0);

    let moved = literal("020000000668656c6c6f0a");
    server.query(&format!(
        "UPDATE output_chunks SET records = {moved}, stdout_bytes = 0 WHERE records = {hello}"
    ));
    let changed = finding(&cli, &[&three]).await;
    assert!(changed.contains("stored as those of the other"), "{changed}");
    server.query(&format!(
        "UPDATE output_chunks SET records = {hello}, stdout_bytes = 6 WHERE records = {moved}"
    ));
    verify(&cli, &[&three]).await.expect(0);

    // One attestation in the place of both.
    server.query(
        "UPDATE command_reports SET attestation = (SELECT max(attestation) FROM command_reports)",
    );
    let mut swapped = Vec::new();
    for id in [&three, &four] {
        let output = verify(&cli, &[id]).await;
        if output.code != Some(0) {
            swapped.push(output.stderr);
        }
    }
    assert_eq!(swapped.len(), 1, "{swapped:?}");
    assert!(swapped[0].contains("of another execution"), "{swapped:?}");
    server.query("UPDATE command_reports SET attestation = NULL");
    let unsigned = finding(&cli, &[&three]).await;
    assert!(unsigned.contains("is not signed"), "{unsigned}");
}

#[tokio::test]
async fn exported_execution_is_checked_without_the_server() {
    let mut fixture = Fixture::on_sqlite().await;
    let scripts = [
        Script::counting("long", 500, 50, "0.001"),
        Script::new("mixed", "echo out; sleep 0.05; echo err >&2"),
    ];
    let (agent, agent_id) = fixture.agent(AgentOptions::with_scripts(scripts)).await;
    let id = fixture.api.execute(&agent_id, "long", json!({})).await;
    fixture.api.finished(&id).await;
    let cli = logged_in(&fixture).await;
    let path = fixture.test_dir.path().join("exported");
    let file = path.to_str().expect("plain text");
    verify(&cli, &[&id, "--export", file]).await.expect(0);
    let mixed = fixture.api.execute(&agent_id, "mixed", json!({})).await;
    fixture.api.finished(&mixed).await;
    let mixed_path = fixture.test_dir.path().join("mixed");
    let mixed_file = mixed_path.to_str().expect("plain text");
    verify(&cli, &[&mixed, "--export", mixed_file]).await.expect(0);
    let status = agent_program(agent.state_dir(), &["status", "--json"], &[]).await.json();
    let own = status["agent"].text("fingerprint");
    fixture.server.stop();
    let offline = verify(&cli, &["--from", file, "--public-key", own]).await.expect(0);
    assert!(offline.contains(&agent_id), "{offline}");
    // A file vouches for no key.
    let untrusted = finding(&cli, &["--from", file]).await;
    assert!(untrusted.contains("not checked against a fingerprint"), "{untrusted}");
    verify(&cli, &["--from", mixed_file, "--public-key", own]).await.expect(0);
    let mut exchanged = std::fs::read(&mixed_path).expect("read");
    let streams_at = exchanged.len() - 8;
    assert_eq!(&exchanged[streams_at..], b"out\nerr\n");
    exchanged[streams_at..].rotate_left(4);
    std::fs::write(&mixed_path, &exchanged).expect("write");
    let found = finding(&cli, &["--from", mixed_file, "--public-key", own]).await;
    assert!(found.contains("stored as those of the other"), "{found}");
    let exported = std::fs::read(&path).expect("read");
    assert!(exported.ends_with(&Script::counted(500)), "the output is in the file");

    let mut changed = exported.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    std::fs::write(&path, &changed).expect("write");
    let found = finding(&cli, &["--from", file]).await;
    assert!(found.contains("output was changed"), "{found}");
    std::fs::write(&path, &exported[..exported.len() - 1]).expect("write");
    let found = finding(&cli, &["--from", file]).await;
    assert!(found.contains("output is incomplete"), "{found}");
    std::fs::write(&path, "{}\n").expect("write");
    verify(&cli, &["--from", file]).await.expect(2);
}
