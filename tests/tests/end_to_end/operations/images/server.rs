//! Containers of the server.

use std::os::unix::fs::MetadataExt as _;

use muster_tests::{Api, Container, Image, TestDir, eventually, needs_root};

fn start(image: &Image) -> Container {
    // Containers of the tests share the machine's network, so they cannot use the image's port.
    Container::start(image, "server", &[("MUSTER_LISTEN", "127.0.0.1:0")])
}

/// A client with the key that the first start created.
async fn api(test_dir: &TestDir) -> Api {
    let data = Container::volume(test_dir, "server", "/data");
    let (url, key) = eventually("the server has made its first key", async || {
        let url = std::fs::read_to_string(data.join("server_url")).ok()?;
        Some((url, std::fs::read_to_string(data.join("bootstrap_key")).ok()?))
    })
    .await;
    Api::new(url.trim(), key.trim())
}

#[tokio::test]
async fn container_with_an_empty_volume_serves_unprivileged_and_keeps_its_data() {
    needs_root();
    let test_dir = TestDir::new();
    let image = Image::build(&test_dir, "server");
    let mut container = start(&image);
    container.becomes(true).await;

    let status = container.run("cat /proc/1/status").await.expect(0);
    assert!(status.contains("Uid:\t10001\t10001\t10001\t10001"), "{status}");
    assert!(status.contains("CapBnd:\t0000000000000000"), "{status}");
    // It needs to write only to the volume, and can write only there.
    assert_ne!(container.run("touch /usr/lib/muster/x /etc/x /var/x").await.code, Some(0));
    let data = Container::volume(&test_dir, "server", "/data");
    let owned = std::fs::metadata(data.join("muster.db")).expect("the database");
    assert_eq!((owned.uid(), owned.mode() & 0o777 & !0o644), (10001, 0));

    let client = api(&test_dir).await;
    client.agent_key(serde_json::json!({"name": "kept"})).await;
    for path in ["/install/deploy.sh", "/install/linux-x86_64/SHA256SUMS"] {
        let path = path.replace("linux-x86_64", &platform());
        let given = client.get(&path).await;
        assert_eq!(given.status, 200, "{path}");
    }

    let stopped = container.stop().await;
    assert!(stopped.success(), "{stopped}");
    let mut container = start(&image);
    container.becomes(true).await;
    let keys = api(&test_dir).await.get("/api/agents/keys").await.expect(200);
    assert_eq!(keys["items"][0]["name"], "kept", "{keys}");
    // The command line is in the image too.
    let login =
        "HOME=/tmp muster login --server $(cat /data/server_url) --key-file /data/bootstrap_key";
    container.run(&format!("{login} && HOME=/tmp muster keys list")).await.expect(0);
    container.kill();
}

#[tokio::test]
async fn unresponsive_server_makes_its_container_unhealthy() {
    needs_root();
    let test_dir = TestDir::new();
    let image = Image::build(&test_dir, "server");
    let mut container = start(&image);
    container.becomes(true).await;
    let first = container.first_process().expect("it runs");
    let first = nix::unistd::Pid::from_raw(first.cast_signed());
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGSTOP).expect("stopped");
    assert!(!container.is_healthy().await);
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGCONT).expect("continued");
    container.becomes(true).await;
    container.kill();
}

fn platform() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}
