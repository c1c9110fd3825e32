//! Authentication while the database is unavailable.

use muster_tests::{PostgresCluster, TestDir};

use super::{Authentication, ServiceError};
use crate::domain::time::Clock;
use crate::store::Store;

const KEY: &str = "mst_live_0123456789abcdef0123456789abcdef";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_seen_before_is_accepted_while_the_database_is_unavailable() {
    let test_dir = TestDir::new();
    let mut postgres = tokio::task::block_in_place(|| PostgresCluster::start(&test_dir));
    let data_dir = test_dir.folder("data");
    let store = Store::open(&postgres.url(), &data_dir).await.expect("open the store");
    let authentication = Authentication::new(store, Clock::system());
    authentication.bootstrap(&data_dir, Some(KEY)).await.expect("create the first key");
    authentication.authenticate_degraded(KEY, None).await.expect("it holds");
    // As after the time to live.
    authentication.cache.let_principals_expire();
    tokio::task::block_in_place(|| postgres.stop());
    authentication.authenticate_degraded(KEY, None).await.expect("it was seen before");
    // A key was changed. It may have been this one.
    authentication.cache.forget_principals();
    let refused = authentication.authenticate_degraded(KEY, None).await;
    assert!(matches!(refused, Err(ServiceError::Store(_))), "{refused:?}");
}
