//! Access control: keys, principals, the audit log.

pub mod agent_key;
pub mod api_key;
pub mod audit_entry;
pub mod member;
pub mod retired_agent_secret;
pub mod tenant;
pub mod user;
pub mod user_session;
