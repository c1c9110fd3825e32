//! Files that `deploy.sh` reads and runs must belong to the user who installs.

use muster_tests::Manager;

use super::{DEPLOY, NewHost, complaint};

/// A record and programs that leave a mark if any of them runs.
const PLANT: &str = "cd /tmp && mkdir -p versions/current/bin \
    && printf '#!/bin/sh\\ntouch /srv/planted/ran\\nexit 1\\n' >versions/current/bin/muster-agent \
    && cp versions/current/bin/muster-agent versions/current/bin/muster-supervisor \
    && chmod 755 versions/current/bin/* && mkdir -p etc state && touch etc/agent.env";

#[tokio::test]
async fn root_ignores_an_installation_that_another_user_planted_beside_its_copy_of_the_script() {
    let new_host = NewHost::on(Manager::Bare).await;
    let host = &new_host.host;
    host.run("useradd --create-home bob && mkdir -m 777 /srv/planted").await.expect(0);
    host.run_as("bob", PLANT).await.expect(0);
    let download =
        format!("curl -fsS {}/install/deploy.sh >/tmp/deploy.sh", new_host.fixture.server.url());
    host.run(&download).await.expect(0);
    for scope in ["system", "user"] {
        let record = format!(
            "printf 'layout=1\\nscope={scope}\\nservice=none\\nname=muster-agent\\n' >/tmp/installation"
        );
        host.run_as("bob", &record).await.expect(0);
        for words in [
            "--status".to_owned(),
            "--stop".to_owned(),
            "--start".to_owned(),
            "--update".to_owned(),
            "--uninstall".to_owned(),
            "--dir /tmp --status".to_owned(),
            "--dir /tmp --user --status".to_owned(),
            format!("--key {}", new_host.key),
        ] {
            let refused = host.run(&format!("sh /tmp/deploy.sh {words}")).await;
            refused.expect(1);
            let reason = complaint(&refused);
            assert!(reason.contains("every user can write to /tmp"), "{scope} {words}: {reason}");
        }
    }
    host.run("! test -e /srv/planted/ran").await.expect(0);

    // Without the planted record, a copy in /tmp installs normally.
    host.run("rm -r /tmp/installation").await.expect(0);
    host.run(&format!("sh /tmp/deploy.sh --key {}", new_host.key)).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
    host.run("! test -e /srv/planted/ran").await.expect(0);
}

#[tokio::test]
async fn an_installation_that_another_user_can_change_is_refused() {
    let new_host = NewHost::on(Manager::Bare).await;
    new_host.install().await;
    let host = &new_host.host;
    host.run("useradd --create-home bob && touch /opt/muster/release_key").await.expect(0);
    for path in [
        "/opt/muster",
        "/opt/muster/installation",
        "/opt/muster/release_key",
        "/opt/muster/versions",
        "/opt/muster/versions/current",
        "/opt/muster/versions/current/bin",
        "/opt/muster/versions/current/bin/muster-agent",
        "/etc/muster",
        "/etc/muster/agent.env",
        "/var/lib/muster",
        "/var/lib/muster/policy.json",
    ] {
        let is_link = path.ends_with("/current");
        let mut changes = vec![("chown -h bob", "belongs to another user")];
        if !is_link {
            changes.push(("chmod o+w", "every user can write to"));
            changes.push(("chgrp bob PATH; chmod g+w", "a group can write to"));
        }
        for (change, expected) in changes {
            let mode = host.run(&format!("stat -c %a {path}")).await.expect(0);
            let change = match change.split_once("PATH") {
                Some((before, after)) => format!("{before}{path}{after} {path}"),
                None => format!("{change} {path}"),
            };
            host.run(&change).await.expect(0);
            let refused = host.run(&format!("{DEPLOY} --status")).await;
            let restore = format!("chown -h root:root {path}");
            host.run(&restore).await.expect(0);
            if !is_link {
                host.run(&format!("chmod {} {path}", mode.trim())).await.expect(0);
            }
            refused.expect(1);
            let reason = complaint(&refused);
            // Which of the two checks comes first depends on the path.
            let is_explained =
                reason.contains("would run as root") || reason.contains("is not trusted");
            assert!(reason.contains(expected) && is_explained, "{change}: {reason}");
        }
    }
    host.run(&format!("{DEPLOY} --status")).await.expect(0);
}

#[tokio::test]
async fn a_users_installation_is_closed_to_other_users_too() {
    let new_host = NewHost::on(Manager::Bare).await;
    let host = &new_host.host;
    host.run("useradd --create-home --shell /bin/sh ada").await.expect(0);
    let line = new_host.line(&format!("--user --key {}", new_host.key));
    host.run_as("ada", &line).await.expect(0);
    let status = "/home/ada/.muster/deploy.sh --status";
    host.run_as("ada", status).await.expect(0);

    // Root does not run the programs of a user.
    let refused = host.run(status).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("belongs to another user"), "{}", refused.stderr);
    host.run_as("ada", "chmod 666 /home/ada/.muster/etc/agent.env").await.expect(0);
    let refused = host.run_as("ada", status).await;
    refused.expect(1);
    let reason = complaint(&refused);
    assert!(reason.contains("every user can write to /home/ada/.muster/etc/agent.env"), "{reason}");
}
