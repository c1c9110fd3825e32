//! Sessions whose key is regenerated while they open.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::CloseCode;
use tokio::sync::mpsc;

use super::{DesiredVersions, Heartbeats, Sessions};
use crate::domain::access::credential::SecretHash;
use crate::domain::certificates::client_certificate::CertificatePolicy;
use crate::domain::ids::{AgentId, AgentKeyId};
use crate::domain::operations::master_key::MasterKey;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::hub::{SessionHandle, SessionMessage, SessionParams};
use crate::services::Settings;
use crate::services::access::authentication::to_grant;
use crate::services::access::keys::agent_keys::{AgentKeys, NewAgentKey};
use crate::services::access::keys::key_cache::KeyCache;
use crate::services::access::stream_permits::tests::Onlooker;
use crate::services::access::work_guard::WorkGuard;
use crate::services::certificates::client_certificates::ClientCertificates;
use crate::services::commands::preflight::ManifestCache;
use crate::services::fleet::group_membership::GroupMembership;
use crate::services::freed_memory::FreedMemory;
use crate::services::releases::catalog::ReleaseCatalog;

const GRACE_MS: u64 = 60_000;
const SETTINGS: Settings = Settings {
    heartbeat_interval_ms: 30_000,
    lost_after_ms: 86_400_000,
    history_retention_ms: 86_400_000,
    audit_retention_ms: 86_400_000,
    webhook_first_retry: Duration::from_secs(1),
    max_output_bytes: 1 << 20,
    output_quota_bytes: 1 << 30,
    storage_measure_every_ms: 300_000,
    is_registration_open: false,
    certificate_policy: CertificatePolicy::Off,
    mail_first_retry: Duration::from_secs(5),
};

/// A session that was committed and is not registered yet, of a key that is regenerated now.
struct Opening {
    sessions: Sessions,
    session: Arc<SessionHandle>,
    messages: mpsc::Receiver<SessionMessage>,
    secret_hash: SecretHash,
    revision: u64,
    new_secret: String,
    onlooker: Onlooker,
}

impl Opening {
    async fn regenerated(is_full: bool, grace_ms: u64) -> Self {
        let onlooker = Onlooker::new().await;
        let (store, hub) = (|| onlooker.store.clone(), || Arc::clone(&onlooker.hub));
        let master_key = data_encoding::BASE64.encode(&[1; 32]);
        let sessions = Sessions::new(
            store(),
            hub(),
            Clock::system(),
            SETTINGS,
            Heartbeats::default(),
            KeyCache::default(),
            ManifestCache::default(),
            DesiredVersions {
                membership: GroupMembership { store: store() },
                catalog: ReleaseCatalog::new(store()),
            },
            SecretBox::new(&MasterKey::from_base64(&master_key).expect("a key")).expect("a box"),
            ClientCertificates {
                store: store(),
                hub: hub(),
                clock: Clock::system(),
                cache: KeyCache::default(),
                guard: WorkGuard::new(store()),
                authority: None,
                policy: CertificatePolicy::Off,
            },
            FreedMemory::default(),
        );
        let keys = AgentKeys {
            store: store(),
            hub: hub(),
            cache: KeyCache::default(),
            clock: Clock::system(),
            change_lock: Arc::default(),
        };
        let new = NewAgentKey {
            name: "key".into(),
            permissions: None,
            tags: Vec::new(),
            max_agents: None,
            trusts_holders: false,
            expires_at: None,
        };
        let made = keys.create(&onlooker.caller, new).await.expect("create a key");
        let (session, messages) = handle(&onlooker, made.row.id, is_full).await;
        let revision = onlooker.hub.key_revision();
        let again = keys.regenerate(&onlooker.caller, made.row.id, grace_ms).await;
        let new_secret = again.expect("regenerate").secret;
        let secret_hash = SecretHash::of(&made.secret);
        Self { sessions, session, messages, secret_hash, revision, new_secret, onlooker }
    }

    async fn recheck(&self) -> Result<(), CloseCode> {
        self.sessions.recheck_key(&self.session, self.secret_hash, self.revision).await
    }
}

async fn handle(
    onlooker: &Onlooker,
    key_id: AgentKeyId,
    is_full: bool,
) -> (Arc<SessionHandle>, mpsc::Receiver<SessionMessage>) {
    let tenant = onlooker.store.tenant(onlooker.caller.principal.tenant_id);
    let key = tenant.agent_key(key_id).await.expect("read").expect("the key");
    SessionHandle::new(SessionParams {
        agent_id: AgentId::new(),
        tenant_id: key.tenant_id,
        epoch: 1,
        is_full,
        capabilities: Vec::new(),
        is_http: false,
        supports_secrets: is_full,
        supports_library: is_full,
        supports_packages: is_full,
        supports_files: is_full,
        supports_steps: is_full,
        supports_assignments: is_full,
        supports_assigned_scripts: is_full,
        max_in_flight: 1,
        grant: Arc::new(to_grant(&key)),
        secret_until: None,
    })
}

#[tokio::test]
async fn session_whose_secret_is_replaced_while_it_opens_is_refused() {
    for is_full in [true, false] {
        let opening = Opening::regenerated(is_full, 0).await;
        assert_eq!(opening.recheck().await, Err(CloseCode::KeyRegenerated), "full: {is_full}");
    }
}

#[tokio::test]
async fn full_agent_that_missed_the_new_secret_while_it_opened_receives_it() {
    let mut opening = Opening::regenerated(true, GRACE_MS).await;
    opening.recheck().await.expect("in grace");
    match opening.messages.try_recv() {
        Ok(SessionMessage::Rekey(rekey)) => assert_eq!(*rekey.key, opening.new_secret),
        other => panic!("no new secret: {other:?}"),
    }
}

#[tokio::test]
async fn basic_agent_whose_secret_is_replaced_while_it_opens_ends_with_the_grace_period() {
    let mut opening = Opening::regenerated(false, GRACE_MS).await;
    opening.recheck().await.expect("in grace");
    assert!(opening.messages.try_recv().is_err(), "a basic agent cannot receive a secret");
    let now = Clock::system().now();
    assert!(!opening.session.is_secret_over(now));
    assert!(opening.session.is_secret_over(now.plus_ms(GRACE_MS)));
    assert!(opening.onlooker.hub.is_empty());
}
