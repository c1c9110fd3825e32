//! Updates of this program to other releases.
//!
//! The agent only requests an update and reports its result: the supervisor verifies, installs and
//! rolls back.

pub mod client;
pub mod download;
pub mod fetch;
pub mod owner_request;
pub mod update_requests;

pub use update_requests::UpdateRequests;
