//! Containers of agents.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{
    Container, Image, Script, World, eventually, install, needs_root, write_policy,
};
use serde_json::json;

use super::{agent, cut, start};

#[tokio::test]
async fn a_container_runs_scripts_as_an_ordinary_user_and_outlives_its_server_in_good_health() {
    needs_root();
    let mut world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (mut container, id) = agent(&world, &image, "one").await;
    container.becomes(true).await;
    let run = world.api.execute(&id, "hello", json!({})).await;
    let ended = world.api.finished(&run).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let said = String::from_utf8(world.api.output(&run).await).expect("text");
    assert!(said.starts_with("Hello, world, from container-one"), "{said}");

    let status = container.run("cat /proc/1/status").await.expect(0);
    assert!(status.contains("Uid:\t10001\t10001\t10001\t10001"), "{status}");
    // Process 1 is a supervisor of the volume, which updates exchange.
    let program = container.run("readlink /proc/1/exe").await.expect(0);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(program.trim(), format!("/opt/muster/versions/{version}/bin/muster-supervisor"));

    world.server.kill_9();
    eventually("the agent notices", async || {
        (container.run("muster-agent status").await.code == Some(3)).then_some(())
    })
    .await;
    assert!(container.is_healthy().await, "a server that is away is not the container's fault");
    let stopped = container.stop().await;
    assert_eq!(stopped.code(), Some(0));
}

#[tokio::test]
async fn process_1_collects_what_others_leave_behind() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (container, _) = agent(&world, &image, "one").await;
    // Ends behind its parent, which process 1 then takes the place of.
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
async fn an_agent_that_can_not_work_parks_its_container_which_is_unhealthy_until_it_is_stopped() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (mut container, id) = agent(&world, &image, "one").await;
    container.becomes(true).await;
    let shown = world.api.get(&format!("/api/agents/{id}")).await.expect(200);
    let key = shown["key_id"].as_str().expect("an id");
    world.api.delete(&format!("/api/agents/keys/{key}")).await;
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
async fn as_root_a_container_runs_scripts_as_the_user_of_the_policy_who_can_not_read_the_key() {
    needs_root();
    let world = World::on_sqlite().await;
    let mut image = Image::build(&world.site, "agent");
    image.for_root();
    let state = Container::volume(&world.site, "one", "/var/lib/muster");
    write_policy(&state, r#"{"run_as": "muster"}"#);
    install(&state, &[Script::new("who", "id -un; cat /etc/muster/agent_key; exit 0")]);
    super::own(&Container::volume(&world.site, "one", "/opt/muster"), (0, 0));
    let settings = Container::volume(&world.site, "one", "/etc/muster");
    std::fs::set_permissions(&settings, Permissions::from_mode(0o700)).expect("closed");
    let (container, id) = agent(&world, &image, "one").await;
    let run = world.api.execute(&id, "who", json!({})).await;
    let ended = world.api.finished(&run).await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let said = String::from_utf8(world.api.output(&run).await).expect("text");
    assert!(said.starts_with("muster\n") && said.contains("denied"), "{said}");
    container.stop().await;
}

#[tokio::test]
async fn the_same_agent_comes_back_in_another_container_of_its_volumes() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (container, id) = agent(&world, &image, "one").await;
    cut(&world, container, &id).await;
    let container = start(&image, &world.server, "one");
    world.reached_over(&id, "websocket").await;
    assert_eq!(world.ask(&id, "ping", json!({})).await["success"], true);
    // Another container of the same image is another machine.
    let (other, other_id) = agent(&world, &image, "two").await;
    assert_ne!(id, other_id);
    assert_eq!(world.ask(&id, "ping", json!({})).await["success"], true);
    other.stop().await;
    container.stop().await;
}
