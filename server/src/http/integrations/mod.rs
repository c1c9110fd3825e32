//! The event feed, and webhooks.

pub(super) mod events;
pub(super) mod webhooks;
