//! The event feed, and webhooks.

pub mod tenant_event;
pub mod webhook;
