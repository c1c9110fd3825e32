//! Webhooks and the event stream.

mod events;
mod webhooks;
