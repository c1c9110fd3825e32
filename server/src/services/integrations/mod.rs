//! The event feed, and webhooks.

pub mod events;
pub mod webhooks;
