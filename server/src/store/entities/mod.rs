//! A file per table. Instants are milliseconds since the Unix epoch, lists and objects JSON text.

pub mod agent;
pub mod agent_event;
pub mod agent_key;
pub mod agent_ledger;
pub mod agent_manifest;
pub mod agent_update;
pub mod api_key;
pub mod audit_entry;
pub mod column;
pub mod command;
pub mod command_report;
pub mod group;
pub mod idempotency_record;
pub mod job;
pub mod output_blob;
pub mod output_chunk;
pub mod release;
pub mod release_key_change;
pub mod retired_agent_secret;
pub mod rollout;
pub mod setting;
pub mod telemetry_sample;
pub mod tenant;
pub mod webhook_delivery;
pub mod webhook_key;
