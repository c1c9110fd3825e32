//! From the installation to the removal, under systemd.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{ALL, JsonFields as _, Manager};
use serde_json::json;

use super::{DEPLOY, NewHost, complaint, new_files};

#[tokio::test]
async fn one_pasted_line_installs_and_another_removes_everything() {
    let mut new_host = NewHost::on(Manager::Systemd).await;
    let before = new_host.host.changes();
    let agent = new_host.install().await;
    let id = agent.id().to_owned();
    assert_eq!(agent["policy"], "manifest", "{agent}");
    assert!(new_host.printed_by(&id, "hello").await.contains("Hello"));

    let host = &new_host.host;
    let status = host.run(&format!("{DEPLOY} --status")).await;
    let status = status.expect(0);
    assert!(status.contains("connected"), "{status}");
    host.run("systemd-analyze verify muster-agent.service").await.expect(0);
    host.run("systemctl is-enabled muster-agent && systemctl is-active muster-agent")
        .await
        .expect(0);
    host.run("journalctl -u muster-agent --no-pager | grep -q registered").await.expect(0);
    // It follows until it is ended.
    host.run("timeout 60 /opt/muster/deploy.sh --logs | grep -q -m 1 registered").await.expect(0);

    // The key is in one file, which only root can read, and nowhere else.
    let key_file = host.file("/etc/muster/agent_key");
    let mode = std::fs::metadata(&key_file).expect("the key's file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let search = format!(
        "grep -rlF {0} /etc /opt /var/log/muster /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | grep -v '^/proc/self'",
        &new_host.key
    );
    let holders = host.run(&format!("sh -c \"$(cat)\" <<'END'\n{search}\nEND\n")).await;
    let holders = String::from_utf8_lossy(&holders.stdout).into_owned();
    let elsewhere: Vec<_> = holders
        .lines()
        .filter(|path| *path != "/etc/muster/agent_key" && !is_of_search(host, path))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");

    // After another installation it is the same agent.
    host.run(DEPLOY).await.expect(0);
    assert_eq!(new_host.fixture.online(&new_host.key_id).await["id"], id.as_str());

    assert_eq!(new_host.reboot().await["id"], id.as_str());
    let host = &new_host.host;

    host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    assert!(new_host.fixture.agents_of(&new_host.key_id).await.is_empty());
    let left = new_files(&before, &host.changes());
    assert!(left.is_empty(), "{left:#?}");
    host.run("! grep muster /etc/passwd && ! pgrep muster && ! systemctl cat muster-agent")
        .await
        .expect(0);
}

/// The command line of the search itself contains the text.
fn is_of_search(host: &muster_tests::Host, path: &str) -> bool {
    let Some(process) = path.strip_prefix("/proc/").and_then(|rest| rest.split('/').next()) else {
        return false;
    };
    let command = std::fs::read(host.file(&format!("/proc/{process}/comm"))).unwrap_or_default();
    !String::from_utf8_lossy(&command).starts_with("muster")
}

#[tokio::test]
async fn scripts_run_as_the_user_made_for_them_and_cannot_read_the_key() {
    let new_host = NewHost::on(Manager::Systemd).await;
    let agent = new_host.install().await;
    let id = agent.id();
    let body = "id -un; cat /etc/muster/agent_key /var/lib/muster/identity.json 2>/dev/null; touch \"$HOME/mine\" && echo home";
    new_host.allow("who", body).await;
    assert_eq!(new_host.printed_by(id, "who").await, "muster\nhome\n");
}

#[tokio::test]
async fn stopping_keeps_executions_running_unless_told_to_kill_them() {
    let new_host = NewHost::on(Manager::Systemd).await;
    let agent = new_host.install().await;
    let id = agent.id();
    new_host
        .allow("long", "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done")
        .await;
    let started = async || {
        let run = new_host.fixture.api.execute(id, "long", json!({})).await;
        new_host.fixture.api.output_reaches(&run, 6).await;
        run
    };
    let host = &new_host.host;
    let run = started().await;
    let refused = host.run(&format!("{DEPLOY} --uninstall")).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("--kill-executions"), "{}", refused.stderr);
    host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    let status = host.run(&format!("{DEPLOY} --status")).await;
    let start = format!("\nTo start the agent: {DEPLOY} --start\n");
    assert!(status.expect(4).contains(&start), "{status:?}");
    host.run("touch /tmp/go").await.expect(0);
    host.run(&format!("{DEPLOY} --start")).await.expect(0);
    let command = new_host.fixture.api.finished(&run).await;
    assert_eq!(command["state"], "succeeded", "{command}");
    assert_eq!(new_host.fixture.api.output(&run).await, b"begun\ndone\n");

    host.run("rm /tmp/go").await.expect(0);
    let run = started().await;
    host.run(&format!("{DEPLOY} --stop --kill-executions")).await.expect(0);
    host.run("! pgrep -f 'lon[g].sh'").await.expect(0);
    host.run(DEPLOY).await.expect(0);
    assert_eq!(new_host.fixture.api.finished(&run).await["state"], "cancelled");
}

#[tokio::test]
async fn installation_with_kept_state_is_the_same_agent() {
    let new_host = NewHost::on(Manager::Bare).await;
    let id = new_host.install().await["id"].clone();
    new_host.host.run(&format!("{DEPLOY} --uninstall --keep-state")).await.expect(0);
    let left = std::fs::read_dir(new_host.host.file("/opt")).expect("there").count();
    new_host
        .host
        .run("test ! -e /opt/muster && test ! -e /etc/muster && test -e /var/lib/muster")
        .await
        .expect(0);
    assert_eq!(new_host.install().await["id"], id, "{left}");
}

#[tokio::test]
async fn interrupted_installation_leaves_no_files_and_the_next_one_works() {
    let new_host = NewHost::on(Manager::Systemd).await;
    let before = new_host.host.changes();
    // The last step but one fails: the service can't be set up.
    new_host.host.run("mkdir -p /etc/systemd/system/muster-agent.service").await.expect(0);
    let line = new_host.line(&format!("--key {}", new_host.key));
    new_host.host.run(&line).await.expect(1);
    new_host.host.run("rm -rf /etc/systemd/system/muster-agent.service").await.expect(0);
    let left = new_files(&before, &new_host.host.changes());
    assert!(left.is_empty(), "{left:#?}");

    // The power is cut in the middle.
    new_host
        .host
        .run("mkdir -p /opt/muster/versions/9.9.9 && touch /opt/muster/.installing")
        .await
        .expect(0);
    new_host.install().await;
    new_host.host.run("test ! -e /opt/muster/versions/9.9.9").await.expect(0);
}

#[tokio::test]
async fn name_and_tags_of_an_installation_count_when_its_agent_enrols() {
    let new_host = NewHost::on(Manager::Bare).await;
    let (fixture, host) = (&new_host.fixture, &new_host.host);
    let words = "--name web-1 --tag web --tag eu/north";
    let said = host.run(&new_host.line(&format!("--key {} {words}", new_host.key))).await;
    let printed = said.expect(0);
    assert!(printed.contains("The server ignored --tag"), "{printed}");
    let agent = fixture.online(&new_host.key_id).await;
    assert_eq!((&agent["name"], &agent["tags"]), (&json!("web-1"), &json!([])), "{agent}");
    // Hosts can claim names, so it is no address for secrets.
    assert_eq!(agent["name_source"], "reported");
    host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);

    let fields = json!({"permissions": ALL, "trusts_holders": true, "tags": ["eu"]});
    let (key_id, key) = fixture.api.agent_key(fields).await;
    let line = new_host.line(&format!("--key {key} {words}"));
    let printed = host.run(&line).await.expect(0);
    assert!(!printed.contains("ignored"), "{printed}");
    let agent = fixture.online(&key_id).await;
    assert_eq!(agent["tags"], json!(["eu", "eu/north", "web"]), "{agent}");
    let path = format!("/api/agents/{}", agent.id());
    fixture.api.patch(&path, json!({"name": "shop", "tags": []})).await.expect(200);
    // What people changed since stays.
    let printed = host.run(&line).await.expect(0);
    assert!(printed.contains("keeps its name and tags"), "{printed}");
    let agent = fixture.online(&key_id).await;
    assert_eq!((&agent["name"], &agent["tags"]), (&json!("shop"), &json!([])), "{agent}");
    host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
}
