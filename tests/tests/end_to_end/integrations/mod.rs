//! Webhooks and the event stream.

mod events;
mod outgoing;
mod webhooks;
