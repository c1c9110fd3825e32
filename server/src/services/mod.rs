//! Use cases: one per method. Each authorises, runs one transaction and notifies. None calls
//! another.

pub mod access;
pub mod byte_shares;
/// The server's own certificate authority, and the certificates of clients.
pub mod certificates {
    pub mod authority;
    mod authority_record;
    pub mod client_certificates;
    mod issuing;
    pub mod rollover;
}
pub mod commands;
pub mod error;
pub mod freed_memory;
/// Agents, their presence, their groups and targets.
pub mod fleet {
    mod adoption;
    pub mod agents;
    pub mod facts;
    pub(super) mod group_membership;
    pub(super) mod presence;
    pub mod targets;
}
/// The event feed, webhooks, and integrations.
pub mod integrations {
    pub mod alerts;
    pub mod events;
    pub mod integrations;
    mod template;
    pub mod webhooks;
}
pub mod library;
/// Operations of the server itself: maintenance, metrics, installation, the master key.
pub mod operations {
    pub mod audit_key;
    pub mod audit_key_rotation;
    pub mod backup;
    pub mod installation;
    pub mod key_rotations;
    pub mod maintenance;
    pub mod master_key;
    pub mod master_key_rotation;
    pub mod monitoring;
    pub mod purge;
    pub mod readiness;
    pub mod restore;
    pub mod restore_record;
    pub mod storage;
}
pub mod releases;
pub mod schedules;
pub mod sessions;

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::limits::MISSED_HEARTBEATS;
use tokio::sync::{Notify, Semaphore};

use self::access::keys::key_cache::KeyCache;
use self::access::keys::key_uses::KeyUses;
use self::access::keys::lookup_limiter::LookupLimiter;
use self::access::people::access_tokens::AccessTokens;
use self::access::people::accounts::Accounts;
use self::access::people::own_attempts::OwnAttempts;
use self::access::people::passwords::Passwords;
use self::access::people::sign_in::SignIn;
use self::access::people::sign_in::limiter::SignInLimiter;
pub use self::access::stream_permits::StreamPermits;
use self::access::work_guard::WorkGuard;
use self::certificates::authority::ServerAuthority;
use self::commands::delivery::CommandDelivery;
use self::commands::preflight::{ManifestCache, Preflight};
use self::commands::submission_limiter::SubmissionLimiter;
use self::releases::catalog::ReleaseCatalog;
use self::sessions::Heartbeats;
use crate::adapters::oidc::client::OidcClient;
use crate::adapters::package_files::PackageFiles;
use crate::adapters::passkey_verifier::PasskeyVerifier;
use crate::adapters::program_files::ProgramFiles;
use crate::adapters::release_files::ReleaseFiles;
use crate::adapters::smtp::client::SmtpClient;
use crate::adapters::uploaded_files::UploadedFiles;
use crate::adapters::webhook_client::WebhookClient;
use crate::domain::certificates::client_certificate::CertificatePolicy;
use crate::domain::origin::Origin;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::{Clock, ElapsedTime};
use crate::hub::Hub;
use crate::metrics::MetricSet;
use crate::store::Store;

/// Settings of operators.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub heartbeat_interval_ms: u64,
    pub lost_after_ms: u64,
    pub history_retention_ms: u64,
    pub audit_retention_ms: u64,
    /// Bounds the first delay between two attempts to send a webhook.
    pub webhook_first_retry: Duration,
    /// Payload of one execution that agents may store.
    pub max_output_bytes: u64,
    /// Compacted output that is stored; the oldest is dropped first.
    pub output_quota_bytes: u64,
    /// Pause between two measurements of what is stored.
    pub storage_measure_every_ms: u64,
    /// Whether anybody may create a tenant and an account.
    pub is_registration_open: bool,
    /// Which clients must show a certificate.
    pub certificate_policy: CertificatePolicy,
    /// Bounds the first delay between two attempts to send a mail.
    pub mail_first_retry: Duration,
}

impl Settings {
    /// An agent that sends nothing for this long is offline.
    pub fn silence_ms(self) -> u64 {
        self.heartbeat_interval_ms.saturating_mul(u64::from(MISSED_HEARTBEATS))
    }
}

/// Adapters to the outside world that use cases need.
#[derive(Debug)]
pub struct Adapters {
    pub files: ProgramFiles,
    pub packages: PackageFiles,
    pub uploaded_files: UploadedFiles,
    pub releases: ReleaseFiles,
    pub webhooks: WebhookClient,
    pub mail: SmtpClient,
    /// Where people reach this server; `None` if that is not configured.
    pub public_url: Option<Origin>,
    /// Providers of single sign-on.
    pub oidc: Vec<OidcClient>,
    /// `None` if the server has no address that browsers make passkeys for.
    pub passkeys: Option<PasskeyVerifier>,
    /// The authority of the certificates of clients; `None` if this server does not end TLS.
    pub authority: Option<ServerAuthority>,
}

/// Every use case of the server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    pub authentication: access::authentication::Authentication,
    pub agent_keys: access::keys::agent_keys::AgentKeys,
    pub api_keys: access::keys::api_keys::ApiKeys,
    pub agents: fleet::agents::Agents,
    pub alerts: integrations::alerts::Alerts,
    pub approvals: commands::approvals::Approvals,
    pub audit_log: access::audit_log::AuditLog,
    pub calendars: schedules::calendars::Calendars,
    pub certificates: certificates::client_certificates::ClientCertificates,
    pub change_publisher: commands::change_publisher::ChangePublisher,
    pub commands: commands::Commands,
    pub device_logins: access::people::device_login::DeviceLogins,
    pub dispatcher: commands::dispatch::Dispatcher,
    pub events: integrations::events::Events,
    pub groups: releases::groups::Groups,
    pub installation: operations::installation::Installation,
    pub jobs: commands::jobs::Jobs,
    pub integrations: integrations::integrations::Integrations,
    pub invitations: access::people::invitations::Invitations,
    pub job_reconciler: commands::job_reconciler::JobReconciler,
    pub library: library::Library,
    pub packages: library::packages::Packages,
    pub files: library::files::FileLibrary,
    pub assignments: library::assignments::Assignments,
    pub live_output: commands::output::live::LiveOutput,
    pub mails: access::mails::Mails,
    pub members: access::people::members::Members,
    pub monitoring: operations::monitoring::Monitoring,
    pub oidc: access::people::oidc::OidcSignIn,
    pub passkeys: access::people::passkeys::Passkeys,
    pub output: commands::output::read::Output,
    pub output_compaction: commands::output::compaction::OutputCompaction,
    pub readiness: operations::readiness::Readiness,
    pub releases: releases::Releases,
    pub schedules: schedules::Schedules,
    pub hooks: schedules::hooks::Hooks,
    pub accounts: Accounts,
    pub freed_memory: freed_memory::FreedMemory,
    pub sessions: Arc<sessions::Sessions>,
    pub setup: access::people::setup::Setup,
    pub storage: operations::storage::Storage,
    pub sign_in: access::people::sign_in::SignIn,
    pub targets: fleet::targets::Targets,
    pub tenant_deletion: access::tenants::tenant_deletion::TenantDeletion,
    pub tenant_exports: access::tenants::tenant_export::TenantExports,
    pub tenants: access::tenants::administration::Tenants,
    pub maintenance: operations::maintenance::Maintenance,
    pub viewers: StreamPermits,
    pub webhooks: integrations::webhooks::Webhooks,
}

impl Services {
    /// All use cases over one store and one hub.
    pub fn new(
        store: &Store,
        hub: &Arc<Hub>,
        clock: &Clock,
        secret_box: &SecretBox,
        outside: Adapters,
        settings: Settings,
    ) -> Self {
        let parts = MetricSet { writer: store.writer().metrics().clone(), ..MetricSet::default() };
        let (cache, heartbeats) = (KeyCache::default(), Heartbeats::default());
        let (lookups, passwords) = (LookupLimiter::default(), Passwords::default());
        let uses = KeyUses::default();
        let guard = WorkGuard::new(store.clone());
        let group_changes = Arc::<Notify>::default();
        let (manifests, limiter) = (ManifestCache::default(), SubmissionLimiter::default());
        let preflight = Preflight {
            store: store.clone(),
            hub: Arc::clone(hub),
            clock: clock.clone(),
            manifests: manifests.clone(),
        };
        let (store, hub, clock) = (|| store.clone(), || Arc::clone(hub), || clock.clone());
        let delivery = CommandDelivery {
            store: store(),
            hub: hub(),
            elapsed: ElapsedTime::new(clock()),
            secret_box: secret_box.clone(),
            metrics: parts.dispatch.clone(),
        };
        let approvals = commands::approvals::Approvals {
            store: store(),
            hub: hub(),
            clock: clock(),
            preflight: preflight.clone(),
            guard: guard.clone(),
        };
        let certificates = certificates::client_certificates::ClientCertificates {
            store: store(),
            hub: hub(),
            clock: clock(),
            cache: cache.clone(),
            guard: guard.clone(),
            authority: outside.authority,
            policy: settings.certificate_policy,
        };
        let sign_in_limiter = SignInLimiter::default();
        let mails = access::mails::Mails {
            store: store(),
            clock: clock(),
            secret_box: secret_box.clone(),
            client: outside.mail,
            first_retry: settings.mail_first_retry,
            server: outside.public_url,
            queued: Arc::default(),
        };
        let tokens = AccessTokens::new(store(), clock(), secret_box.clone());
        let sign_in = SignIn {
            store: store(),
            clock: clock(),
            cache: cache.clone(),
            tokens: tokens.clone(),
            secret_box: secret_box.clone(),
            passwords: passwords.clone(),
            limiter: sign_in_limiter.clone(),
            own_attempts: OwnAttempts::default(),
            lookups: lookups.clone(),
            mails: mails.clone(),
        };
        let viewers = StreamPermits::new(store(), cache.clone(), clock());
        let (release_files, catalog) = (Arc::new(outside.releases), ReleaseCatalog::new(store()));
        let presence = fleet::presence::Presence {
            hub: hub(),
            clock: clock(),
            started_at: clock().now(),
            silence_ms: settings.silence_ms(),
        };
        let freed_memory = freed_memory::FreedMemory::default();
        let tenants = access::tenants::administration::Tenants {
            store: store(),
            clock: clock(),
            settings,
            cache: cache.clone(),
            counting: Arc::new(Semaphore::new(1)),
        };
        let assignment_changes = Arc::<Notify>::default();
        let library = library::Library {
            store: store(),
            clock: clock(),
            assignments_changed: Arc::clone(&assignment_changes),
        };
        let packages = library::packages::Packages::new(
            store(),
            clock(),
            outside.packages,
            Arc::clone(&assignment_changes),
        );
        let files = library::files::FileLibrary::new(store(), clock(), outside.uploaded_files);
        let jobs = commands::jobs::Jobs {
            library: library.clone(),
            store: store(),
            hub: hub(),
            clock: clock(),
            settings,
            delivery: delivery.clone(),
            presence: presence.clone(),
            webhook_reach: outside.webhooks.reach(),
            preflight: preflight.clone(),
            limiter: limiter.clone(),
            guard: guard.clone(),
        };
        let webhooks = integrations::webhooks::Webhooks {
            store: store(),
            hub: hub(),
            clock: clock(),
            secret_box: secret_box.clone(),
            client: outside.webhooks,
            first_retry: settings.webhook_first_retry,
            metrics: parts.webhooks.clone(),
            mails: mails.clone(),
        };
        Self {
            authentication: access::authentication::Authentication {
                store: store(),
                cache: cache.clone(),
                clock: clock(),
                lookups: lookups.clone(),
                uses: uses.clone(),
                tokens: Some(tokens),
            },
            agent_keys: access::keys::agent_keys::AgentKeys {
                store: store(),
                hub: hub(),
                cache: cache.clone(),
                clock: clock(),
                change_lock: Arc::default(),
            },
            api_keys: access::keys::api_keys::ApiKeys {
                store: store(),
                hub: hub(),
                cache: cache.clone(),
                clock: clock(),
                uses: uses.clone(),
            },
            agents: fleet::agents::Agents {
                store: store(),
                hub: hub(),
                clock: clock(),
                cache: cache.clone(),
                guard: guard.clone(),
            },
            alerts: integrations::alerts::Alerts {
                store: store(),
                clock: clock(),
                settings,
                guard: guard.clone(),
                hub: hub(),
                changed: Arc::default(),
            },
            approvals,
            audit_log: access::audit_log::AuditLog { store: store(), viewers: viewers.clone() },
            certificates: certificates.clone(),
            change_publisher: commands::change_publisher::ChangePublisher {
                store: store(),
                hub: hub(),
            },
            commands: commands::Commands {
                library: library.clone(),
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                cache: cache.clone(),
                delivery: delivery.clone(),
                preflight,
                limiter,
                presence: presence.clone(),
                catalog: catalog.clone(),
                membership: fleet::group_membership::GroupMembership { store: store() },
                guard: guard.clone(),
            },
            device_logins: access::people::device_login::DeviceLogins::new(sign_in.clone()),
            dispatcher: commands::dispatch::Dispatcher {
                library: library.clone(),
                store: store(),
                hub: hub(),
                clock: clock(),
                delivery,
            },
            events: integrations::events::Events {
                store: store(),
                hub: hub(),
                viewers: viewers.clone(),
            },
            groups: releases::groups::Groups {
                presence: presence.clone(),
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                catalog: catalog.clone(),
                membership: fleet::group_membership::GroupMembership { store: store() },
                guard: guard.clone(),
                changed: Arc::clone(&group_changes),
            },
            installation: operations::installation::Installation {
                files: Arc::new(outside.files),
                releases: Arc::clone(&release_files),
                catalog: catalog.clone(),
            },
            jobs: jobs.clone(),
            job_reconciler: commands::job_reconciler::JobReconciler {
                store: store(),
                hub: hub(),
                clock: clock(),
                settings,
                presence,
            },
            library,
            packages: packages.clone(),
            files: files.clone(),
            assignments: library::assignments::Assignments {
                store: store(),
                hub: hub(),
                clock: clock(),
                guard: guard.clone(),
                changed: assignment_changes,
                rollouts_changed: Arc::default(),
            },
            live_output: commands::output::live::LiveOutput {
                store: store(),
                hub: hub(),
                viewers: viewers.clone(),
            },
            accounts: Accounts::new(&sign_in, settings.is_registration_open),
            mails: mails.clone(),
            monitoring: operations::monitoring::Monitoring::new(store(), hub(), &parts),
            oidc: access::people::oidc::OidcSignIn::new(sign_in.clone(), outside.oidc),
            passkeys: access::people::passkeys::Passkeys::new(sign_in.clone(), outside.passkeys),
            output: commands::output::read::Output { store: store(), hub: hub() },
            output_compaction: commands::output::compaction::OutputCompaction {
                store: store(),
                clock: clock(),
                settings,
            },
            readiness: operations::readiness::Readiness::new(store()),
            storage: operations::storage::Storage::new(
                store(),
                clock(),
                Arc::clone(&release_files),
                settings.storage_measure_every_ms,
            ),
            releases: releases::Releases {
                store: store(),
                clock: clock(),
                files: release_files,
                catalog: catalog.clone(),
                change_lock: Arc::default(),
            },
            calendars: schedules::calendars::Calendars {
                store: store(),
                clock: clock(),
                guard: guard.clone(),
                group_changes: Arc::clone(&group_changes),
            },
            hooks: schedules::hooks::Hooks {
                store: store(),
                clock: clock(),
                jobs: jobs.clone(),
                secret_box: secret_box.clone(),
                limiter: schedules::hooks::HookLimiter::default(),
            },
            schedules: schedules::Schedules {
                store: store(),
                clock: clock(),
                jobs,
                secret_box: secret_box.clone(),
                changed: Arc::default(),
            },
            setup: access::people::setup::Setup {
                store: store(),
                clock: clock(),
                cache: cache.clone(),
                lookups: lookups.clone(),
                passwords: passwords.clone(),
            },
            invitations: access::people::invitations::Invitations {
                store: store(),
                clock: clock(),
                passwords,
                limiter: sign_in_limiter,
                lookups,
                mails,
            },
            members: access::people::members::Members {
                store: store(),
                cache: cache.clone(),
                clock: clock(),
            },
            sign_in,
            freed_memory: freed_memory.clone(),
            sessions: Arc::new(sessions::Sessions::new(
                store(),
                hub(),
                clock(),
                settings,
                heartbeats.clone(),
                cache.clone(),
                manifests,
                sessions::DesiredVersions {
                    membership: fleet::group_membership::GroupMembership { store: store() },
                    catalog,
                },
                secret_box.clone(),
                certificates.clone(),
                freed_memory.clone(),
            )),
            targets: fleet::targets::Targets { store: store(), hub: hub() },
            tenant_deletion: access::tenants::tenant_deletion::TenantDeletion {
                store: store(),
                hub: hub(),
                clock: clock(),
                cache: cache.clone(),
                tenants: tenants.clone(),
                requested: Arc::default(),
            },
            tenant_exports: access::tenants::tenant_export::TenantExports {
                store: store(),
                clock: clock(),
                running: Arc::new(Semaphore::new(access::tenants::tenant_export::MAX_EXPORTS)),
            },
            tenants,
            maintenance: operations::maintenance::Maintenance {
                store: store(),
                hub: hub(),
                started_at: clock().now(),
                clock: clock(),
                settings,
                heartbeats,
                uses,
                packages,
                files,
                certificates,
            },
            viewers,
            integrations: integrations::integrations::Integrations {
                store: store(),
                clock: clock(),
                secret_box: secret_box.clone(),
                webhooks: webhooks.clone(),
            },
            webhooks,
        }
    }
}
