//! A wave that is stopped while its updates are requested, over a real store.

use std::sync::Arc;

use muster_tests::{PostgresDatabase, TestDir};
use uuid::Uuid;

use super::{Groups, Settings};
use crate::domain::access::principal::ActorKind;
use crate::domain::ids::{AgentId, AuditId, CommandId, GroupId, PrincipalId, TenantId};
use crate::domain::releases::group::{GroupState, UpdateState};
use crate::domain::time::{Clock, Timestamp};
use crate::hub::Hub;
use crate::services::access::work_guard::WorkGuard;
use crate::services::fleet::group_membership::GroupMembership;
use crate::services::fleet::presence::Presence;
use crate::services::releases::catalog::ReleaseCatalog;
use crate::store::Store;
use crate::store::entities::access::audit_entry;
use crate::store::entities::releases::{agent_update, group};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn groups(store: &Store) -> Groups {
    let (hub, clock) = (Arc::new(Hub::default()), Clock::system());
    let presence = Presence {
        hub: Arc::clone(&hub),
        clock: clock.clone(),
        started_at: NOW,
        silence_ms: 90_000,
    };
    let settings = Settings {
        heartbeat_interval_ms: 30_000,
        lost_after_ms: 60_000,
        history_retention_ms: 60_000,
        audit_retention_ms: 60_000,
        webhook_first_retry: std::time::Duration::from_secs(1),
        max_output_bytes: 1,
        output_quota_bytes: 1,
        storage_measure_every_ms: 300_000,
        is_registration_open: false,
        certificate_policy: Default::default(),
        mail_first_retry: std::time::Duration::from_secs(5),
    };
    Groups {
        store: store.clone(),
        hub,
        clock,
        settings,
        catalog: ReleaseCatalog::new(store.clone()),
        membership: GroupMembership { store: store.clone() },
        presence,
        guard: WorkGuard::new(store.clone()),
        changed: Arc::default(),
    }
}

fn second_wave() -> group::Model {
    group::Model {
        id: GroupId::new(),
        tenant_id: TenantId::new(),
        name: "all".into(),
        target: r#"{"expression":"all"}"#.into(),
        desired_version: Some("0.2.0".into()),
        wave_size: "1".into(),
        max_failures: "0".into(),
        healthy_for_ms: 0,
        state: GroupState::Active,
        halt_reason: None,
        generation: 3,
        wave: 2,
        healthy_wave: 1,
        requested_by: PrincipalId(Uuid::nil()),
        created_at: NOW,
        changed_at: NOW,
    }
}

fn attempt(row: &group::Model) -> agent_update::Model {
    agent_update::Model {
        agent_id: AgentId::new(),
        tenant_id: row.tenant_id,
        group_id: row.id,
        generation: row.generation,
        wave: row.wave,
        state: UpdateState::Updating,
        command_id: CommandId::new(),
        tries: 1,
        due_at: NOW,
        code: None,
        message: None,
        changed_at: NOW,
        cohort: "linux/x86_64/systemd".into(),
        is_canary: false,
        probe_command_id: None,
    }
}

fn audit(row: &group::Model) -> audit_entry::Model {
    audit_entry::Model {
        id: AuditId::new(),
        tenant_id: row.tenant_id,
        link: 0,
        at: NOW,
        actor_kind: ActorKind::System,
        actor_id: None,
        session_id: None,
        action: "group.create".into(),
        subject_kind: "group".into(),
        subject_id: Some(row.id.0),
        detail: "{}".into(),
        source: None,
    }
}

/// True if every update of the wave is requested while the group is stored as `stored`.
async fn is_requested(store: &Store, wave: &group::Model, stored: group::Model) -> bool {
    let tenant = store.tenant(wave.tenant_id);
    tenant.create_group(stored, 100, audit(wave)).await.expect("created");
    let attempts = (0..1_201).map(|_| attempt(wave)).collect();
    groups(store).request_updates(wave, "0.2.0", attempts).await.expect("requested")
}

async fn updates_are_requested_only_while_the_wave_is_current(store: Store) {
    let wave = second_wave();
    assert!(is_requested(&store, &wave, wave.clone()).await);
    for change in [
        |row: &mut group::Model| row.state = GroupState::Paused,
        |row: &mut group::Model| row.state = GroupState::Halted,
        |row: &mut group::Model| row.generation += 1,
        |row: &mut group::Model| row.wave = 0,
    ] {
        let wave = second_wave();
        let mut stored = wave.clone();
        change(&mut stored);
        assert!(!is_requested(&store, &wave, stored).await);
    }
    // A change of the policy does not start a new generation.
    let wave = second_wave();
    let stored =
        group::Model { changed_at: NOW.plus_ms(1), max_failures: "9".into(), ..wave.clone() };
    assert!(is_requested(&store, &wave, stored).await);
}

#[tokio::test]
async fn updates_are_requested_only_while_the_wave_is_current_on_sqlite() {
    let test_dir = TestDir::new();
    let url = format!("sqlite:{}", test_dir.path().join("muster.db").display());
    let store = Store::open(&url, &test_dir.folder("data")).await.expect("open the store");
    Box::pin(updates_are_requested_only_while_the_wave_is_current(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_requested_only_while_the_wave_is_current_on_postgres() {
    let test_dir = TestDir::new();
    let postgres = tokio::task::block_in_place(PostgresDatabase::empty);
    let store =
        Store::open(&postgres.url(), &test_dir.folder("data")).await.expect("open the store");
    Box::pin(updates_are_requested_only_while_the_wave_is_current(store)).await;
}
