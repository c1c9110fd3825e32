//! Events, messages of integrations and alerts.

mod alerts;
mod outbox;
mod webhooks;
