//! A small fleet to another version and back while all of it works; `make soak-updates` sends a
//! large one.

use std::time::Duration;

use muster_tests::{Migration, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_goes_up_and_back_and_loses_and_doubles_nothing() {
    let world = World::on_sqlite().await;
    let migration =
        Migration { hosts: 5, wave: 3, lines: 1_000, patience: Duration::from_secs(240) };
    let passage = migration.run(&world).await;
    assert!(passage.carried > 0, "no job ran while its host changed: {passage}");
}
