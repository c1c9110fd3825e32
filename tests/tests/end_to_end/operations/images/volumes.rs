//! The programs of an image and those of the volume that outlives it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{
    Container, Fixture, Image, JsonFields as _, Publisher, current_version, eventually_shown,
    needs_root,
};
use serde_json::{Value, json};

use super::{agent, cut, goes_offline, start};

/// Waits until the agent is online with this version.
async fn runs(fixture: &Fixture, id: &str, version: &str) -> Value {
    let path = format!("/api/agents/{id}");
    eventually_shown(&format!("the agent runs {version}"), async || {
        let shown = fixture.api.get(&path).await.expect(200);
        let is_it = shown["status"] == "online" && shown["version"] == version;
        if is_it { Ok(shown) } else { Err(shown) }
    })
    .await
}

async fn update(fixture: &Fixture, id: &str, version: &str) -> Value {
    let body = json!({"command": "update", "data": {"version": version}});
    let made = fixture.api.post(&format!("/api/agents/{id}/command"), body).await.expect(202);
    fixture.api.finished(made.id()).await
}

#[tokio::test]
async fn update_stays_in_the_volume_until_a_newer_image_replaces_it() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    let mut image = Image::build(&fixture.test_dir, "agent");
    image.with_programs(&publisher.programs("0.1.0"));
    let volume = Container::volume(&fixture.test_dir, "one", "/opt/muster");
    // Pinned as with `--release-key`, because the connection to the test's server is not verified.
    std::fs::write(volume.join("release_key"), publisher.fingerprint()).expect("pinned");
    super::own(&volume, image.file.user());
    let (container, id) = agent(&fixture, &image, "one").await;
    runs(&fixture, &id, "0.1.0").await;
    publisher.release("0.2.0").await;
    let ended = update(&fixture, &id, "0.2.0").await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.2.0").await;
    assert!(container.is_healthy().await, "process 1 has become another program");
    container.stop().await;
    goes_offline(&fixture, &id).await;

    // The older image again.
    let container = start(&image, &fixture.server, "one");
    runs(&fixture, &id, "0.2.0").await;
    assert_eq!(current_version(&volume), "0.2.0");
    cut(&fixture, container, &id).await;

    image.with_programs(&publisher.programs("0.10.0"));
    let container = start(&image, &fixture.server, "one");
    runs(&fixture, &id, "0.10.0").await;
    assert_eq!(current_version(&volume), "0.10.0");
    container.stop().await;
}

#[tokio::test]
async fn volume_with_a_broken_supervisor_falls_back_to_that_of_the_image() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (container, id) = agent(&fixture, &image, "one").await;
    cut(&fixture, container, &id).await;
    let volume = Container::volume(&fixture.test_dir, "one", "/opt/muster");
    let supervisor = volume.join("versions/current/bin/muster-supervisor");
    std::fs::remove_file(&supervisor).expect("removed");
    std::fs::write(&supervisor, "#!/bin/sh\nexit 1\n").expect("broken");
    let container = start(&image, &fixture.server, "one");
    fixture.reached_over(&id, "websocket").await;
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
async fn volume_with_broken_programs_falls_back_to_those_of_the_image() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let (container, id) = agent(&fixture, &image, "one").await;
    cut(&fixture, container, &id).await;
    // As on a disk that is mounted with `noexec`.
    let volume = Container::volume(&fixture.test_dir, "one", "/opt/muster");
    for program in ["muster-supervisor", "muster-agent"] {
        let path = volume.join("versions/current/bin").join(program);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("closed");
    }
    let container = start(&image, &fixture.server, "one");
    fixture.reached_over(&id, "websocket").await;
    assert!(
        container.log().contains("continuing with the image's agent as well"),
        "{}",
        container.log()
    );
    container.stop().await;
}

#[tokio::test]
async fn container_with_a_read_only_program_volume_still_runs_its_agent() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    let volume = Container::volume(&fixture.test_dir, "one", "/opt/muster");
    // Not empty, so that it keeps its owner: root.
    std::fs::write(volume.join("lost+found"), "").expect("written");
    let (container, _) = agent(&fixture, &image, "one").await;
    let log = container.log();
    assert!(log.contains("check the volume's owner"), "{log}");
    container.stop().await;
}
