//! What could go wrong at a bad moment, or at somebody's wish.

use std::fs;

use muster_tests::{Manager, binary};

use super::{DEPLOY, Newcomer, complaint, new_files};

#[tokio::test]
async fn a_piped_script_looks_at_nothing_in_the_working_folder() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let trap = "mkdir /srv/drop && cd /srv/drop && printf '#!/bin/sh\\nserver_default=x\\ntouch /srv/trapped\\n' >sh \
        && printf 'layout=1\\nscope=system\\nservice=/srv/drop/evil\\n' >installation \
        && printf '#!/bin/sh\\ntouch /srv/trapped\\n' >evil_stop && chmod 755 evil_stop && chmod 777 .";
    newcomer.host.run(trap).await.expect(0);
    let inside = |words: &str| format!("cd /srv/drop && {}", newcomer.line(words));
    newcomer.host.run(&inside("--stop")).await.expect(1);
    newcomer.host.run(&inside(&format!("--key {}", newcomer.key))).await.expect(0);
    newcomer.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    newcomer.host.run("! test -e /srv/trapped").await.expect(0);
}

#[tokio::test]
async fn root_installs_nothing_where_another_user_could_exchange_it() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    newcomer.host.run("useradd --create-home bob && mkdir -m 777 /srv/open").await.expect(0);
    for folder in ["/home/bob/agent", "/srv/open/agent"] {
        let line = newcomer.line(&format!("--dir {folder} --key {}", newcomer.key));
        let refused = newcomer.host.run(&line).await;
        refused.expect(1);
        assert!(complaint(&refused).contains("would run as root"), "{}", refused.stderr);
        newcomer.host.run(&format!("test ! -e {folder}")).await.expect(0);
    }
}

#[tokio::test]
async fn a_crontab_that_can_not_be_read_is_not_written() {
    let newcomer = Newcomer::on(Manager::Cron).await;
    newcomer.host.run("echo '0 1 * * * /root/backup' | crontab -").await.expect(0);
    let failing = "#!/bin/sh\n[ \"$1\" != -l ] || { echo cannot read >&2; exit 1; }\nexec /usr/bin/crontab \"$@\"\n";
    let curfew = async |content: &str| {
        let path = newcomer.host.file("/usr/local/bin/crontab");
        fs::write(path, content).expect("written");
        newcomer.host.run("chmod 755 /usr/local/bin/crontab").await.expect(0);
    };
    let kept = async || newcomer.host.run("/usr/bin/crontab -l").await.expect(0);
    curfew(failing).await;
    newcomer.host.run(&newcomer.line(&format!("--key {}", newcomer.key))).await.expect(1);
    assert_eq!(kept().await, "0 1 * * * /root/backup\n");
    newcomer.host.run("rm /usr/local/bin/crontab").await.expect(0);

    newcomer.install().await;
    assert!(kept().await.contains("@reboot"));
    newcomer.host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    assert_eq!(kept().await, "0 1 * * * /root/backup\n");
}

#[tokio::test]
async fn whatever_was_killed_half_way_can_be_removed_whole() {
    let newcomer = Newcomer::on(Manager::Systemd).await;
    let before = newcomer.host.changes();
    // The last step of an installation, then the second step of a removal, kill their shell.
    for (tool, words, line) in [
        ("mv", "*/installation.new*", newcomer.line(&format!("--key {}", newcomer.key))),
        ("rm", "*muster-agent.service*", format!("{DEPLOY} --uninstall")),
    ] {
        if tool == "rm" {
            newcomer.install().await;
        }
        let real = newcomer.host.run(&format!("command -v {tool}")).await.expect(0);
        let killer = format!(
            "#!/bin/sh\ncase \"$*\" in {words}) {} \"$@\"; kill -9 $PPID;; *) exec {} \"$@\";; esac\n",
            if tool == "rm" { real.trim() } else { ":" },
            real.trim()
        );
        let path = format!("/usr/local/bin/{tool}");
        fs::write(newcomer.host.file(&path), killer).expect("written");
        newcomer.host.run(&format!("chmod 755 {path}")).await.expect(0);
        let said = newcomer.host.run(&line).await;
        assert_ne!(said.code, Some(0), "{tool} killed nobody: {}", said.stderr);
        newcomer
            .host
            .run(&format!("{} -f {path}", if tool == "rm" { real.trim() } else { "rm" }))
            .await;

        newcomer.host.run(&newcomer.line("--uninstall")).await.expect(0);
        let left = new_files(&before, &newcomer.host.changes());
        assert!(left.is_empty(), "after {tool}: {left:#?}");
        newcomer.host.run("! grep muster /etc/passwd && ! pgrep muster").await.expect(0);
    }
}

#[tokio::test]
async fn a_version_that_does_not_connect_gives_way_to_the_one_before() {
    let newcomer = Newcomer::on(Manager::Systemd).await;
    newcomer.install().await;
    let newer = newcomer.world.site.folder("newer");
    // It says what is asked for, and is no agent.
    let real = binary("muster-agent");
    let agent = format!(
        "#!/bin/sh\ncase $1 in version) echo muster-agent 0.9.7;; doctor) exit 0;; status) exec {} \"$@\";; *) exit 1;; esac\n",
        real.display()
    );
    fs::write(newer.join("muster-agent"), agent).expect("written");
    fs::copy(binary("muster-supervisor"), newer.join("muster-supervisor")).expect("copied");
    let said = newcomer.host.run(&format!("{DEPLOY} --from {}", newer.display())).await;
    said.expect(1);
    assert!(said.stderr.contains("does not connect"), "{}", said.stderr);
    assert!(said.stderr.contains("as it was before"), "{}", said.stderr);
    let agent = newcomer.world.online(&newcomer.key_id).await;
    assert_eq!(agent["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn what_a_person_has_set_stays_when_it_is_installed_again() {
    let newcomer = Newcomer::on(Manager::Bare).await;
    let line = newcomer.line(&format!("--key {} --run-as root", newcomer.key));
    newcomer.host.run(&line).await.expect(0);
    newcomer
        .host
        .run("echo \"MUSTER_HTTP_FALLBACK='only'\" >>/etc/muster/agent.env")
        .await
        .expect(0);
    newcomer.host.run(&format!("{DEPLOY} --allow library")).await.expect(0);
    let agent = newcomer.world.online(&newcomer.key_id).await;
    assert_eq!((&agent["transport"], &agent["policy"]), (&"http".into(), &"library".into()));
    let policy = newcomer.host.run("cat /var/lib/muster/policy.json").await.expect(0);
    assert_eq!(policy.trim(), "{\"allow\": \"library\"}");
}

#[tokio::test]
async fn a_stopped_agent_is_started_again_without_asking_the_server_for_anything() {
    let mut newcomer = Newcomer::on(Manager::Cron).await;
    newcomer.install().await;
    newcomer.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    newcomer.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    newcomer.world.online(&newcomer.key_id).await;
    // Two of them would be one too many.
    newcomer.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    newcomer.host.run("test $(pgrep -xc muster-supervis) = 1").await.expect(0);
    newcomer.world.server.stop();
    newcomer.host.run("pkill -9 -x muster-agent; true").await.expect(0);
    newcomer.host.run(&format!("{DEPLOY} --stop")).await.expect(0);
    newcomer.world.server.resume();
    newcomer.host.run(&format!("{DEPLOY} --start")).await.expect(0);
}
