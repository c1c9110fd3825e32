//! Events, and webhooks that carry them.

pub(super) mod events;
pub(super) mod webhooks;
