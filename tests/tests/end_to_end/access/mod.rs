//! Who may call the API, who an agent is, and how requests are refused.

mod api;
mod browsers;
mod child_keys;
mod cookies;
mod ended_requests;
mod identity;
mod key_pairs;
mod keys;
mod known_attacks;
mod lists;
mod matrix;
mod members;
mod people_cli;
mod refusals;
mod request_bodies;
mod revocation;
mod scopes;
mod sessions;
mod setup;
mod sign_in;
mod sources;
mod tenants;
mod tokens;
mod waits;
