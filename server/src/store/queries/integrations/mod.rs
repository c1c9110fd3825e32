//! Events, and webhooks that carry them.

pub(super) mod webhook_keys;
pub(super) mod webhooks;
