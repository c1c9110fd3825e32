//! Installations that are interrupted, attacked or run twice.

use std::fs;

use muster_tests::{Manager, binary, eventually};
use serde_json::{Value, json};

use super::{DEPLOY, NewHost, complaint, new_files};

#[tokio::test]
async fn piped_script_ignores_files_in_the_working_directory() {
    let new_host = NewHost::on(Manager::Bare).await;
    let trap = "mkdir /srv/drop && cd /srv/drop && printf '#!/bin/sh\\nserver_default=x\\ntouch /srv/trapped\\n' >sh \
        && printf 'layout=1\\nscope=system\\nservice=/srv/drop/evil\\n' >installation \
        && printf '#!/bin/sh\\ntouch /srv/trapped\\n' >evil_stop && chmod 755 evil_stop && chmod 777 .";
    new_host.host.run(trap).await.expect(0);
    let inside = |words: &str| format!("cd /srv/drop && {}", new_host.line(words));
    new_host.host.run(&inside("--stop")).await.expect(1);
    new_host.host.run(&inside(&format!("--key {}", new_host.key))).await.expect(0);
    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    new_host.host.run("! test -e /srv/trapped").await.expect(0);
}

#[tokio::test]
async fn root_refuses_to_install_where_another_user_can_write() {
    let new_host = NewHost::on(Manager::Bare).await;
    new_host.host.run("useradd --create-home bob && mkdir -m 777 /srv/open").await.expect(0);
    for folder in ["/home/bob/agent", "/srv/open/agent"] {
        let line = new_host.line(&format!("--dir {folder} --key {}", new_host.key));
        let refused = new_host.host.run(&line).await;
        refused.expect(1);
        assert!(complaint(&refused).contains("would run as root"), "{}", refused.stderr);
        new_host.host.run(&format!("test ! -e {folder}")).await.expect(0);
    }
}

#[tokio::test]
async fn unreadable_crontab_is_not_overwritten() {
    let new_host = NewHost::on(Manager::Cron).await;
    new_host.host.run("echo '0 1 * * * /root/backup' | crontab -").await.expect(0);
    let failing = "#!/bin/sh\n[ \"$1\" != -l ] || { echo cannot read >&2; exit 1; }\nexec /usr/bin/crontab \"$@\"\n";
    let curfew = async |content: &str| {
        let path = new_host.host.file("/usr/local/bin/crontab");
        fs::write(path, content).expect("written");
        new_host.host.run("chmod 755 /usr/local/bin/crontab").await.expect(0);
    };
    let kept = async || new_host.host.run("/usr/bin/crontab -l").await.expect(0);
    curfew(failing).await;
    new_host.host.run(&new_host.line(&format!("--key {}", new_host.key))).await.expect(1);
    assert_eq!(kept().await, "0 1 * * * /root/backup\n");
    new_host.host.run("rm /usr/local/bin/crontab").await.expect(0);

    new_host.install().await;
    assert!(kept().await.contains("@reboot"));
    new_host.host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    assert_eq!(kept().await, "0 1 * * * /root/backup\n");
}

#[tokio::test]
async fn killed_installation_can_be_removed_completely() {
    let new_host = NewHost::on(Manager::Systemd).await;
    let before = new_host.host.changes();
    // The last step of an installation and then the second step of a removal kill their shell.
    for (tool, words, line) in [
        ("mv", "*/installation.new*", new_host.line(&format!("--key {}", new_host.key))),
        ("rm", "*muster-agent.service*", format!("{DEPLOY} --uninstall")),
    ] {
        if tool == "rm" {
            new_host.install().await;
        }
        let real = new_host.host.run(&format!("command -v {tool}")).await.expect(0);
        let killer = format!(
            "#!/bin/sh\ncase \"$*\" in {words}) {} \"$@\"; kill -9 $PPID;; *) exec {} \"$@\";; esac\n",
            if tool == "rm" { real.trim() } else { ":" },
            real.trim()
        );
        let path = format!("/usr/local/bin/{tool}");
        fs::write(new_host.host.file(&path), killer).expect("written");
        new_host.host.run(&format!("chmod 755 {path}")).await.expect(0);
        let said = new_host.host.run(&line).await;
        assert_ne!(said.code, Some(0), "{tool} killed no process: {}", said.stderr);
        new_host
            .host
            .run(&format!("{} -f {path}", if tool == "rm" { real.trim() } else { "rm" }))
            .await;

        new_host.host.run(&new_host.line("--uninstall")).await.expect(0);
        let left = new_files(&before, &new_host.host.changes());
        assert!(left.is_empty(), "after {tool}: {left:#?}");
        new_host.host.run("! grep muster /etc/passwd && ! pgrep muster").await.expect(0);
    }
}

#[tokio::test]
async fn version_that_does_not_connect_is_rolled_back_by_deploy() {
    let new_host = NewHost::on(Manager::Systemd).await;
    new_host.install().await;
    let newer = new_host.fixture.test_dir.folder("newer");
    // It answers as requested, but is not an agent.
    let real = binary("muster-agent");
    let agent = format!(
        "#!/bin/sh\ncase $1 in version) echo muster-agent 0.9.7;; doctor) exit 0;; status) exec {} \"$@\";; *) exit 1;; esac\n",
        real.display()
    );
    fs::write(newer.join("muster-agent"), agent).expect("written");
    fs::copy(binary("muster-supervisor"), newer.join("muster-supervisor")).expect("copied");
    let said = new_host.host.run(&format!("{DEPLOY} --from {}", newer.display())).await;
    said.expect(1);
    assert!(said.stderr.contains("does not connect"), "{}", said.stderr);
    assert!(said.stderr.contains("as it was before"), "{}", said.stderr);
    let agent = new_host.fixture.online(&new_host.key_id).await;
    assert_eq!(agent["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn settings_of_the_owner_survive_a_reinstallation() {
    let new_host = NewHost::on(Manager::Bare).await;
    let line = new_host.line(&format!("--key {} --run-as root", new_host.key));
    new_host.host.run(&line).await.expect(0);
    new_host
        .host
        .run("echo \"MUSTER_HTTP_FALLBACK='only'\" >>/etc/muster/agent.env")
        .await
        .expect(0);
    new_host.host.run(&format!("{DEPLOY} --allow library")).await.expect(0);
    let agent = eventually("the agent reports its new policy", async || {
        let agent = new_host.fixture.online(&new_host.key_id).await;
        (agent["policy"] == "library").then_some(agent)
    })
    .await;
    assert_eq!(agent["transport"], "http", "{agent}");
    let policy = new_host.host.run("cat /var/lib/muster/policy.json").await.expect(0);
    assert_eq!(policy.trim(), "{\"allow\": \"library\"}");

    let policy_after = async |options: &str| {
        new_host.host.run(&format!("{DEPLOY} {options}")).await.expect(0);
        new_host.host.run("cat /var/lib/muster/policy.json").await.expect(0).trim().to_owned()
    };
    let forbidding = "{\"allow\": \"library\", \"forbid\": [\"shutdown\", \"update\"]}";
    assert_eq!(policy_after("--forbid shutdown,update").await, forbidding);
    assert_eq!(
        policy_after("--allow manifest").await,
        forbidding.replace("library", "manifest"),
        "an option changes only its own field"
    );
    assert_eq!(policy_after("--forbid none").await, "{\"allow\": \"manifest\"}");

    // Fields that no option sets stay, however they are written: they protect the host.
    let needs = json!({"approvers": ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
        "scripts": ["a } \"b\", {c"], "ad_hoc": true});
    let written = json!({"needs_approval": needs, "allow": "manifest", "forbid": ["update"]});
    let pretty = serde_json::to_string_pretty(&written).expect("JSON");
    let write = format!("cat >/var/lib/muster/policy.json <<'END'\n{pretty}\nEND");
    new_host.host.run(&write).await.expect(0);
    let kept: Value = serde_json::from_str(&policy_after("--allow library").await).expect("JSON");
    let expected = json!({"needs_approval": needs, "allow": "library", "forbid": ["update"]});
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn stopped_agent_is_restarted_without_the_server() {
    let mut new_host = NewHost::on(Manager::Cron).await;
    new_host.install().await;
    new_host.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    new_host.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
    // A second start must not start a second supervisor.
    new_host.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    new_host.host.run("test $(pgrep -xc muster-supervis) = 1").await.expect(0);
    new_host.fixture.server.stop();
    new_host.host.run("pkill -9 -x muster-agent; true").await.expect(0);
    new_host.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    new_host.fixture.server.resume();
    new_host.host.run(&format!("{DEPLOY} --start")).await.expect(0);
}
