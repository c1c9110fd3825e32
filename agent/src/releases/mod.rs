//! Updates of this program to other releases, and downloads from the server.
//!
//! The agent only requests an update and reports its result: the supervisor verifies, installs and
//! rolls back.

pub mod client;
pub mod download;
pub mod fetch;
pub mod owner_request;
mod package_downloads;
pub mod update_requests;

pub use package_downloads::PackageDownloads;
pub use update_requests::UpdateRequests;
