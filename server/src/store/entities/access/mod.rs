//! Who may do what: keys, principals, audit.

pub mod agent_key;
pub mod api_key;
pub mod audit_entry;
pub mod retired_agent_secret;
pub mod tenant;
