//! What a server and its tenants store: usage, quota and forecast, and requests to delete.

pub mod forecast;
pub mod purge;
pub mod quota;
pub mod usage;
