//! Agents as operators see and manage them.

mod agents;
mod deregistration;
mod doctor;
mod fact_targets;
mod facts;
mod host_status;
mod lifecycle;
mod targets;
