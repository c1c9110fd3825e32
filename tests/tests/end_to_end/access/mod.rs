//! Who may call the API, who an agent is, and how requests are refused.

mod api;
mod audit;
mod browsers;
mod child_keys;
mod ended_requests;
mod identity;
mod key_limits;
mod key_pairs;
mod key_rotation;
mod keys;
mod known_attacks;
mod lists;
mod matrix;
mod plans;
mod refusals;
mod request_bodies;
mod revocation;
mod scopes;
mod setup;
mod sources;
mod tenants;
mod waits;
