//! Connections of agents.

pub(super) mod close_session;
pub(super) mod open_session;
pub(super) mod reconcile;
pub(super) mod record_assignment_states;
pub(super) mod record_facts;
pub(super) mod record_heartbeat;
pub(super) mod record_manifest;
pub(super) mod record_task_runs;
