//! Mail by SMTP: the client and its settings.

pub mod client;
pub mod settings;
