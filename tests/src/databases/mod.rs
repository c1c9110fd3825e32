//! Databases of tests, and access to them that bypasses the server.

pub mod postgres;
pub mod query;
pub mod second_tenant;
