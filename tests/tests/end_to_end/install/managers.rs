//! Hosts without systemd: their service manager starts the agent, also after a reboot.

use muster_tests::Manager;

use super::{DEPLOY, NewHost, new_files};

async fn lives_under(manager: Manager, shell: &str) {
    let mut new_host = NewHost::on(manager).await;
    let before = new_host.host.changes();
    let line = new_host.line_for(shell, &format!("--key {}", new_host.key));
    new_host.host.run(&line).await.expect(0);
    let id = new_host.fixture.online(&new_host.key_id).await["id"].clone();
    assert!(new_host.printed_by(id.as_str().expect("an id"), "hello").await.contains("Hello"));

    new_host.host.run(&format!("{shell} {DEPLOY}")).await.expect(0);
    new_host.host.run(&format!("{shell} {DEPLOY} --status")).await.expect(0);
    new_host.host.run(&format!("{shell} {DEPLOY} --stop")).await.expect(0);
    new_host.fixture.with_status(&new_host.key_id, "offline").await;
    new_host.host.run("! pgrep -x muster-supervis && ! pgrep -x muster-agent").await.expect(0);
    new_host.host.run(&format!("{shell} {DEPLOY} --start")).await.expect(0);

    if manager != Manager::Bare {
        new_host.reboot().await;
    }
    new_host.host.run(&format!("{shell} {DEPLOY} --uninstall")).await.expect(0);
    assert!(new_host.fixture.agents_of(&new_host.key_id).await.is_empty());
    let left = new_files(&before, &new_host.host.changes());
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn openrc_starts_the_agent() {
    lives_under(Manager::OpenRc, "dash").await;
}

#[tokio::test]
async fn runit_starts_the_agent() {
    lives_under(Manager::Runit, "dash").await;
}

#[tokio::test]
async fn cron_starts_the_agent_without_a_service_manager() {
    lives_under(Manager::Cron, "busybox sh").await;
}

#[tokio::test]
async fn host_without_a_service_manager_runs_its_agent_until_reboot() {
    lives_under(Manager::Bare, "bash").await;
}
