//! Agents: who they are, what they report, who a target means.

mod agent_identity;
mod deletion;
mod facts;
mod manifests;
pub(crate) mod sessions;
mod targets;
