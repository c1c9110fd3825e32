//! Events, and webhooks that carry them.

pub mod webhook_delivery;
pub mod webhook_key;
