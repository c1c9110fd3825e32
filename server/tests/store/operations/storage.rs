//! Measurements of what is stored: one server at a time takes them, and their samples are kept for forecasts.

use std::collections::BTreeMap;

use muster_server::domain::ids::TenantId;
use muster_server::domain::operations::storage::usage::{CauseUsage, StorageCause, StorageUsage};
use muster_server::domain::time::Timestamp;
use uuid::Uuid;

use crate::fixture::{Fixture, NOW};
use crate::on_both_databases;

on_both_databases!(
    measurement_is_claimed_by_one_server_and_again_once_its_claim_ended,
    days_are_sampled_once_and_kept_for_30_days,
    measured_tenant_that_was_erased_meanwhile_leaves_no_row,
);

const DAY_MS: u64 = 24 * 3_600_000;
const SERVER: TenantId = TenantId(Uuid::nil());

fn usage(file_bytes: u64) -> StorageUsage {
    let cause = StorageCause::Output;
    let causes = vec![CauseUsage { cause, row_count: 1, file_bytes, estimated_row_bytes: 0 }];
    StorageUsage::new(causes, Vec::new())
}

async fn measurement_is_claimed_by_one_server_and_again_once_its_claim_ended(fixture: Fixture) {
    let system = fixture.store.system();
    let claim = async |now: Timestamp| {
        let due = now.minus_ms(5_000);
        system.claim_storage_measurement(now, due, now.plus_ms(1_000)).await.expect("claim")
    };
    assert!(claim(NOW).await, "the first measurement is due");
    assert!(!claim(NOW).await, "another server has it");
    assert!(!claim(NOW.plus_ms(999)).await);
    assert!(claim(NOW.plus_ms(1_000)).await, "the server that had it stopped");
    let measured = BTreeMap::from([(SERVER, usage(1))]);
    system.store_storage(measured, NOW).await.expect("store");
    assert!(!claim(NOW.plus_ms(4_999)).await, "it was measured");
    assert!(claim(NOW.plus_ms(5_000)).await, "it is due again");
    let measured = BTreeMap::from([(SERVER, usage(1))]);
    system.store_storage(measured, NOW).await.expect("store");
    // A clock that was ahead by years stops no measurement.
    assert!(claim(NOW.minus_ms(400 * DAY_MS)).await);
}

async fn days_are_sampled_once_and_kept_for_30_days(fixture: Fixture) {
    let system = fixture.store.system();
    for hours in [0, 1, 24, 48, 72] {
        let now = NOW.plus_ms(hours * 3_600_000);
        let measured = BTreeMap::from([(SERVER, usage(hours))]);
        system.store_storage(measured, now).await.expect("store");
    }
    let found = system.server_storage().await.expect("read").expect("measured");
    let sizes: Vec<u64> = found.days.iter().map(|day| day.total_bytes).collect();
    assert_eq!(sizes.last(), Some(&72));
    assert_eq!(found.usage, usage(72));
    assert_eq!(found.days.len(), 4, "the last sample of a day stays: {sizes:?}");
    let later = NOW.plus_ms(32 * DAY_MS);
    let measured = BTreeMap::from([(SERVER, usage(100))]);
    system.store_storage(measured, later).await.expect("store");
    let days = system.server_storage().await.expect("read").expect("measured").days;
    assert_eq!(days.len(), 3, "of the last 30 days: {days:?}");
}

async fn measured_tenant_that_was_erased_meanwhile_leaves_no_row(fixture: Fixture) {
    let system = fixture.store.system();
    let erased = TenantId::new();
    let measured = BTreeMap::from([(erased, usage(5)), (SERVER, usage(5))]);
    system.store_storage(measured, NOW).await.expect("store");
    assert_eq!(fixture.store.tenant(erased).storage().await.expect("read"), None);
    assert!(system.server_storage().await.expect("read").is_some());
}
