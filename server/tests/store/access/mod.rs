//! Keys, people, tenants, plans and the audit log.

mod api_keys;
mod audit_chain;
mod certificates;
mod client_certificates;
mod key_limits;
mod known_secrets;
mod master_key;
mod members;
mod plans;
mod sealed_values;
mod tenants;
mod user_sessions;
