//! Hosts that pin publishers run nothing of the library without a signature of one of them, even if the
//! server and its database ask for it.

use std::path::{Path, PathBuf};

use muster_tests::{Agent, Cli, Fixture, JsonFields as _, on_both_databases};
use serde_json::json;

use super::{agent_with_policy, create, output, save};

on_both_databases!(a_host_runs_what_its_publisher_signed_and_nothing_else);

pub(super) struct Pinned {
    pub(super) _agent: Agent,
    pub(super) id: String,
    pub(super) key: PathBuf,
}

pub(super) async fn keygen(fixture: &Fixture, name: &str) -> (PathBuf, String) {
    let file = fixture.test_dir.path().join(name);
    let path = file.to_str().expect("text").to_owned();
    let cli = Cli::new(&fixture.test_dir);
    let made = cli.run(&["publisher", "keygen", &path, "--json"]).await.json();
    (file, made.text("public_key").to_owned())
}

pub(super) async fn pinned(fixture: &Fixture) -> Pinned {
    let (key, public_key) = keygen(fixture, "publisher.pem").await;
    let policy = json!({"allow": "library", "publishers": [public_key]});
    let (agent, id) = agent_with_policy(fixture, policy).await;
    Pinned { _agent: agent, id, key }
}

/// The publisher's own folder of a script.
fn own_folder(fixture: &Fixture, script: &str, settings: &str, body: &str) -> String {
    let folder = fixture.test_dir.path().join("own").join(script);
    std::fs::create_dir_all(&folder).expect("created");
    let description = format!("file = \"own.sh\"\ninterpreter = \"sh\"\n{settings}");
    std::fs::write(folder.join("script.toml"), description).expect("written");
    std::fs::write(folder.join("own.sh"), body).expect("written");
    folder.to_str().expect("text").to_owned()
}

pub(super) async fn sign(fixture: &Fixture, key: &Path, script: &str, version: &str, body: &str) {
    let cli = fixture.cli().await;
    let own = own_folder(fixture, script, "", body);
    let key = key.to_str().expect("text");
    let args = ["publisher", "sign", &own, "--version", version, "--key", key];
    cli.run(&args).await.expect(0);
}

fn signatures(fixture: &Fixture) -> Vec<String> {
    fixture.server.query("SELECT count(*) FROM script_signatures")
}

pub(super) async fn refused(fixture: &Fixture, agent: &str, script: &str, code: &str) {
    let command = fixture.api.execute(agent, script, json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(
        (&ended["state"], &ended["error_code"]),
        (&json!("rejected"), &json!(code)),
        "{ended}"
    );
}

async fn a_host_runs_what_its_publisher_signed_and_nothing_else(fixture: Fixture) {
    let Pinned { _agent, id, key } = pinned(&fixture).await;
    let script = create(&fixture, "say", "echo good\n").await;
    // A stolen owner key can save a version, which can not run here.
    refused(&fixture, &id, "library:say", "publisher_required").await;
    sign(&fixture, &key, "say", "1", "echo good\n").await;
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(output(&fixture, &command).await, "good\n");
    save(&fixture, &script, "echo evil\n").await;
    refused(&fixture, &id, "library:say", "publisher_required").await;

    // A key that the host has not pinned.
    let (stranger, _) = keygen(&fixture, "stranger.pem").await;
    sign(&fixture, &stranger, "say", "2", "echo evil\n").await;
    refused(&fixture, &id, "library:say", "publisher_required").await;

    // A changed database: the signature of another script, and of another version.
    create(&fixture, "other", "echo other\n").await;
    sign(&fixture, &key, "other", "1", "echo other\n").await;
    fixture.server.query(
        "UPDATE script_signatures SET statement = (SELECT max(statement) FROM script_signatures \
         WHERE statement LIKE '%\"name\":\"other\"%')",
    );
    fixture.server.query(
        "UPDATE script_signatures SET signature = (SELECT max(signature) FROM script_signatures \
         WHERE version_id = (SELECT v.id FROM script_versions v JOIN scripts s ON s.id = v.script_id \
         WHERE s.name = 'other'))",
    );
    refused(&fixture, &id, "library:say", "publisher_required").await;
    refused(&fixture, &id, "library:say@1", "publisher_required").await;
    let command = fixture.api.execute(&id, "library:other", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
}

#[tokio::test]
async fn an_old_version_never_runs_again_after_a_newer_one_also_after_a_restart() {
    let fixture = Fixture::on_sqlite().await;
    let Pinned { _agent: mut agent, id, key } = pinned(&fixture).await;
    let script = create(&fixture, "say", "echo hole\n").await;
    sign(&fixture, &key, "say", "1", "echo hole\n").await;
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
    save(&fixture, &script, "echo mended\n").await;
    sign(&fixture, &key, "say", "2", "echo mended\n").await;
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
    refused(&fixture, &id, "library:say@1", "version_outdated").await;
    agent.kill_9();
    agent.resume();
    refused(&fixture, &id, "library:say@1", "version_outdated").await;
    // A roll back is a new version with the old content, signed.
    save(&fixture, &script, "echo hole\n").await;
    sign(&fixture, &key, "say", "3", "echo hole\n").await;
    let command = fixture.api.execute(&id, "library:say", json!({})).await;
    assert_eq!(fixture.api.finished(&command).await["state"], "succeeded");
}

#[tokio::test]
async fn a_publisher_signs_only_the_own_text_and_the_server_accepts_only_fitting_signatures() {
    let fixture = Fixture::on_sqlite().await;
    let (key, _) = keygen(&fixture, "publisher.pem").await;
    let script = create(&fixture, "say", "echo evil\n").await;
    let cli = fixture.cli().await;
    let own = own_folder(&fixture, "say", "", "echo good\n");
    let args = ["publisher", "sign", &own, "--key", key.to_str().expect("text")];
    let refused = cli.run(&args).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    create(&fixture, "other", "echo other\n").await;
    sign(&fixture, &key, "other", "1", "echo other\n").await;
    let page = fixture.api.get("/api/scripts?name=other").await.expect(200);
    let path = format!("/api/scripts/{}/versions/1", page["items"][0].id());
    let signature = fixture.api.get(&path).await.expect(200)["signatures"][0].clone();
    let path = format!("/api/scripts/{script}/versions/1/signatures");
    let refused = fixture.api.post(&path, signature.clone()).await;
    refused.expect_problem(422, "invalid_field");
    let mut changed = signature;
    changed["statement"] = changed.text("statement").replace("other", "say").into();
    fixture.api.post(&path, changed).await.expect_problem(422, "invalid_field");
}

#[tokio::test]
async fn a_publisher_signs_no_field_that_differs_from_the_own_folder() {
    let fixture = Fixture::on_sqlite().await;
    let (key, _) = keygen(&fixture, "publisher.pem").await;
    let key = key.to_str().expect("text");
    let settings = "timeout_ms = 5000\n\n[[parameters]]\nname = \"WHO\"\npattern = \"[a-z]+\"\n";
    let own = own_folder(&fixture, "say", settings, "echo good\n");
    let cli = fixture.cli().await;
    cli.run(&["scripts", "push", &own]).await.expect(0);
    let document = fixture.server.query("SELECT document FROM script_versions").remove(0);
    let show = |shown: &str| {
        let shown = shown.replace('\'', "''");
        fixture.server.query(&format!("UPDATE script_versions SET document = '{shown}'"));
    };
    let hash = document.split("\"sha256\":\"").nth(1).expect("a hash")[..64].to_owned();
    let sign = ["publisher", "sign", &own, "--key", key];
    for (was, shown) in [
        ("\"format\":1", "\"format\":2"),
        ("\"name\":\"say\"", "\"name\":\"deploy\""),
        ("\"version\":1", "\"version\":7"),
        (&hash, &"0".repeat(64)),
        ("\"interpreter\":\"sh\"", "\"interpreter\":\"/usr/bin/python3\""),
        ("\"WHO\"", "\"EDITOR\""),
        ("[a-z]+", ".*"),
        ("5000", "500000"),
        ("{\"format\"", "{\"more\":1,\"format\""),
        ("{\"format\"", "{ \"format\""),
    ] {
        assert!(document.contains(was), "{was}: {document}");
        show(&document.replace(was, shown));
        let refused = cli.run(&sign).await;
        assert!(refused.code != Some(0), "{shown}: {refused:?}");
        assert!(refused.stderr.contains("nothing was signed"), "{shown}: {refused:?}");
        assert_eq!(signatures(&fixture), ["0"], "{shown}");
    }
    show(&document);
    cli.run(&sign).await.expect(0);
    assert_eq!(signatures(&fixture), ["1"]);
}

#[tokio::test]
async fn a_push_signs_nothing_that_the_server_changed_while_it_saved_it() {
    let fixture = Fixture::on_sqlite().await;
    let (key, _) = keygen(&fixture, "publisher.pem").await;
    let key = key.to_str().expect("text");
    let own = own_folder(&fixture, "say", "", "echo one\n");
    let cli = fixture.cli().await;
    let push = ["scripts", "push", &own, "--key", key];
    cli.run(&push).await.expect(0);
    assert_eq!(signatures(&fixture), ["1"]);
    fixture.server.query(
        "CREATE TRIGGER hostile AFTER INSERT ON script_versions BEGIN UPDATE script_versions \
         SET document = replace(document, '\"sh\"', '\"bash\"') WHERE id = NEW.id; END",
    );
    own_folder(&fixture, "say", "", "echo two\n");
    let refused = cli.run(&push).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another interpreter"), "{refused:?}");
    assert_eq!(signatures(&fixture), ["1"]);
    let page = fixture.api.get("/api/scripts?name=say").await.expect(200);
    assert_eq!(page["items"][0]["current_version"], 1, "{page}");
}

#[tokio::test]
async fn a_number_that_leaps_is_signed_only_if_the_publisher_says_so() {
    let fixture = Fixture::on_sqlite().await;
    let (key, _) = keygen(&fixture, "publisher.pem").await;
    let key = key.to_str().expect("text");
    let script = create(&fixture, "say", "echo good\n").await;
    for _ in 2..=3 {
        save(&fixture, &script, "echo good\n").await;
    }
    let own = own_folder(&fixture, "say", "", "echo good\n");
    let cli = fixture.cli().await;
    let sign = ["publisher", "sign", &own, "--key", key];
    let refused = cli.run(&sign).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--max-leap"), "{refused:?}");
    own_folder(&fixture, "say", "", "echo changed\n");
    let refused = cli.run(&["scripts", "push", &own, "--key", key]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let page = fixture.api.get("/api/scripts?name=say").await.expect(200);
    assert_eq!(page["items"][0]["latest_version"], 3, "nothing was saved: {page}");
    assert_eq!(signatures(&fixture), ["0"]);
    own_folder(&fixture, "say", "", "echo good\n");
    let leaping: Vec<_> = sign.into_iter().chain(["--max-leap", "3"]).collect();
    cli.run(&leaping).await.expect(0);
    // The next one, and a renewal, are no leaps.
    save(&fixture, &script, "echo good\n").await;
    cli.run(&sign).await.expect(0);
    cli.run(&sign).await.expect(0);
    assert_eq!(signatures(&fixture), ["2"]);
}
