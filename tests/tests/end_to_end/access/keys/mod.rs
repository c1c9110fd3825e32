//! Agent keys and API keys: limits, children, rotation and revocation.

mod agent_keys;
mod certificates;
mod children;
mod ended_requests;
mod guards;
mod limits;
mod revocation;
mod rotation;
mod scopes;
