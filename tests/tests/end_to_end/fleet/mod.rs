//! Agents as operators see and manage them.

mod agents;
mod deregistration;
mod doctor;
mod host_status;
mod lifecycle;
mod targets;
