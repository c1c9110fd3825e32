//! The output of `deploy.sh`: what it prints, to which stream, and what is left of it.

use muster_tests::{Manager, repository};

use super::{DEPLOY, NewHost, complaint};

const SHELLS: [&str; 3] = ["dash", "bash", "busybox sh"];

#[tokio::test]
async fn no_shell_and_no_open_output_remain_on_a_host_without_a_service_manager() {
    let new_host = NewHost::on(Manager::Bare).await;
    let host = &new_host.host;
    for shell in SHELLS {
        let line = new_host.line_for(shell, &format!("--key {}", new_host.key));
        // `$( )` ends when the last process that holds its output open has ended.
        let captured = format!("timeout 120 sh -c 'printed=$({line}) && echo \"$printed\"'");
        let printed = host.run(&captured).await.expect(0);
        assert!(printed.contains("  connected\n"), "{shell}: {printed}");
        new_host.fixture.online(&new_host.key_id).await;
        let holders = host.run("grep -lF -f /etc/muster/agent_key /proc/[0-9]*/cmdline").await;
        assert_eq!(String::from_utf8_lossy(&holders.stdout), "", "{shell}");

        let restarted = format!("timeout 120 sh -c 'printed=$({shell} {DEPLOY} --start)'");
        host.run(&restarted).await.expect(0);
        host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    }
}

#[tokio::test]
async fn dash_installs_although_its_output_can_not_be_written() {
    works_without_output("dash").await;
}

#[tokio::test]
async fn bash_installs_although_its_output_can_not_be_written() {
    works_without_output("bash").await;
}

#[tokio::test]
async fn busybox_installs_although_its_output_can_not_be_written() {
    works_without_output("busybox sh").await;
}

/// If the output cannot be written, the result and the files are the same.
async fn works_without_output(shell: &str) {
    let new_host = NewHost::on(Manager::Bare).await;
    let host = &new_host.host;
    for (sink, after) in [("", " | true"), (">/dev/full 2>/dev/full", ""), (">&- 2>&-", "")] {
        let case = format!("{shell} {sink}{after}");
        let run = async |command: &str| {
            let line = format!("( ( {command} ) {sink}; echo $? >/tmp/code ){after}");
            host.run(&format!("rm -f /tmp/code; {line}")).await;
            let code = host.run("cat /tmp/code").await.expect(0);
            assert_eq!(code, "0\n", "{case}: {command}");
        };
        run(&new_host.line_for(shell, &format!("--key {}", new_host.key))).await;
        new_host.fixture.online(&new_host.key_id).await;
        host.run("! grep -v \"^[A-Z_]*='[^']*'$\" /etc/muster/agent.env").await.expect(0);
        let record = host.run("cat /opt/muster/installation").await.expect(0);
        let expected =
            "layout=1\nscope=system\nservice=cron\nname=muster-agent\nmade_user=muster\n";
        assert_eq!(record, expected, "{case}");
        run(&format!("{shell} {DEPLOY} --status")).await;
        run(&format!("{shell} {DEPLOY} --help")).await;
        run(&format!("{shell} {DEPLOY} --stop")).await;
        run(&format!("{shell} {DEPLOY} --start")).await;
        run(&format!("{shell} {DEPLOY} --uninstall")).await;
        host.run("test ! -e /opt/muster && test ! -e /var/lib/muster").await.expect(0);
    }
}

#[tokio::test]
async fn no_message_suggests_to_give_up_encryption() {
    let new_host = NewHost::on(Manager::Bare).await;
    let words = format!("--key {} --server http://192.0.2.1", new_host.key);
    let refused = new_host.host.run(&new_host.line(&words)).await;
    refused.expect(1);
    assert!(complaint(&refused).contains("use an https:// address"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("--insecure"), "{}", refused.stderr);
}

#[test]
fn the_table_of_contents_names_every_section_in_order() {
    let script = std::fs::read_to_string(repository().join("deploy.sh")).expect("read");
    let (head, body) = script.split_once("\nset -eu\n").expect("a head");
    let listed = head.lines().filter_map(|line| line.strip_prefix("#   "));
    let listed: Vec<_> = listed.filter_map(|line| line.split("  ").next()).collect();
    let sections = body.lines().filter_map(|line| line.strip_prefix("# ==== "));
    let sections: Vec<_> = sections.map(|line| line.trim_end_matches('=').trim_end()).collect();
    assert_eq!(listed, sections);
    assert!(sections.len() > 10, "{sections:?}");
}
