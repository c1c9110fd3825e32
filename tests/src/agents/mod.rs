//! Agents under test, what runs on them, and their releases.

pub mod agent;
pub mod authority_rollover;
pub mod certified_host;
pub mod doctor;
pub mod exchange_agent;
pub mod fake_agent;
pub mod fleet_upgrade;
pub mod floods;
pub mod packages;
pub mod publisher;
pub mod scripts;
pub mod third_party_agent;
