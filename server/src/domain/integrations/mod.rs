//! The event feed, and webhooks.

pub mod records;
pub mod tenant_event;
pub mod webhook;
