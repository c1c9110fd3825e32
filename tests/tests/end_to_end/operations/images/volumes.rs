//! The programs of an image and those of the volume that outlives it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{
    Container, Image, Publisher, World, current_version, eventually_shown, needs_root,
};
use serde_json::{Value, json};

use super::{agent, cut, goes_offline, start};

/// Waits until the agent is online with this version.
async fn runs(world: &World, id: &str, version: &str) -> Value {
    let path = format!("/api/agents/{id}");
    eventually_shown(&format!("the agent runs {version}"), async || {
        let shown = world.api.get(&path).await.expect(200);
        let is_it = shown["status"] == "online" && shown["version"] == version;
        if is_it { Ok(shown) } else { Err(shown) }
    })
    .await
}

async fn update(world: &World, id: &str, version: &str) -> Value {
    let body = json!({"command": "update", "data": {"version": version}});
    let made = world.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    world.api.finished(made["id"].as_str().expect("an id")).await
}

#[tokio::test]
async fn an_update_stays_in_the_volume_and_a_newer_image_comes_over_it() {
    needs_root();
    let world = World::on_sqlite().await;
    let publisher = Publisher::new(&world).await;
    let mut image = Image::build(&world.site, "agent");
    image.with_programs(&publisher.programs("0.1.0"));
    let volume = Container::volume(&world.site, "one", "/opt/muster");
    // Pinned as `--release-key` does: the way to the test's server is not verified.
    std::fs::write(volume.join("release_key"), publisher.fingerprint()).expect("pinned");
    super::own(&volume, image.file.user());
    let (container, id) = agent(&world, &image, "one").await;
    runs(&world, &id, "0.1.0").await;
    publisher.release("0.2.0").await;
    let ended = update(&world, &id, "0.2.0").await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&world, &id, "0.2.0").await;
    assert!(container.is_healthy().await, "process 1 has become another program");
    container.stop().await;
    goes_offline(&world, &id).await;

    // The older image of before.
    let container = start(&image, &world.server, "one");
    runs(&world, &id, "0.2.0").await;
    assert_eq!(current_version(&volume), "0.2.0");
    cut(&world, container, &id).await;

    image.with_programs(&publisher.programs("0.10.0"));
    let container = start(&image, &world.server, "one");
    runs(&world, &id, "0.10.0").await;
    assert_eq!(current_version(&volume), "0.10.0");
    container.stop().await;
}

#[tokio::test]
async fn a_volume_whose_supervisor_does_not_start_is_served_by_that_of_the_image() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (container, id) = agent(&world, &image, "one").await;
    cut(&world, container, &id).await;
    let volume = Container::volume(&world.site, "one", "/opt/muster");
    let supervisor = volume.join("versions/current/bin/muster-supervisor");
    std::fs::remove_file(&supervisor).expect("removed");
    std::fs::write(&supervisor, "#!/bin/sh\nexit 1\n").expect("broken");
    let container = start(&image, &world.server, "one");
    world.reached_over(&id, "websocket").await;
    let program = container.run("readlink /proc/1/exe").await.expect(0);
    assert_eq!(program.trim(), "/usr/lib/muster/muster-supervisor");
    assert!(
        container.log().contains("continuing with the image's supervisor"),
        "{}",
        container.log()
    );
    container.stop().await;
}

#[tokio::test]
async fn a_volume_in_which_nothing_starts_leaves_the_programs_of_the_image() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let (container, id) = agent(&world, &image, "one").await;
    cut(&world, container, &id).await;
    // As on a disk that is mounted without the right to run anything.
    let volume = Container::volume(&world.site, "one", "/opt/muster");
    for program in ["muster-supervisor", "muster-agent"] {
        let path = volume.join("versions/current/bin").join(program);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("closed");
    }
    let container = start(&image, &world.server, "one");
    world.reached_over(&id, "websocket").await;
    assert!(
        container.log().contains("continuing with the image's agent as well"),
        "{}",
        container.log()
    );
    container.stop().await;
}

#[tokio::test]
async fn a_container_whose_program_volume_can_not_be_written_still_has_its_agent() {
    needs_root();
    let world = World::on_sqlite().await;
    let image = Image::build(&world.site, "agent");
    let volume = Container::volume(&world.site, "one", "/opt/muster");
    // Not empty, so that it keeps its owner: root.
    std::fs::write(volume.join("lost+found"), "").expect("written");
    let (container, _) = agent(&world, &image, "one").await;
    let log = container.log();
    assert!(log.contains("check who owns the volume"), "{log}");
    container.stop().await;
}
