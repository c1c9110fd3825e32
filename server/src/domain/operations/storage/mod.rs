//! What a server and its tenants store: usage, quota and forecast.

pub mod forecast;
pub mod quota;
pub mod usage;
