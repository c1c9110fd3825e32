//! Whether the server can do its work: its database can be read and written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::services::error::{Result, ServiceError};
use crate::store::{Store, StoreError};
use muster_protocol::error_chain;

/// How long the database may take to answer.
const DATABASE_WAIT: Duration = Duration::from_secs(3);
/// How long an answer is valid. Anyone may ask, and each check costs a transaction.
const VALID_FOR: Duration = Duration::from_secs(1);

/// Checks the database at most once a second, however many ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    store: Store,
    /// Held during a check, so that those who ask meanwhile get its result.
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Readiness {
    pub(in crate::services) fn new(store: Store) -> Self {
        Self { store, last: Arc::default() }
    }

    /// # Errors
    /// [`ServiceError::Store`] if the database cannot be read and written.
    pub async fn check(&self) -> Result<()> {
        let mut last = self.last.lock().await;
        let known = last.filter(|(at, _)| at.elapsed() < VALID_FOR).map(|(_, is_ready)| is_ready);
        let is_ready = match known {
            Some(is_ready) => is_ready,
            None => {
                let was_ready = last.is_none_or(|(_, is_ready)| is_ready);
                let is_ready = self.try_database(was_ready).await;
                *last = Some((Instant::now(), is_ready));
                is_ready
            }
        };
        if is_ready { Ok(()) } else { Err(ServiceError::Unready) }
    }

    async fn try_database(&self, was_ready: bool) -> bool {
        let system = self.store.system();
        let reason = match tokio::time::timeout(DATABASE_WAIT, system.check_writable()).await {
            Ok(Ok(())) => return true,
            Ok(Err(StoreError::DiskFull)) => "the disk of the database is full".to_owned(),
            Ok(Err(error)) => error_chain(&error),
            Err(_) => "the database did not answer in time".to_owned(),
        };
        if was_ready {
            tracing::error!(
                reason,
                "the server is not ready: its database can't be read and written"
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use muster_tests::{PostgresDatabase, TestDir};

    use super::*;

    /// Each of many checks, not only the first one after the change.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn read_only_database_is_not_ready_at_any_check() {
        let test_dir = TestDir::new();
        let database = tokio::task::block_in_place(PostgresDatabase::empty);
        let data_dir = test_dir.folder("data");
        let store = Store::open(&database.url(), &data_dir).await.expect("open the store");
        let readiness = Readiness::new(store.clone());
        let checked = async || {
            readiness.last.lock().await.take();
            readiness.check().await.is_ok()
        };
        assert!(checked().await);
        tokio::task::block_in_place(|| database.set_read_only(true));
        for check in 0..20 {
            assert!(!checked().await, "check {check}");
        }
        tokio::task::block_in_place(|| database.set_read_only(false));
        assert!(checked().await, "a new connection takes writes");
        assert!(checked().await);
        drop(store);
    }

    #[tokio::test]
    async fn however_many_ask_the_database_is_written_once_a_second() {
        let test_dir = TestDir::new();
        let data_dir = test_dir.folder("data");
        let url = format!("sqlite:{}", data_dir.join("muster.db").display());
        let store = Store::open(&url, &data_dir).await.expect("open the store");
        let readiness = Readiness::new(store.clone());
        let checks = async |store: &Store| {
            let value = store.system().setting("readiness_checks").await.expect("read");
            value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("a count")))
        };
        for round in 1..=2 {
            let asking = (0..50).map(|_| readiness.check());
            for answer in futures_util::future::join_all(asking).await {
                answer.expect("ready");
            }
            assert_eq!(checks(&store).await, round);
            // As after its time.
            readiness.last.lock().await.take();
        }
    }
}
