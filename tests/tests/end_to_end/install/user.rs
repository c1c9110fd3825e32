//! Installation without root, for one user.

use muster_tests::{JsonFields as _, Manager};

use super::{NewHost, new_files};

async fn lives_for_ada(manager: Manager) {
    let mut new_host = NewHost::on(manager).await;
    new_host.host.run("useradd --create-home --shell /bin/sh ada").await.expect(0);
    if manager == Manager::Systemd {
        // As after a login.
        new_host.host.run("systemctl start dbus systemd-logind user@$(id -u ada)").await.expect(0);
    }
    let before = new_host.host.changes();
    let line = new_host.line(&format!("--user --key {}", new_host.key));
    new_host.host.run_as("ada", &line).await.expect(0);
    let agent = new_host.fixture.online(&new_host.key_id).await;
    let id = agent.id();
    assert!(new_host.printed_by(id, "hello").await.contains("Hello"));
    let deploy = "/home/ada/.muster/deploy.sh";
    new_host.host.run_as("ada", &format!("{deploy} --status")).await.expect(0);
    new_host.host.run("ps -o user= -C muster-agent | grep -qx ada").await.expect(0);

    new_host.reboot().await;
    new_host.host.run_as("ada", &format!("{deploy} --uninstall")).await.expect(0);
    assert!(new_host.fixture.agents_of(&new_host.key_id).await.is_empty());
    let left = new_files(&before, &new_host.host.changes());
    // The user's folder for settings may remain.
    let left: Vec<_> = left.iter().filter(|path| *path != "/home/ada/.config").collect();
    assert!(left.is_empty(), "{left:#?}");
    new_host.host.run("! test -e /var/lib/systemd/linger/ada").await.expect(0);
}

#[tokio::test]
async fn user_agent_starts_without_a_login() {
    lives_for_ada(Manager::Systemd).await;
}

#[tokio::test]
async fn crontab_of_a_user_starts_the_agent_without_systemd() {
    lives_for_ada(Manager::Cron).await;
}

#[tokio::test]
async fn two_installations_in_separate_folders_work_side_by_side() {
    let new_host = NewHost::on(Manager::Bare).await;
    let (other_id, other) = new_host.fixture.api.agent_key(serde_json::json!({})).await;
    new_host.install().await;
    new_host.host.run(&new_host.line(&format!("--dir /srv/second --key {other}"))).await.expect(0);
    new_host.fixture.online(&other_id).await;
    new_host.host.run("/srv/second/deploy.sh --uninstall").await.expect(0);
    new_host.host.run("test ! -e /srv/second").await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
}
