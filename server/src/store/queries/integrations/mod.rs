//! Webhook deliveries and signing keys.

pub(super) mod webhook_keys;
pub(super) mod webhooks;
