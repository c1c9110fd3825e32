//! People: accounts, sessions, members and invitations.

pub(in crate::services) mod access_tokens;
pub mod account;
pub(in crate::services) mod confirmation;
pub mod invitations;
pub mod members;
pub(in crate::services) mod own_attempts;
pub(in crate::services) mod passwords;
pub mod setup;
pub mod sign_in;
pub(in crate::services) mod sign_in_limiter;
