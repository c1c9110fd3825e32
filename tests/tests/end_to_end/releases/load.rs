//! Upgrades and downgrades a small fleet while all of it works. `make soak-updates` does it with a
//! large one.

use std::time::Duration;

use muster_tests::{Fixture, FleetUpgrade};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleet_is_upgraded_and_downgraded_without_losing_or_repeating_work() {
    let fixture = Fixture::on_sqlite().await;
    let upgrade =
        FleetUpgrade { hosts: 5, wave: 3, lines: 1_000, patience: Duration::from_secs(240) };
    let report = upgrade.run(&fixture).await;
    assert!(report.carried > 0, "no job ran while its host changed: {report}");
}
