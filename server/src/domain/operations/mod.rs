//! Running the server itself: maintenance, statistics, installation.

pub mod master_key;
