//! Running the server itself: maintenance, statistics, installation.

pub mod installation;
pub mod maintenance;
pub mod master_key;
pub mod monitoring;
