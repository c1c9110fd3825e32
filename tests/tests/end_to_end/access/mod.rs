//! Who may call the API, who an agent is, and how requests are refused.

mod api;
mod identity;
mod keys;
mod refusals;
