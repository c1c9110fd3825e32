//! Who may call the API, who an agent is, and how requests are refused.

mod audit;
mod identity;
mod key_pairs;
mod keys;
mod known_attacks;
mod matrix;
mod people;
mod requests;
mod single_sign_on;
mod tenants;
