//! The store on both databases: each test runs once on SQLite and once on PostgreSQL.

mod access;
mod commands;
mod fixture;
mod fleet;
mod history;
mod integrations;
mod library;
mod model;
mod operations;
mod output;
mod releases;
mod schedules;
mod writer;

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
