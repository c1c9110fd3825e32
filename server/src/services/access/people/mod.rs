//! People: accounts, sessions, members and invitations.

pub(in crate::services) mod access_tokens;
pub mod account;
mod attempt_limiter;
pub(in crate::services) mod confirmation;
pub mod device_login;
pub mod invitations;
pub mod members;
pub mod oidc;
pub(in crate::services) mod passwords;
mod session_start;
pub mod setup;
pub mod sign_in;
pub(in crate::services) mod sign_in_limiter;
