//! Without root: for one user.

use muster_tests::Manager;

use super::{Newcomer, new_files};

async fn lives_for_ada(manager: Manager) {
    let mut newcomer = Newcomer::on(manager).await;
    newcomer.host.run("useradd --create-home --shell /bin/sh ada").await.expect(0);
    if manager == Manager::Systemd {
        // As if she had logged in.
        newcomer.host.run("systemctl start dbus systemd-logind user@$(id -u ada)").await.expect(0);
    }
    let before = newcomer.host.changes();
    let line = newcomer.line(&format!("--user --key {}", newcomer.key));
    newcomer.host.run_as("ada", &line).await.expect(0);
    let agent = newcomer.world.online(&newcomer.key_id).await;
    let id = agent["id"].as_str().expect("an id");
    assert!(newcomer.printed_by(id, "hello").await.contains("Hello"));
    let deploy = "/home/ada/.muster/deploy.sh";
    newcomer.host.run_as("ada", &format!("{deploy} --status")).await.expect(0);
    newcomer.host.run("ps -o user= -C muster-agent | grep -qx ada").await.expect(0);

    newcomer.host.reboot().await;
    newcomer.world.online(&newcomer.key_id).await;
    newcomer.host.run_as("ada", &format!("{deploy} --uninstall")).await.expect(0);
    assert!(newcomer.world.agents_of(&newcomer.key_id).await.is_empty());
    let left = new_files(&before, &newcomer.host.changes());
    // The folder for settings of all kinds may stay.
    let left: Vec<_> = left.iter().filter(|path| *path != "/home/ada/.config").collect();
    assert!(left.is_empty(), "{left:#?}");
    newcomer.host.run("! test -e /var/lib/systemd/linger/ada").await.expect(0);
}

#[tokio::test]
async fn a_user_has_an_agent_of_her_own_that_starts_without_her_log_in() {
    lives_for_ada(Manager::Systemd).await;
}

#[tokio::test]
async fn a_users_crontab_starts_her_agent_where_there_is_no_systemd() {
    lives_for_ada(Manager::Cron).await;
}

#[tokio::test]
async fn two_installations_in_folders_of_their_own_stand_side_by_side() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let (other_id, other) = newcomer.world.api.agent_key(serde_json::json!({})).await;
    newcomer.install().await;
    newcomer.host.run(&newcomer.line(&format!("--dir /srv/second --key {other}"))).await.expect(0);
    newcomer.world.online(&other_id).await;
    newcomer.host.run("/srv/second/deploy.sh --uninstall").await.expect(0);
    newcomer.host.run("test ! -e /srv/second").await.expect(0);
    newcomer.world.online(&newcomer.key_id).await;
}
