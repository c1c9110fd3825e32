//! A file per table. Instants are milliseconds since the Unix epoch, lists and objects JSON text.

/// Access control: keys, principals, the audit log.
pub mod access {
    pub mod audit_anchor;
    pub mod audit_entry;
    pub mod audit_head;
    pub mod audit_link;
    /// Agent keys and API keys, and their secrets.
    mod keys {
        pub mod agent_key;
        pub mod api_key;
        pub mod api_key_secret;
        pub mod key_notice;
        pub mod retired_agent_secret;
    }
    pub mod mail;
    /// People, their sessions, and how they sign in.
    mod people {
        pub mod device_login;
        pub mod email_change;
        pub mod identity;
        pub mod invitation;
        pub mod member;
        pub mod passkey;
        pub mod password_reset;
        pub mod recovery_code;
        pub mod registration;
        pub mod token_key;
        pub mod totp_secret;
        pub mod user;
        pub mod user_session;
    }
    pub mod tenant;

    pub use self::keys::{agent_key, api_key, api_key_secret, key_notice, retired_agent_secret};
    pub use self::people::{
        device_login, email_change, identity, invitation, member, passkey, password_reset,
        recovery_code, registration, token_key, totp_secret, user, user_session,
    };
}
/// Certificates that this server has issued to clients.
pub mod certificates {
    pub mod client_certificate;
}
pub mod column;
/// Commands, jobs, rollouts, executions and their output.
pub mod commands {
    pub mod approval;
    pub mod approval_rule;
    pub mod command;
    pub mod command_report;
    pub mod idempotency_record;
    pub mod job;
    pub mod ladder;
    pub mod output_blob;
    pub mod output_chunk;
    pub mod rollout;
}
/// Agents, their manifests and their telemetry.
pub mod fleet {
    pub mod agent;
    pub mod agent_event;
    pub mod agent_fact;
    pub mod agent_fact_report;
    pub mod agent_ledger;
    pub mod agent_manifest;
    pub mod telemetry_sample;
}
/// Integrations, deliveries and signing keys.
pub mod integrations {
    pub mod alert;
    pub mod alert_rule;
    pub mod alert_state;
    pub mod delivery;
    pub mod integration;
    pub mod webhook_key;
}
/// The library's scripts, their versions and their signatures; packages.
pub mod library {
    pub mod assignment;
    pub mod assignment_rollout;
    pub mod assignment_state;
    pub mod package;
    pub mod package_signature;
    pub mod rollout_share;
    pub mod script;
    pub mod script_body;
    pub mod script_signature;
    pub mod script_version;
    pub mod service_control;
    pub mod uploaded_file;
}
/// Operations of the server itself.
pub mod operations {
    pub mod setting;
    pub mod storage_day;
    pub mod storage_purge;
    pub mod storage_usage;
}
/// Releases, and the groups that follow them.
pub mod releases {
    pub mod agent_update;
    pub mod group;
    pub mod release;
    pub mod release_key_change;
}
/// Schedules and their fires; hooks and their deliveries.
pub mod schedules {
    pub mod calendar;
    pub mod fire;
    pub mod hook;
    pub mod hook_delivery;
    pub mod schedule;
    pub mod trigger_state;
}
