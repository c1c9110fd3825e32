//! Running the server itself: maintenance, statistics, installation.

pub mod setting;
