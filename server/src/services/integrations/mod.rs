//! Events, and webhooks that carry them.

pub mod events;
pub mod webhooks;
