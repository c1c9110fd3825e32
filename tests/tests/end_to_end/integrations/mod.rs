//! Webhooks and the event stream.

mod alerts;
mod events;
mod outgoing;
mod schedules;
mod webhooks;
