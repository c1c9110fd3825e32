//! The store on both databases: each test runs once on SQLite and once on PostgreSQL.

mod agent_identity;
mod alerts;
mod api_keys;
mod approvals;
mod audit_chain;
mod batches;
mod counting;
mod deletion;
mod fixture;
mod groups;
mod history;
mod idempotency;
mod isolation;
mod jobs;
mod key_limits;
mod known_secrets;
mod locks;
mod manifests;
mod master_key;
mod members;
mod model;
mod outbox;
mod output;
mod plans;
mod reconciliation;
mod releases;
mod retries;
mod rollouts;
mod schedules;
mod sessions;
mod settlement;
mod sweeps;
mod targets;
mod tenants;
mod trigger_states;
mod user_sessions;
mod webhooks;
mod writing;

/// Runs one async test twice, once for each database.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                Box::pin(super::$name($crate::fixture::Fixture::sqlite().await)).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                Box::pin(super::$name($crate::fixture::Fixture::postgres().await)).await;
            })+
        }
    };
}

pub(crate) use on_both_databases;
