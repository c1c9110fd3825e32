//! Events, and webhooks that carry them.

pub mod tenant_event;
pub mod webhook;
