//! `deploy.sh` on hosts with Docker: the agent runs in a container. No container engine can run on
//! a throw-away host, so a stub records its calls and runs the containers there
//! (`tests/src/hosts/docker.sh`).

use std::fs;

use muster_tests::{Manager, Publisher};
use serde_json::json;

use super::{DEPLOY, NewHost, complaint, new_files};

const OWN: &str = env!("CARGO_PKG_VERSION");
/// Where the stub stores the state volume.
const STATE: &str = "/var/lib/docker-stub/volumes/muster-agent-state";

/// A host with an engine and the image of the version under test, and its server's releases.
async fn new_host() -> (NewHost, Publisher) {
    let new_host = NewHost::on(Manager::Bare).await;
    new_host.host.install_docker(&format!("muster-agent:{OWN}")).await;
    let publisher = Publisher::new(&new_host.fixture).await;
    publisher.release(OWN).await;
    (new_host, publisher)
}

impl NewHost {
    /// A call of the stub that begins with these words.
    async fn docker_was_told(&self, words: &str) -> Option<String> {
        let calls = self.host.run("cat /var/lib/docker-stub/calls").await.expect(0);
        calls.lines().find(|line| line.starts_with(words)).map(str::to_owned)
    }

    /// New files on the host, apart from the stub's own and the mount points.
    fn left_beside_docker(&self, before: &[String]) -> Vec<String> {
        let is_stubs = |path: &str| {
            path.contains("docker-stub")
                || ["/opt/muster", "/var/lib/muster", "/etc/muster"].contains(&path)
        };
        let new = new_files(before, &self.host.changes());
        new.into_iter().filter(|path| !is_stubs(path)).collect()
    }

    /// The containers and volumes that exist.
    async fn in_docker(&self) -> Vec<String> {
        let list = "ls /var/lib/docker-stub/containers /var/lib/docker-stub/volumes";
        let listed = self.host.run(list).await.expect(0);
        listed.lines().filter(|line| line.contains("muster")).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn agent_is_installed_in_a_container_and_updated_in_its_volume() {
    let (new_host, publisher) = new_host().await;
    let before = new_host.host.changes();
    let words = format!("--key {} --release-key {}", new_host.key, publisher.fingerprint());
    let said = new_host.host.run(&new_host.line(&words)).await.expect(0);
    assert!(said.contains("see only the container"), "{said}");
    let id = new_host.fixture.online(&new_host.key_id).await["id"].clone();
    let id = id.as_str().expect("an id");
    assert!(new_host.printed_by(id, "hello").await.contains("Hello"));

    let run = new_host.docker_was_told("run --hostname").await.expect("a run");
    let started = new_host.host.run("grep -- '--detach' /var/lib/docker-stub/calls").await;
    let started = started.expect(0);
    for word in ["--restart unless-stopped", "muster-agent-programs:/opt/muster"] {
        assert!(started.contains(word), "{started}");
    }
    // The key is only in its file: not in arguments, not in variables, and in no shell.
    let search = format!("grep -rlF {} /var/lib/docker-stub /opt /etc/muster", new_host.key);
    let holders = new_host.host.run(&search).await;
    let holders = String::from_utf8_lossy(&holders.stdout).into_owned();
    assert_eq!(holders, "/var/lib/docker-stub/volumes/muster-agent-settings/agent_key\n", "{run}");
    let mode = format!("stat -c %a:%u {}", holders.trim());
    assert_eq!(new_host.host.run(&mode).await.expect(0).trim(), "600:10001");

    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    let log = new_host.host.run(&format!("{DEPLOY} --logs")).await.expect(0);
    assert!(log.contains("registered"), "{log}");
    let body = "echo begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo done";
    let list = json!({"scripts": [{"name": "long", "path": "long.sh", "interpreter": "/bin/sh"}]});
    let write = |path: &str, text: &str| {
        fs::write(new_host.host.file(&format!("{STATE}/{path}")), text).expect("written");
    };
    write("scripts/long.sh", body);
    write("script_manifest.json", &list.to_string());
    let run = new_host.fixture.api.execute(id, "long", json!({})).await;
    new_host.fixture.api.output_reaches(&run, 6).await;

    publisher.release("0.9.7").await;
    let said = new_host.host.run(&format!("{DEPLOY} --update")).await.expect(0);
    assert!(said.contains(&format!("updated from {OWN} to 0.9.7")), "{said}");
    // Options that would end an execution are refused.
    for words in ["--stop", "--uninstall", ""] {
        let refused = new_host.host.run(&format!("{DEPLOY} {words}")).await;
        refused.expect(1);
        assert!(
            complaint(&refused).contains("executions are running in the container"),
            "{}",
            refused.stderr
        );
    }
    new_host.host.run("touch /tmp/go").await.expect(0);
    assert_eq!(new_host.fixture.api.finished(&run).await["state"], "succeeded");
    assert_eq!(new_host.fixture.api.output(&run).await, b"begun\ndone\n");

    // Another container on the same volumes is the same agent, with the version that it was updated
    // to.
    let unasked = new_host.host.run("docker rm --force muster-agent").await;
    unasked.expect(0);
    new_host.fixture.with_status(&new_host.key_id, "offline").await;
    new_host.host.run(&format!("{DEPLOY} --status")).await.expect(4);
    new_host.host.run(DEPLOY).await.expect(0);
    let agent = new_host.fixture.online(&new_host.key_id).await;
    assert_eq!((&agent["id"], &agent["version"]), (&json!(id), &json!("0.9.7")), "{agent}");

    new_host.host.run(&format!("{DEPLOY} --stop --kill-executions")).await.expect(0);
    new_host.fixture.with_status(&new_host.key_id, "offline").await;
    new_host.host.run(&format!("{DEPLOY} --start")).await.expect(0);
    new_host.fixture.online(&new_host.key_id).await;
    new_host.host.run(&format!("{DEPLOY} --uninstall")).await.expect(0);
    assert!(new_host.fixture.agents_of(&new_host.key_id).await.is_empty());
    assert_eq!(new_host.in_docker().await, Vec::<String>::new());
    let left = new_host.left_beside_docker(&before);
    assert!(left.is_empty(), "{left:#?}");
}

#[tokio::test]
async fn unsupported_container_options_are_refused_and_leave_no_container() {
    let (new_host, publisher) = new_host().await;
    let before = new_host.host.changes();
    let unknown = format!("--key mst_agent_{}", "0".repeat(64));
    let with = |words: &str| format!("--key {} {words}", new_host.key);
    for (words, expected) in [
        (unknown, "key"),
        (with("--image nowhere/agent:1"), "not present and can't be pulled"),
        (with("--image 'a b'"), "the name of an image"),
        (with("--version 9.9.9"), "muster-agent:9.9.9 is not present"),
        (with("--docker --from /tmp"), "require --native"),
        (with("--docker --run-as root"), "require --native"),
        (with("--docker --native"), "can't be combined"),
        (with("--native --image x"), "requires --docker"),
        (with("--native --privileged"), "require --docker"),
        (with("--cap-add net_raw"), "the name of a capability"),
        (with("--server http://127.0.0.1:1"), "Connection refused"),
    ] {
        let said = new_host.host.run(&new_host.line(&words)).await;
        assert_ne!(said.code, Some(0), "{words}");
        assert!(complaint(&said).contains(expected), "{words}: {}", said.stderr);
        assert_eq!(new_host.in_docker().await, Vec::<String>::new(), "{words}");
        let left = new_host.left_beside_docker(&before);
        assert!(left.is_empty(), "{words}: {left:#?}");
    }
    new_host.host.run("touch /var/lib/docker-stub/down").await.expect(0);
    let said = new_host.host.run(&new_host.line(&with("--docker"))).await;
    said.expect(1);
    assert!(complaint(&said).contains("no Docker engine answers"), "{}", said.stderr);

    // Without an engine the agent is a service of the host, and stays one.
    new_host.install().await;
    new_host.host.run("rm /var/lib/docker-stub/down").await.expect(0);
    new_host.host.run(DEPLOY).await.expect(0);
    assert_eq!(new_host.in_docker().await, Vec::<String>::new());
    let said = new_host.host.run(&format!("{DEPLOY} --docker")).await;
    said.expect(1);
    assert!(complaint(&said).contains("--uninstall it first"), "{}", said.stderr);
    drop(publisher);
}

#[tokio::test]
async fn a_container_reaches_more_only_on_request_and_the_output_says_what() {
    let (new_host, _publisher) = new_host().await;
    let install = async |words: &str| {
        new_host.host.run("rm -f /var/lib/docker-stub/calls").await.expect(0);
        let line = new_host.line(&format!("--docker --yes --key {} {words}", new_host.key));
        let printed = new_host.host.run(&line).await.expect(0);
        new_host.fixture.online(&new_host.key_id).await;
        let started = "grep -e '--detach' /var/lib/docker-stub/calls";
        (printed, new_host.host.run(started).await.expect(0))
    };
    let (printed, started) = install("").await;
    for word in ["--privileged", "--cap-add"] {
        assert!(!printed.contains(word) && !started.contains(word), "{printed}{started}");
    }
    let words =
        "--host-network --cap-add NET_RAW --cap-add=NET_ADMIN --cap-add NET_RAW --privileged";
    let (printed, started) = install(words).await;
    for word in ["--network host", "--cap-add NET_RAW --cap-add NET_ADMIN --privileged"] {
        assert!(started.contains(word), "{started}");
    }
    for warning in [
        "scripts use the host's network",
        "file capabilities can use NET_RAW",
        "becomes root in the container controls the host",
    ] {
        assert!(printed.contains(warning), "{printed}");
    }
    // An upgrade keeps the mounts, and the status shows them.
    let (printed, started) = install("").await;
    assert!(started.contains("--cap-add NET_RAW --cap-add NET_ADMIN --privileged"), "{started}");
    assert!(printed.contains("to drop them, --uninstall --keep-state"), "{printed}");
    let status = new_host.host.run(&format!("{DEPLOY} --status")).await.expect(0);
    assert!(status.contains("--privileged: a script that becomes root"), "{status}");
    // Only the agent's container has them, not the containers that write files into its volumes.
    let others = "! grep -v -e '--detach' /var/lib/docker-stub/calls | grep -e --privileged";
    new_host.host.run(others).await.expect(0);
}

#[tokio::test]
async fn container_that_does_not_connect_is_replaced_by_the_previous_one() {
    let (new_host, _publisher) = new_host().await;
    // An installation that was killed in the middle does not prevent another one.
    let record =
        "layout=1\nscope=system\nservice=docker\nname=muster-agent\nimage=muster-agent:1\n";
    let cut_off = format!(
        "mkdir /opt/muster && printf '{record}' >/opt/muster/installation && docker volume create muster-agent-state"
    );
    new_host.host.run(&cut_off).await.expect(0);
    new_host.install().await;
    // The programs of this image answer everything and do nothing.
    let idle =
        "#!/bin/sh\n[ \"$1\" != status ] || exit 3\n[ \"$1\" = run ] && exec sleep 600\nexit 0\n";
    for name in ["muster-agent", "muster-supervisor"] {
        let version = "/var/lib/docker-stub/volumes/muster-agent-programs/versions/current/bin";
        let path = new_host.host.file(&format!("{version}/{name}"));
        fs::copy(&path, path.with_extension("before")).expect("copied");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, idle).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("executable");
    }
    let said = new_host.host.run(DEPLOY).await;
    said.expect(1);
    assert!(said.stderr.contains("does not connect within 30 s"), "{}", said.stderr);
    assert!(said.stderr.contains("as it was before"), "{}", said.stderr);
    let containers = new_host.in_docker().await;
    assert!(!containers.iter().any(|name| name.ends_with("before")), "{containers:?}");
}
