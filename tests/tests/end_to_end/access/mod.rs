//! Who may call the API, who an agent is, and how requests are refused.

mod api;
mod browsers;
mod child_keys;
mod identity;
mod key_pairs;
mod keys;
mod matrix;
mod refusals;
mod revocation;
mod scopes;
