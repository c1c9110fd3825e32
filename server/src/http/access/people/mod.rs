//! People: accounts, sessions, members and invitations.

pub(in crate::http) mod account;
mod assertion_body;
pub(in crate::http) mod device_login;
pub(in crate::http) mod email_change;
pub(in crate::http) mod identities;
pub(in crate::http) mod invitations;
pub(in crate::http) mod members;
pub(in crate::http) mod oidc;
pub(in crate::http) mod passkeys;
pub(in crate::http) mod password_reset;
pub(in crate::http) mod registration;
pub mod setup;
pub(in crate::http) mod sign_in;
pub(in crate::http) mod totp;
