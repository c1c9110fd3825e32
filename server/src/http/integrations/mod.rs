//! The event feed, webhooks, and integrations.

pub(super) mod alerts;
pub(super) mod events;
mod integration_views;
pub(super) mod integrations;
pub(super) mod webhooks;
