//! PostgreSQL for tests, and access to a server's database that bypasses the server.

pub mod cluster;
pub mod database;
mod programs;
mod query;
mod second_tenant;
mod shared_cluster;
mod sql;
