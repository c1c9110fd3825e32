//! Callers of the server: REST, the command line, event streams, and a receiver of webhooks.

pub mod api;
pub mod authenticator;
pub mod cli;
pub mod live_stream;
pub mod person;
pub mod sso_browser;
pub mod totp;
pub mod webhook_sink;
