//! Hosts without systemd: what starts services there starts the agent, also after a reboot.

use muster_tests::Manager;

use super::{DEPLOY, Newcomer, new_files};

async fn lives_under(manager: Manager, shell: &str) {
    let mut newcomer = Newcomer::on(manager).await;
    let before = newcomer.host.changes();
    let line = newcomer.line_for(shell, &format!("--key {}", newcomer.key));
    newcomer.host.run(&line).await.expect(0);
    let id = newcomer.world.online(&newcomer.key_id).await["id"].clone();
    assert!(newcomer.printed_by(id.as_str().expect("an id"), "hello").await.contains("Hello"));

    newcomer.host.run(&format!("{shell} {DEPLOY}")).await.expect(0);
    newcomer.host.run(&format!("{shell} {DEPLOY} --status")).await.expect(0);
    newcomer.host.run(&format!("{shell} {DEPLOY} --stop")).await.expect(0);
    newcomer.world.with_status(&newcomer.key_id, "offline").await;
    newcomer.host.run("! pgrep -x muster-supervis && ! pgrep -x muster-agent").await.expect(0);
    newcomer.host.run(&format!("{shell} {DEPLOY} --start")).await.expect(0);

    if manager != Manager::Bare {
        newcomer.host.reboot().await;
        newcomer.world.online(&newcomer.key_id).await;
    }
    newcomer.host.run(&format!("{shell} {DEPLOY} --uninstall")).await.expect(0);
    assert!(newcomer.world.agents_of(&newcomer.key_id).await.is_empty());
    let left = new_files(&before, &newcomer.host.changes());
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
async fn cron_starts_the_agent_where_there_is_nothing_else() {
    lives_under(Manager::Cron, "busybox sh").await;
}

#[tokio::test]
async fn a_host_without_any_still_has_its_agent_until_it_is_booted_again() {
    lives_under(Manager::Bare, "bash").await;
}
