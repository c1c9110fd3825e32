//! Other versions of this program: wished for here, put in place by the supervisor.

pub mod desk;
pub mod download;
pub mod fetch;
pub mod offer;
pub mod request;

pub use desk::Desk;
