//! Interrupted downloads, and full disks.

use muster_tests::{
    Fixture, Link, Publisher, SmallDisk, SocksBehaviour, SocksProxy, current_version,
};
use serde_json::json;
use uuid::Uuid;

use super::{ask, host, options, runs};

/// Number of cuts: at a random place in the first MiB, and in each MiB after that.
const CUTS: u64 = 6;
const MIB: u64 = 1024 * 1024;
/// Space that an update must leave free on the disk of the programs.
const SPARE_MIB: u64 = 64;

#[tokio::test]
async fn interrupted_download_resumes_and_one_that_never_arrives_is_abandoned() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let link = Link::to(&fixture.server.address()).await;
    let (options, folder) = options(&publisher, "host", "0.1.0");
    let (_agent, id) = fixture.agent_through(&link.url(), options).await;

    link.kill_downloads(true);
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["error_code"], "download_failed", "{ended}");
    assert_eq!(ended["result"]["update_result"], "failed", "{ended}");
    runs(&fixture, &id, "0.1.0").await;
    fixture.ask(&id, "ping", json!({})).await;

    link.kill_downloads(false);
    let seed = Uuid::new_v4().as_u128();
    let cuts: Vec<u64> = (0..CUTS).map(|cut| cut_at(seed, cut)).collect();
    link.cut_downloads_after(cuts.clone());
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "cut after {cuts:?}: {ended}");
    let resumed = link.resumed_at();
    assert!(resumed.len() >= 3, "cut after {cuts:?}, went on at {resumed:?}");
    assert!(resumed.iter().all(|start| *start > 0), "{resumed:?}");
    runs(&fixture, &id, "0.2.0").await;
    assert_eq!(current_version(&folder), "0.2.0");
}

/// A random place. In the first MiB it is after the small files.
fn cut_at(seed: u128, cut: u64) -> u64 {
    let word = u64::try_from((seed >> (16 * cut)) & 0xffff).unwrap_or_default();
    128 * 1024 + word * 8 % MIB + cut * MIB
}

#[tokio::test]
async fn full_disk_keeps_the_host_working_and_the_update_succeeds_with_space() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let programs = publisher.programs("0.2.0");
    let sizes = std::fs::read_dir(&programs)
        .expect("read")
        .map(|file| file.and_then(|file| file.metadata()).expect("look").len() / MIB + 1);
    let disk =
        SmallDisk::over(&publisher.host_folder("host"), 2 * sizes.sum::<u64>() + SPARE_MIB + 8);
    let (agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
    disk.fill();
    let run = fixture.api.execute(&id, "long", json!({})).await;
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["error_code"], "no_space", "{ended}");
    runs(&fixture, &id, "0.1.0").await;
    assert_eq!(fixture.api.finished(&run).await["state"], "succeeded");
    let staging = folder.join(".release-0.2.0");
    assert!(!staging.exists(), "what was fetched stays on a full disk");

    // There is space for the programs, but not for what an update must leave free.
    disk.clear();
    disk.fill_but(SPARE_MIB);
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["error_code"], "no_space", "{ended}");
    let told = ended["result"]["message"].as_str().unwrap_or_default();
    assert!(told.contains("64 MiB of it as reserve"), "{ended}");
    assert!(!staging.exists());
    runs(&fixture, &id, "0.1.0").await;

    disk.clear();
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.2.0").await;
    assert_eq!(current_version(&folder), "0.2.0");
    // Dropped before its disk.
    drop(agent);
}

#[tokio::test]
async fn partial_download_after_a_power_cut_does_not_fail_the_release() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let (_agent, id, folder) = host(&fixture, &publisher, "host", "0.1.0").await;
    let left = folder.join(".release-0.2.0/bin");
    std::fs::create_dir_all(&left).expect("make a folder");
    // The file kept its length but not its content.
    std::fs::write(left.join("muster-agent"), vec![0; 100_000]).expect("write");
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.2.0").await;
}

#[tokio::test]
async fn release_is_downloaded_through_a_socks_proxy_and_never_around_it() {
    let fixture = Fixture::on_sqlite().await;
    let publisher = Publisher::new(&fixture).await;
    publisher.release("0.1.0").await;
    publisher.release("0.2.0").await;
    let proxy = SocksProxy::start(&fixture.server.address(), SocksBehaviour::Login).await;
    let (options, folder) = options(&publisher, "host", "0.1.0");
    let options =
        options.with("ALL_PROXY", proxy.url_with_login("socks5h")).with("MUSTER_INSECURE", 1);
    // Only the proxy knows this name.
    let (agent, id) = fixture.agent_through("http://server.invalid:8080", options).await;
    let before = proxy.requests().len();
    let update = ask(&fixture, &id, "update", json!({"version": "0.2.0"})).await;
    let ended = fixture.api.finished(&update).await;
    assert_eq!(ended["result"]["update_result"], "installed", "{ended}");
    runs(&fixture, &id, "0.2.0").await;
    assert_eq!(current_version(&folder), "0.2.0");
    assert!(proxy.requests().len() >= before + 2, "{:?}", proxy.requests());
    assert!(!agent.log().contains("sesame"), "{}", agent.log());
}
