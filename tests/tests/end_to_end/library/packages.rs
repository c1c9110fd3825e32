//! Packages: uploads, and runs on hosts.

use std::fs;

use muster_tests::{
    ApiResponse, Fixture, JsonFields as _, PackageEntry, eventually, file, needs_root,
    on_both_databases, sha256, tar_zst, zip,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{agent_with_policy, output};

on_both_databases!(
    a_package_is_uploaded_shown_downloaded_and_deleted,
    a_host_downloads_runs_and_removes_a_package,
    another_tenant_gets_no_package,
    packages_of_a_tenant_are_bounded_by_number_and_size,
);

const DESCRIPTION: &str = "name = \"backup\"\nversion = \"1.2.0\"\nkind = \"job\"\n\
    executor = \"sh\"\nentry = \"bin/run.sh\"\nargv = [\"--all\"]\ntimeout_ms = 60000\n\n\
    [[parameters]]\nname = \"WHO\"\nrequired = true\npattern = \"[a-z]+\"\n";
const PROGRAM: &str = "echo \"$1 $WHO $(cat data/words)\"; echo x >data/written && echo wrote\n";

/// The files of a package with this version.
fn archive(version: &str) -> Vec<u8> {
    let description = DESCRIPTION.replace("1.2.0", version);
    let files = [
        file("muster.toml", &description),
        file("bin/run.sh", PROGRAM),
        file("data/words", "from the package"),
    ];
    tar_zst(&files)
}

async fn upload(fixture: &Fixture, archive: Vec<u8>) -> ApiResponse {
    fixture.api.upload("/api/packages", archive).await
}

async fn a_package_is_uploaded_shown_downloaded_and_deleted(fixture: Fixture) {
    let bytes = archive("1.2.0");
    let uploaded = upload(&fixture, bytes.clone()).await;
    let location = uploaded.header("location").to_owned();
    let package = uploaded.expect(201);
    let path = format!("/api/packages/{}", package.id());
    assert_eq!(location, path);
    assert_eq!((package.text("name"), package.text("version")), ("backup", "1.2.0"));
    assert_eq!((package.text("format"), package.text("executor")), ("tar.zst", "sh"));
    assert_eq!(package.text("sha256"), sha256(&bytes));
    assert_eq!(
        (&package["archive_bytes"], &package["entry_count"]),
        (&json!(bytes.len()), &json!(3))
    );
    assert_eq!(package["parameters"][0]["name"], "WHO");
    assert_eq!(fixture.api.get(&path).await.expect(200), package);
    // The same archive is the same package; versions never change.
    assert_eq!(upload(&fixture, bytes.clone()).await.expect(200), package);
    let changed = [file("muster.toml", DESCRIPTION), file("bin/run.sh", "echo evil\n")];
    upload(&fixture, tar_zst(&changed)).await.expect_problem(409, "package_exists");
    let newer = upload(&fixture, archive("1.3.0")).await.expect(201);
    let page = fixture.api.get("/api/packages?name=backup").await.expect(200);
    let ids: Vec<_> = page.list("items").iter().map(|item| item.id().to_owned()).collect();
    assert_eq!(ids, [newer.id(), package.id()]);
    let none = fixture.api.get("/api/packages?name=other").await.expect(200);
    assert_eq!(none.list("items").len(), 0);

    let whole = fixture.api.get(&format!("{path}/archive")).await;
    assert_eq!((whole.status, whole.bytes), (200, bytes.clone()));
    let range = [("range", "bytes=10-")];
    let archive = format!("{path}/archive");
    let part = fixture.api.try_send(Method::GET, &archive, &range, None).await;
    let part = part.expect("reach the server");
    assert_eq!((part.status, part.bytes), (206, bytes[10..].to_vec()));

    let stored = fixture.server.data_dir().join("packages").join(package.id());
    assert_eq!(fs::read(&stored).expect("stored"), bytes);
    fixture.api.delete(&path).await.expect(204);
    assert!(!stored.exists());
    fixture.api.get(&path).await.expect_problem(404, "not_found");
    fixture.api.get(&format!("{path}/archive")).await.expect_problem(404, "not_found");
    let audit = fixture.api.get("/api/audit?action=package.delete").await.expect(200);
    assert_eq!(audit["items"][0]["detail"]["version"], "1.2.0", "{audit}");
}

#[tokio::test]
async fn an_archive_that_is_no_package_is_refused_with_the_reason() {
    let fixture = Fixture::on_sqlite().await;
    let whole = [file("muster.toml", DESCRIPTION), file("bin/run.sh", PROGRAM)];
    let with = |more: PackageEntry<'static>| tar_zst(&[whole[0], whole[1], more]);
    let entry = |path, kind: u8, mode| PackageEntry {
        kind: muster_tests::EntryType::new(kind),
        mode,
        ..file(path, "")
    };
    let zeros = "0".repeat(8 * 1024 * 1024);
    let bomb = tar_zst(&[whole[0], whole[1], file("zeros", &zeros)]);
    let many: Vec<String> = (0..10_000).map(|n| format!("{n}")).collect();
    let many: Vec<_> = many.iter().map(|path| file(path, "")).chain(whole).collect();
    let unknown = DESCRIPTION.replace("argv", "args");
    for (archive, reason) in [
        (b"#!/bin/sh\n".to_vec(), "neither a zip archive nor a tar archive"),
        (with(file("../evil", "")), "leads out of the package"),
        (with(file("/etc/evil", "")), "is absolute"),
        (with(entry("link", b'2', 0o777)), "is a link"),
        (with(entry("link", b'1', 0o644)), "is a link"),
        (with(entry("device", b'3', 0o644)), "neither a plain file nor a folder"),
        (with(entry("root", b'0', 0o4755)), "setuid"),
        (with(file("bin/run.sh", "")), "in the archive twice"),
        (with(file("BIN/run.sh", "")), "upper and lower case"),
        (bomb, "200 times larger"),
        (tar_zst(&many), "more than 10000 entries"),
        (tar_zst(&whole[..1]), "has no file `bin/run.sh`"),
        (tar_zst(&whole[1..]), "has no file `muster.toml`"),
        (zip(&[whole[1]]), "has no file `muster.toml`"),
        (tar_zst(&[file("muster.toml", &unknown), whole[1]]), "args"),
    ] {
        let refused = upload(&fixture, archive).await.expect_problem(422, "invalid_package");
        assert!(refused.text("detail").contains(reason), "{reason}: {refused}");
    }
    // Nothing of them is kept.
    let left = fs::read_dir(fixture.server.data_dir().join("packages")).expect("listed").count();
    assert_eq!(left, 0);
    let json = fixture.api.post("/api/packages", json!({})).await;
    json.expect_problem(415, "unsupported_media_type");
}

async fn a_host_downloads_runs_and_removes_a_package(fixture: Fixture) {
    let (agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let bytes = archive("1.2.0");
    upload(&fixture, bytes.clone()).await.expect(201);
    let data = json!({"parameters": {"WHO": "world"}});
    let command = fixture.api.execute(&id, "package:backup@1.2.0", data.clone()).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    // Each execution has a folder of its own, with the package beside the program.
    let expected = "--all world from the package\nwrote\n";
    assert_eq!(output(&fixture, &command).await, expected);
    assert_eq!(ended["data"]["script"], "package:backup");
    assert_eq!(ended["data"]["package"]["version"], "1.2.0");
    assert_eq!(ended["data"]["package"]["sha256"], sha256(&bytes));
    let execution = fixture.api.get(&format!("/api/executions/{command}")).await.expect(200);
    let attested = execution["attestation"]["document"].as_str().expect("attested");
    let attested: Value = serde_json::from_str(attested).expect("JSON");
    assert_eq!(attested["run"]["program_sha256"], sha256(&bytes));
    let unpacked = agent.state_dir().join("packages");
    assert_eq!(fs::read_dir(&unpacked).expect("listed").count(), 0);
    // The archive is kept for the next execution.
    let kept = agent.state_dir().join("package_archives").join(sha256(&bytes));
    assert_eq!(fs::read(&kept).expect("kept"), bytes);

    // A job without a version runs the newest, here a zip archive with a program of its own.
    let description = DESCRIPTION.replace("1.2.0", "2.0.0").replace("\"sh\"", "\"binary\"");
    let program =
        PackageEntry { mode: 0o755, ..file("bin/run.sh", "#!/bin/sh\necho second $WHO\n") };
    let newer = zip(&[file("muster.toml", &description), program]);
    upload(&fixture, newer).await.expect(201);
    let job = json!({"script": "package:backup", "parameters": {"WHO": "again"},
        "target": {"expression": "all"}});
    let job = fixture.api.post("/api/jobs", job).await.expect(202).id().to_owned();
    let page = format!("/api/jobs/{job}/executions");
    let execution = fixture.api.get(&page).await.expect(200)["items"][0].id().to_owned();
    fixture.api.in_state(&execution, "succeeded").await;
    assert_eq!(output(&fixture, &execution).await, "second again\n");

    // Values are checked before anything is stored.
    for (data, code) in [
        (json!({"script": "package:backup", "parameters": {"WHO": "WORLD"}}), "invalid_parameters"),
        (json!({"script": "package:backup@9"}), "unknown_package"),
        (json!({"script": "package:none"}), "unknown_package"),
        (json!({"script": "package:a/b"}), "invalid_field"),
    ] {
        fixture.api.try_execute(&id, data).await.expect_problem(422, code);
    }
    let data = json!({"script": "package:backup", "parameters": {"WHO": "me"}, "stdin": "aGk="});
    let refused = fixture.api.try_execute(&id, data.clone()).await;
    assert_eq!(refused.json()["code"], "stdin_not_allowed", "{}", refused.json());
    let command = fixture.api.execute_anyway(&id, data).await;
    let ended = fixture.api.finished(&command).await;
    let expected = (&json!("rejected"), &json!("stdin_not_allowed"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected);
}

async fn another_tenant_gets_no_package(fixture: Fixture) {
    let bytes = archive("1.2.0");
    let package = upload(&fixture, bytes.clone()).await.expect(201);
    let other = fixture.other_tenant().await;
    let path = format!("/api/packages/{}", package.id());
    for path in [path.clone(), format!("{path}/archive")] {
        other.get(&path).await.expect_problem(404, "not_found");
    }
    other.delete(&path).await.expect_problem(404, "not_found");
    let listed = other.get("/api/packages").await.expect(200);
    assert_eq!(listed.list("items").len(), 0);
    // An agent key of the tenant gets an archive by its hash, and one of another tenant does not.
    let archive = format!("/api/agents/packages/{}", sha256(&bytes));
    let (_, own_key) = fixture.api.agent_key(json!({})).await;
    let (_, other_key) = other.agent_key(json!({})).await;
    let found = fixture.api.with_key(&own_key).get(&archive).await;
    assert_eq!((found.status, found.bytes), (200, bytes));
    fixture.api.with_key(&other_key).get(&archive).await.expect_problem(404, "not_found");
    assert_eq!(fixture.api.get(&archive).await.status, 401);
    other.upload("/api/packages", self::archive("1.2.0")).await.expect(201);
}

async fn packages_of_a_tenant_are_bounded_by_number_and_size(fixture: Fixture) {
    upload(&fixture, archive("1.0.0")).await.expect(201);
    let four_gib = 4_u64 * 1024 * 1024 * 1024;
    fixture.server.query(&format!("UPDATE packages SET archive_bytes = {four_gib} - 10"));
    upload(&fixture, archive("1.0.1")).await.expect_problem(409, "packages_full");
    fixture.server.query("UPDATE packages SET archive_bytes = 1");
    let (id, number) = match fixture.server.is_postgres() {
        true => ("gen_random_uuid()", "n::text"),
        false => ("randomblob(16)", "n"),
    };
    let copied = "tenant_id, name, sha256, format, document, archive_bytes, unpacked_bytes, entry_count, \
        created_by, created_at";
    fixture.server.query(&format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999) \
         INSERT INTO packages (id, version, {copied}) SELECT {id}, {number}, {copied} FROM packages, numbers"
    ));
    upload(&fixture, archive("1.0.1")).await.expect_problem(409, "too_many_packages");
    let kept = fs::read_dir(fixture.server.data_dir().join("packages")).expect("listed").count();
    assert_eq!(kept, 1, "an archive that is refused is not kept");
}

#[tokio::test]
async fn a_policy_decides_which_hosts_run_packages() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({})).await;
    upload(&fixture, archive("1.2.0")).await.expect(201);
    let data = json!({"script": "package:backup", "parameters": {"WHO": "me"}});
    let refused = fixture.api.try_execute(&id, data.clone()).await;
    refused.expect_problem(409, "library_not_allowed");
    let command = fixture.api.execute_anyway(&id, data.clone()).await;
    let ended = fixture.api.finished(&command).await;
    let expected = (&json!("rejected"), &json!("library_not_allowed"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected);
}

#[tokio::test]
async fn a_host_that_pins_publishers_refuses_unsigned_packages() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let policy = json!({"allow": "library", "publishers": [publisher]});
    let (agent, id) = agent_with_policy(&fixture, policy).await;
    upload(&fixture, archive("1.2.0")).await.expect(201);
    let data = json!({"parameters": {"WHO": "me"}});
    let command = fixture.api.execute(&id, "package:backup", data).await;
    let ended = fixture.api.finished(&command).await;
    let expected = (&json!("rejected"), &json!("publisher_required"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected);
    assert!(!agent.state_dir().join("package_archives").exists());
}

#[tokio::test]
async fn a_package_that_was_deleted_or_changed_on_the_server_never_runs() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let package = upload(&fixture, archive("1.2.0")).await.expect(201);
    agent.stop();
    let data = json!({"parameters": {"WHO": "me"}});
    let waiting = fixture.api.execute(&id, "package:backup", data.clone()).await;
    fixture.api.delete(&format!("/api/packages/{}", package.id())).await.expect(204);
    agent.resume();
    let ended = fixture.api.finished(&waiting).await;
    let expected = (&json!("rejected"), &json!("package_missing"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected);

    // A person who can write the server's disk replaces the archive by one of the same size.
    let package = upload(&fixture, archive("1.2.1")).await.expect(201);
    let stored = fixture.server.data_dir().join("packages").join(package.id());
    let mut bytes = fs::read(&stored).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&stored, bytes).expect("written");
    let command = fixture.api.execute(&id, "package:backup", data).await;
    let ended = fixture.api.finished(&command).await;
    let expected = (&json!("rejected"), &json!("hash_mismatch"));
    assert_eq!((&ended["state"], &ended["error_code"]), expected);
    assert_eq!(output(&fixture, &command).await, "");
}

#[tokio::test]
async fn an_interrupted_download_is_resumed() {
    let fixture = Fixture::on_sqlite().await;
    let (agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let data = json!({"parameters": {"WHO": "me"}});
    for (version, damage, state) in [("1.0.0", 0, "succeeded"), ("1.0.1", 1, "rejected")] {
        let bytes = archive(version);
        upload(&fixture, bytes.clone()).await.expect(201);
        // What a killed agent left. Only a download that continues it notices that it is damaged.
        let folder = agent.state_dir().join("package_archives");
        fs::create_dir_all(&folder).expect("created");
        let mut partial = bytes[..bytes.len() / 2].to_vec();
        partial[20] ^= damage;
        fs::write(folder.join(format!("{}.partial", sha256(&bytes))), partial).expect("written");
        let script = format!("package:backup@{version}");
        let command = fixture.api.execute(&id, &script, data.clone()).await;
        let ended = fixture.api.finished(&command).await;
        assert_eq!(ended["state"], state, "{ended}");
    }
    // The damaged one was removed, so the next execution downloads it from its start.
    let command = fixture.api.execute(&id, "package:backup@1.0.1", data).await;
    fixture.api.in_state(&command, "succeeded").await;
}

#[tokio::test]
async fn an_agent_that_is_killed_while_a_package_runs_leaves_nothing_of_it() {
    let fixture = Fixture::on_sqlite().await;
    let (mut agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let description = DESCRIPTION.replace("required = true\npattern = \"[a-z]+\"", "");
    let program = "echo begun; until [ -e \"$WHO\" ]; do sleep 0.05; done; cat data/words\n";
    let files = [
        file("muster.toml", &description),
        file("bin/run.sh", program),
        file("data/words", "still here"),
    ];
    upload(&fixture, tar_zst(&files)).await.expect(201);
    let flag = fixture.test_dir.path().join("flag");
    let data = json!({"parameters": {"WHO": flag}});
    let command = fixture.api.execute(&id, "package:backup", data).await;
    fixture.api.output_reaches(&command, 6).await;
    agent.kill_9();
    agent.resume();
    fs::write(&flag, "").expect("written");
    fixture.api.in_state(&command, "succeeded").await;
    assert_eq!(output(&fixture, &command).await, "begun\nstill here");
    let unpacked = agent.state_dir().join("packages");
    eventually("the package is removed", async || {
        (fs::read_dir(&unpacked).expect("listed").count() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_user_runs_a_package_that_it_can_not_change() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let policy = json!({"allow": "library", "run_as": "nobody"});
    let (_agent, id) = agent_with_policy(&fixture, policy).await;
    upload(&fixture, archive("1.2.0")).await.expect(201);
    let data = json!({"parameters": {"WHO": "me"}});
    let command = fixture.api.execute(&id, "package:backup", data).await;
    let ended = fixture.api.finished(&command).await;
    assert_eq!(ended["data"]["package"]["version"], "1.2.0", "{ended}");
    let shown = output(&fixture, &command).await;
    assert!(shown.contains("--all me from the package"), "{shown}");
    assert!(!shown.contains("wrote"), "{shown}");
}

#[tokio::test]
async fn a_folder_is_pushed_run_listed_and_deleted_by_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, id) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let cli = fixture.cli().await;
    let folder = fixture.test_dir.path().join("backup");
    fs::create_dir_all(folder.join("bin")).expect("created");
    fs::create_dir_all(folder.join("data")).expect("created");
    fs::write(folder.join("muster.toml"), DESCRIPTION).expect("written");
    fs::write(folder.join("bin/run.sh"), PROGRAM).expect("written");
    fs::write(folder.join("data/words"), "of a folder").expect("written");
    let path = folder.to_str().expect("text");
    for _ in 0..2 {
        let pushed = cli.run(&["packages", "push", path]).await.expect(0);
        assert!(pushed.contains("backup@1.2.0"), "{pushed}");
    }
    let ran = cli.run(&["run", &id, "--package", "backup@1.2.0", "WHO=you"]).await.expect(0);
    assert!(ran.contains("--all you of a folder"), "{ran}");
    let listed = cli.run(&["packages"]).await.expect(0);
    assert!(listed.contains("backup") && listed.contains("1.2.0"), "{listed}");
    let copy = fixture.test_dir.path().join("copy.tar.zst");
    let to = copy.to_str().expect("text");
    cli.run(&["packages", "download", "backup", to]).await.expect(0);
    let shown = cli.run(&["packages", "show", "backup", "--json"]).await.json();
    assert_eq!(shown["sha256"], sha256(&fs::read(&copy).expect("downloaded")));
    cli.run(&["packages", "delete", "backup@1.2.0"]).await.expect(0);
    let listed = cli.run(&["packages"]).await.expect(0);
    assert!(listed.contains("no packages"), "{listed}");
}
