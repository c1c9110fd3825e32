//! Pure rules. Knows no database, no socket, no clock of its own.

pub mod agent_level;
pub mod counted;
pub mod credential;
pub mod group;
pub mod ids;
pub mod job_state;
pub mod manifest_digest;
pub mod master_key;
pub mod name;
pub mod newest_release;
pub mod origin;
pub mod output_event;
pub mod page;
pub mod principal;
pub mod range;
pub mod rollout;
pub mod secret_box;
pub mod state;
pub mod target;
pub mod tenant_event;
pub mod time;
pub mod trigger;
pub mod webhook;
