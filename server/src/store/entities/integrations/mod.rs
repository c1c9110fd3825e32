//! Webhook deliveries and signing keys.

pub mod webhook_delivery;
pub mod webhook_key;
