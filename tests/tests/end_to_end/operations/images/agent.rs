//! Containers of agents.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{
    Container, Fixture, Image, JsonFields as _, Script, eventually, install, needs_root,
    write_policy,
};
use serde_json::json;

use super::{agent, cut, start};

#[tokio::test]
async fn container_runs_scripts_unprivileged_and_stays_healthy_without_its_server() {
    needs_root();
    let mut fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (mut container, id) = agent(&fixture, &image, "one").await;
    container.becomes(true).await;
    let run = fixture.api.execute(&id, "hello", json!({})).await;
    let ended = fixture.api.finished(&run).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let said = String::from_utf8(fixture.api.output(&run).await).expect("text");
    assert!(said.starts_with("Hello, world, from container-one"), "{said}");

    let status = container.run("cat /proc/1/status").await.expect(0);
    assert!(status.contains("Uid:\t10001\t10001\t10001\t10001"), "{status}");
    // Process 1 is a supervisor from the volume, which updates replace.
    let program = container.run("readlink /proc/1/exe").await.expect(0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(program.trim(), format!("/opt/muster/versions/{version}/bin/muster-supervisor"));

    fixture.server.kill_9();
    eventually("the agent notices", async || {
        (container.run("muster-agent status").await.code == Some(3)).then_some(())
    })
    .await;
    assert!(container.is_healthy().await, "a server that is away is not the container's fault");
    let stopped = container.stop().await;
    assert_eq!(stopped.code(), Some(0));
}

#[tokio::test]
async fn process_1_reaps_orphans() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (container, _) = agent(&fixture, &image, "one").await;
    // It ends after its parent, so process 1 adopts it.
    container.run("(sh -c 'exec sleep 0.2' &) ; exit 0").await.expect(0);
    eventually("nothing is left, not even as a zombie", async || {
        let states = container.run("cat /proc/[0-9]*/stat").await;
        let states = String::from_utf8_lossy(&states.stdout).into_owned();
        (!states.contains("(sleep)") && !states.contains(") Z ")).then_some(())
    })
    .await;
    container.stop().await;
}

#[tokio::test]
async fn agent_that_cannot_work_leaves_its_container_unhealthy_until_stopped() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (mut container, id) = agent(&fixture, &image, "one").await;
    container.becomes(true).await;
    let shown = fixture.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let key = shown.text("key_id");
    fixture.api.delete(&format!("/api/agents/keys/{key}")).await;
    container.becomes(false).await;
    eventually("it says that it is parked", async || {
        container.log().contains("parked").then_some(())
    })
    .await;
    assert!(container.runs(), "an engine would start it again and again");
    let status = container.run("muster-agent status").await;
    assert_eq!(status.code, Some(4), "{status:?}");
    assert_eq!(container.stop().await.code(), Some(0));
}

#[tokio::test]
async fn root_container_runs_scripts_as_the_policy_user_who_cannot_read_the_key() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let mut image = Image::build(&fixture.test_dir, "agent");
    image.for_root();
    let state = Container::volume(&fixture.test_dir, "one", "/var/lib/muster");
    write_policy(&state, r#"{"run_as": "muster"}"#);
    install(&state, &[Script::new("who", "id -un; cat /etc/muster/agent_key; exit 0")]);
    super::own(&Container::volume(&fixture.test_dir, "one", "/opt/muster"), (0, 0));
    let settings = Container::volume(&fixture.test_dir, "one", "/etc/muster");
    std::fs::set_permissions(&settings, Permissions::from_mode(0o700)).expect("closed");
    let (container, id) = agent(&fixture, &image, "one").await;
    let run = fixture.api.execute(&id, "who", json!({})).await;
    let ended = fixture.api.finished(&run).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let said = String::from_utf8(fixture.api.output(&run).await).expect("text");
    assert!(said.starts_with("muster\n") && said.contains("denied"), "{said}");
    container.stop().await;
}

#[tokio::test]
async fn new_container_with_the_same_volumes_is_the_same_agent() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (container, id) = agent(&fixture, &image, "one").await;
    cut(&fixture, container, &id).await;
    let container = start(&image, &fixture.server, "one");
    fixture.reached_over(&id, "websocket").await;
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
    // Another container of the same image is another machine.
    let (other, other_id) = agent(&fixture, &image, "two").await;
    assert_ne!(id, other_id);
    assert_eq!(fixture.ask(&id, "ping", json!({})).await["success"], true);
    other.stop().await;
    container.stop().await;
}
