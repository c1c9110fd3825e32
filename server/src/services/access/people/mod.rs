//! People: accounts, sessions, members and invitations.

pub(in crate::services) mod access_tokens;
pub mod account;
pub mod accounts;
mod attempt_limiter;
pub(in crate::services) mod confirmation;
pub mod device_login;
pub mod email_change;
pub mod invitations;
pub mod members;
pub mod oidc;
pub(in crate::services) mod own_attempts;
pub mod passkeys;
pub mod password_reset;
pub(in crate::services) mod passwords;
pub mod registration;
pub mod session_confirmation;
mod session_start;
pub mod setup;
pub mod sign_in;
pub mod totp;
