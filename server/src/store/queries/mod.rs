//! Queries and rare changes, one file for each subject, in the scope of a tenant or of the system.
//!
//! Rows are looked up by a unique key with `all` and `pop`. `one` would bind a `LIMIT`, and SQLite
//! would then plan the statement again at every execution.

/// Access control: keys, principals, the audit log.
pub mod access {
    pub(super) mod audit;
    pub(super) mod audit_chain;
    pub(super) mod audit_names;
    pub(super) mod authentication;
    pub(super) mod mails;
    /// People: accounts, sessions, members and invitations.
    pub mod people {
        pub(in crate::store::queries) mod device_logins;
        pub(in crate::store::queries) mod email_changes;
        pub(in crate::store::queries) mod identities;
        pub(in crate::store::queries) mod invitations;
        pub(in crate::store::queries) mod members;
        pub(in crate::store::queries) mod membership_end;
        pub(in crate::store::queries) mod passkeys;
        pub(in crate::store::queries) mod password_changes;
        pub(in crate::store::queries) mod password_resets;
        pub(in crate::store::queries) mod recovery_codes;
        pub(in crate::store::queries) mod refresh;
        pub(in crate::store::queries) mod registrations;
        pub(in crate::store::queries) mod reported_change;
        pub(in crate::store::queries) mod second_factors;
        pub(in crate::store::queries) mod session_end;
        pub(in crate::store::queries) mod token_keys;
        pub(in crate::store::queries) mod totp_secrets;
        pub(in crate::store::queries) mod user_sessions;
    }
    /// Keys: API keys and agent keys.
    pub mod keys {
        pub(in crate::store::queries) mod agent_keys;
        pub(in crate::store::queries) mod api_key_changes;
        pub(in crate::store::queries) mod api_keys;
        pub(in crate::store::queries) mod key_lineage;
        pub(in crate::store::queries) mod known_secrets;
    }
    /// Tenants: plans, export and deletion.
    pub mod tenants {
        pub(in crate::store::queries) mod administration;
        pub(in crate::store::queries) mod tenant_deletion;
    }
}
/// Certificates that this server has issued to clients.
pub mod certificates {
    pub(super) mod client_certificates;
    pub(super) mod notices;
    pub(super) mod rollover;
}
/// Commands, jobs, rollouts, executions and their output.
pub mod commands {
    pub(super) mod approvals;
    pub(super) mod changes;
    pub(super) mod commands;
    pub(super) mod dispatch;
    pub(super) mod history;
    pub(super) mod job_event_snapshots;
    pub(super) mod jobs;
    pub(super) mod ladder;
    pub(super) mod output;
    pub(super) mod rollouts;
    pub(super) mod waiting;
}
/// Agents, their presence and their telemetry.
pub mod fleet {
    pub(super) mod adoption;
    pub(super) mod agent_deletion;
    pub(super) mod agents;
    pub(super) mod facts;
    pub(super) mod host_rules;
    pub(super) mod tag_grants;
    pub(super) mod targets;
    pub(super) mod telemetry;
}
/// Integrations, deliveries and signing keys.
pub mod integrations {
    pub(super) mod alert_checks;
    pub(super) mod alert_rules;
    pub(super) mod alerts;
    pub(super) mod integrations;
    pub(super) mod messages;
    pub(super) mod webhook_keys;
    pub(super) mod webhooks;
}
/// Operations of the server itself: settings, statistics, sweeps.
pub mod operations {
    pub(super) mod api_key_revocation;
    pub(super) mod audit_key;
    pub(super) mod key_notices;
    pub(in crate::store::queries) mod member_changes;
    pub(super) mod sealed_values;
    pub(super) mod settings;
    pub(super) mod statistics;
    mod storage_purges;
    pub(super) mod storage_quota;
    pub(super) mod storage_usage;
    mod storage_walk;
    pub(super) mod sweeps;
    pub(super) mod tenant_erasure;
    pub(super) mod tenant_export;
}
/// Releases, and the groups that follow them.
pub mod releases {
    pub(super) mod group_waves;
    pub(super) mod groups;
    pub(super) mod releases;
}
/// Schedules and their fires; hooks and their deliveries.
pub mod schedules {
    pub(super) mod calendars;
    pub(super) mod fires;
    pub(super) mod firing;
    pub(super) mod hook_deliveries;
    pub(super) mod hooks;
    pub(super) mod owner;
    pub(super) mod schedules;
    pub(super) mod trigger_states;
}
/// The library's scripts, their versions and their signatures; packages.
pub mod library {
    pub(super) mod assigned_contents;
    pub(super) mod assignment_rollouts;
    pub(super) mod assignments;
    mod package_signatures;
    pub(super) mod packages;
    mod script_uses;
    pub(super) mod scripts;
    pub(super) mod services;
    pub(super) mod uploaded_files;
    pub(super) mod versions;
}
use sea_orm::DatabaseConnection;

pub use self::access::audit::{AuditPage, AuditRange, MAX_SCANNED};
pub use self::access::authentication::{AgentKeyMatch, ApiKeyMatch, Bootstrap};
pub use self::access::keys::agent_keys::AgentKeyChange;
pub use self::access::keys::api_key_changes::{
    ApiKeyChange, ApiKeyRotation, ChangedApiKey, SecretUses,
};
pub use self::access::keys::api_keys::CreatedApiKey;
pub use self::access::people::email_changes::{EmailChanged, NewEmail};
pub use self::access::people::identities::{IdentityJoin, IdentityLink, IdentityRemoval};
pub use self::access::people::invitations::{Accepted, NewMember};
pub use self::access::people::members::{NewOwner, SetupResult, SetupState};
pub use self::access::people::passkeys::PasskeyUse;
pub use self::access::people::password_resets::{NewPassword, PasswordReset};
pub use self::access::people::refresh::Refreshed;
pub use self::access::people::registrations::{
    Letters, NewAccount, RegistrationResult, VerificationResult,
};
pub use self::access::people::reported_change::ReportedChange;
pub use self::access::people::second_factors::{PasskeyAddition, UsedFactor};
pub use self::access::people::session_end::SessionsToEnd;
pub use self::access::people::totp_secrets::TotpTry;
pub use self::access::people::user_sessions::{LiveUserSession, NewSession};
pub use self::access::tenants::administration::{TenantAudit, TenantChange};
pub use self::certificates::client_certificates::CallerCertificate;
pub use self::certificates::notices::OwnCertificate;
pub use self::certificates::rollover::AuthorityChange;
pub use self::commands::approvals::{
    AuditOfEnd, Decision, DecisionResult, ExpiredApproval, ReleasedWork,
};
pub use self::commands::changes::{ChangedCommand, EndedJob};
pub use self::commands::commands::{Cancelled, CommandWithReport};
pub use self::commands::history::{CommandFilter, Effort, Explained, MAX_FILTER_AGENTS};
pub use self::commands::jobs::{CancelledJob, EndedIn, JobFilter, JobProgress};
pub use self::commands::output::candidates::CompactionCandidates;
pub use self::commands::output::compaction::Compacted;
pub use self::commands::output::{OutputStream, OutputSummary};
pub use self::commands::rollouts::{
    LiveRollout, RolloutAction, RolloutActionResult, RolloutCounts, RolloutProgress, WaveAgent,
    WaveCounts,
};
pub use self::commands::waiting::{AgentLock, WaitingAttempt};
pub use self::fleet::adoption::{Adopted, Adoption};
pub use self::fleet::agent_deletion::Deletion;
pub use self::fleet::agents::AgentChange;
pub use self::fleet::host_rules::StoredRules;
pub use self::integrations::alert_checks::{AlertCheck, AlertSubjects, OpenedAlert};
pub use self::integrations::alert_rules::{AlertReset, TOO_MANY_ALERT_RULES};
pub use self::integrations::alerts::AlertFilter;
pub use self::integrations::integrations::{IntegrationChange, TOO_MANY_INTEGRATIONS};
pub use self::integrations::webhooks::{
    FailedExecution, PendingWebhookDelivery, WebhookDeliveriesToSkip, WebhookDeliveryFilter,
};
pub use self::library::assigned_contents::CONTENT_GONE;
pub use self::library::assignment_rollouts::{ROLLOUT_UNDER_WAY, RolloutDecision};
pub use self::library::assignments::{AssignmentLimits, TOO_MANY_ASSIGNMENTS};
pub use self::library::packages::{
    PACKAGE_ASSIGNED, PACKAGES_FULL, PackageLimits, StoredPackage, TOO_MANY_PACKAGES,
};
pub use self::library::scripts::{
    SCRIPT_NAME_TAKEN, ScriptDeletion, ScriptFilter, TOO_MANY_SCRIPTS,
};
pub use self::library::services::ServiceRequest;
pub use self::library::uploaded_files::{FILES_FULL, FileLimits, TOO_MANY_FILES};
pub use self::library::versions::{LIBRARY_FULL, MAX_LIBRARY_BYTES, NewVersion};
pub use self::operations::api_key_revocation::{Revocation, RevocationScope};
pub use self::operations::member_changes::MemberChange;
pub use self::operations::sealed_values::{ResealedValue, SealedTable, SealedValue};
pub use self::operations::storage_usage::{MeasuredStorage, TenantStorage};
pub use self::operations::sweeps::{OfflineAgent, Retention, TenantRetention};
pub use self::operations::tenant_export::{
    ExportPage, NOT_EXPORTED_TABLES, TABLES as EXPORTED_TABLES,
};
pub use self::releases::groups::GroupChange;
pub use self::releases::releases::Publication;
pub use self::schedules::calendars::TOO_MANY_CALENDARS;
pub use self::schedules::firing::{FireDecision, OpenFire, RecordedFires};
pub use self::schedules::hook_deliveries::HookOutcome;
pub use self::schedules::hooks::TOO_MANY_HOOKS;
pub use self::schedules::owner::ScheduleOwner;
pub use self::schedules::schedules::{ScheduleChange, TOO_MANY_SCHEDULES};
use super::Writer;
use super::blobs::Blobs;
use crate::domain::ids::TenantId;

/// One tenant's data. Every query in it carries the tenant.
#[derive(Debug)]
pub struct TenantScope {
    reader: DatabaseConnection,
    writer: Writer,
    blobs: Blobs,
    tenant_id: TenantId,
}

impl TenantScope {
    pub(super) fn new(
        reader: DatabaseConnection,
        writer: Writer,
        blobs: Blobs,
        tenant_id: TenantId,
    ) -> Self {
        Self { reader, writer, blobs, tenant_id }
    }
}

/// The data of all tenants, for work that no tenant asked for.
#[derive(Debug)]
pub struct SystemScope {
    reader: DatabaseConnection,
    checkpointer: Option<DatabaseConnection>,
    writer: Writer,
    blobs: Blobs,
}

impl SystemScope {
    pub(super) fn new(
        reader: DatabaseConnection,
        checkpointer: Option<DatabaseConnection>,
        writer: Writer,
        blobs: Blobs,
    ) -> Self {
        Self { reader, checkpointer, writer, blobs }
    }
}
