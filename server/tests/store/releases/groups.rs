//! Groups that want a version, and how they go on, on both databases.

use muster_server::domain::fleet::target::facts::FactNames;
use muster_server::domain::ids::{AgentId, CommandId, GroupId, PrincipalId};
use muster_server::domain::releases::group::{GroupState, UpdateState};
use muster_server::store::StoreError;
use muster_server::store::entities::releases::{agent_update, group};
use muster_server::store::queries::{Deletion, GroupChange};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_group_advances_only_if_it_has_not_changed_since_the_decision,
    another_desired_version_deletes_the_updates_of_the_previous_one,
    a_change_of_a_group_keeps_its_current_wave,
    a_stopped_group_is_reconciled_until_every_result_is_known,
    deleting_an_agent_deletes_its_update,
    resumed_group_repeats_the_execution_of_its_failed_canary_and_forgets_other_failures,
);

const BY: PrincipalId = PrincipalId(Uuid::nil());

impl Fixture {
    async fn group(&self, name: &str) -> group::Model {
        let row = group::Model {
            id: GroupId::new(),
            tenant_id: self.tenant_id,
            name: name.into(),
            target: r#"{"expression":"all"}"#.into(),
            desired_version: Some("0.2.0".into()),
            wave_size: "1".into(),
            max_failures: "\"10%\"".into(),
            healthy_for_ms: 0,
            state: GroupState::Active,
            halt_reason: None,
            generation: 1,
            wave: 0,
            healthy_wave: 0,
            requested_by: BY,
            created_at: NOW,
            changed_at: NOW,
        };
        let tenant = self.store.tenant(self.tenant_id);
        tenant.create_group(row.clone(), 2, audit(self.tenant_id)).await.expect("made");
        row
    }
}

fn update(row: &group::Model, agent_id: AgentId, state: UpdateState) -> agent_update::Model {
    agent_update::Model {
        agent_id,
        tenant_id: row.tenant_id,
        group_id: row.id,
        generation: 1,
        wave: 1,
        state,
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

async fn a_group_advances_only_if_it_has_not_changed_since_the_decision(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let twice = tenant.create_group(
        group::Model { id: GroupId::new(), ..row.clone() },
        9,
        audit(fixture.tenant_id),
    );
    assert!(matches!(twice.await, Err(StoreError::Refused(_))));
    let session = fixture.agent("machine").await;
    let update = |state| update(&row, session.agent_id, state);
    let begun = update(UpdateState::Updating);
    let advance = async |on: &group::Model, wave, row| {
        tenant.advance_group(on.clone(), wave, vec![row]).await.expect("asked")
    };
    assert!(advance(&row, 1, begun.clone()).await);
    assert!(!advance(&row, 1, begun).await, "it is in another wave by now");
    let now = group::Model { wave: 1, ..row.clone() };
    let failed = update(UpdateState::Failed);
    assert!(advance(&now, 1, failed.clone()).await);
    assert_eq!(tenant.group_updates(row.id).await.expect("read"), [failed]);
    let halt = async |on: group::Model| {
        let audit = audit(fixture.tenant_id);
        tenant.halt_group(on, "why".into(), NOW.plus_ms(1), audit).await.expect("asked")
    };
    assert!(!halt(row.clone()).await);
    assert!(halt(now.clone()).await);
    assert!(!halt(now).await);
    assert!(fixture.store.system().groups_under_way().await.expect("read").is_empty());
}

async fn another_desired_version_deletes_the_updates_of_the_previous_one(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let session = fixture.agent("machine").await;
    let update = update(&row, session.agent_id, UpdateState::Failed);
    assert!(tenant.advance_group(row.clone(), 1, vec![update]).await.expect("asked"));
    let change = |forgets_updates, was_changed_at| GroupChange {
        row: group::Model { generation: 2, changed_at: NOW.plus_ms(1), ..row.clone() },
        was_changed_at,
        forgets_updates,
        retries_failed: false,
    };
    let ask = async |change| tenant.change_group(change, audit(fixture.tenant_id)).await;
    assert_eq!(ask(change(true, NOW.plus_ms(9))).await.expect("asked"), None, "it has changed");
    assert_eq!(tenant.group_updates(row.id).await.expect("read").len(), 1);
    assert!(ask(change(true, NOW)).await.expect("asked").is_some());
    assert!(tenant.group_updates(row.id).await.expect("read").is_empty());
    assert!(tenant.delete_group(row.id, audit(fixture.tenant_id)).await.expect("asked"));
    assert!(!tenant.delete_group(row.id, audit(fixture.tenant_id)).await.expect("asked"));
}

async fn a_change_of_a_group_keeps_its_current_wave(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let thought_of = fixture.group("one").await;
    let id = thought_of.id;
    let shown = async || tenant.group(id).await.expect("read").expect("there");
    for wave in [1, 2] {
        assert!(tenant.advance_group(shown().await, wave, Vec::new()).await.expect("asked"));
        assert!(tenant.end_group_wave(shown().await).await.expect("asked"));
    }
    let stale = group::Model { wave: 1, ..shown().await };
    assert!(!tenant.end_group_wave(stale).await.expect("asked"));
    assert!(tenant.advance_group(shown().await, 3, Vec::new()).await.expect("asked"));
    // Each was thought of before the first wave.
    let mut at = thought_of.changed_at;
    for (forgets_updates, retries_failed, waves) in
        [(false, false, (3, 2)), (false, true, (3, 3)), (true, false, (0, 0))]
    {
        let now = at.plus_ms(1);
        let row = group::Model { name: "two".into(), changed_at: now, ..thought_of.clone() };
        let change = GroupChange { row, was_changed_at: at, forgets_updates, retries_failed };
        let changed = tenant.change_group(change, audit(fixture.tenant_id)).await;
        let changed = changed.expect("asked").expect("as thought");
        assert_eq!((changed.wave, changed.healthy_wave), waves);
        assert_eq!(shown().await, changed);
        at = now;
    }
}

async fn a_stopped_group_is_reconciled_until_every_result_is_known(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let (row, session) = (fixture.group("one").await, fixture.agent("machine").await);
    let under_way = async || {
        let groups = fixture.store.system().groups_under_way().await.expect("read");
        groups.iter().any(|other| other.id == row.id)
    };
    assert!(under_way().await, "its desired version must be reconciled");
    let audit = audit(fixture.tenant_id);
    assert!(tenant.halt_group(row.clone(), "why".into(), NOW, audit).await.expect("asked"));
    assert!(!under_way().await, "no agent is asked, and none was asked");
    for (state, is_under_way) in [
        (UpdateState::Updating, true),
        (UpdateState::Unreachable, true),
        (UpdateState::Done, false),
        (UpdateState::Failed, false),
        (UpdateState::Pending, false),
    ] {
        let now = tenant.group(row.id).await.expect("read").expect("there");
        let moved = vec![update(&row, session.agent_id, state)];
        assert!(tenant.advance_group(now, 0, moved).await.expect("asked"));
        assert_eq!(under_way().await, is_under_way, "{state:?}");
    }
}

async fn deleting_an_agent_deletes_its_update(fixture: Fixture) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let (gone, stays) = (fixture.agent("one").await.agent_id, fixture.agent("two").await.agent_id);
    let all_agents = async || {
        let all_agents =
            tenant.all_agents(&FactNames::new(), |id| id == stays).await.expect("read");
        let shown = all_agents.into_iter().map(|(facts, at)| (facts.id, facts.is_online, at));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(all_agents().await, [(gone, false, NOW), (stays, true, NOW)]);
    let both = [gone, stays].map(|id| update(&row, id, UpdateState::Updating)).to_vec();
    assert!(tenant.advance_group(row.clone(), 0, both.clone()).await.expect("asked"));
    let deletion = tenant.delete_agent(gone, Deletion::Operator, NOW, audit(fixture.tenant_id));
    assert!(deletion.await.expect("asked").is_some());
    // What was decided before it went does not bring it back.
    for updates in [Vec::new(), both.clone()] {
        assert!(tenant.advance_group(row.clone(), 0, updates).await.expect("asked"));
        let left = tenant.group_updates(row.id).await.expect("read");
        assert_eq!(left, both[1..]);
    }
    assert_eq!(all_agents().await, [(stays, true, NOW)]);
}

async fn resumed_group_repeats_the_execution_of_its_failed_canary_and_forgets_other_failures(
    fixture: Fixture,
) {
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let row = fixture.group("one").await;
    let (one, two) = (fixture.agent("one").await.agent_id, fixture.agent("two").await.agent_id);
    let canary = agent_update::Model {
        is_canary: true,
        probe_command_id: Some(CommandId::new()),
        code: Some("probe_failed".into()),
        message: Some("why".into()),
        ..update(&row, one, UpdateState::Failed)
    };
    let other = update(&row, two, UpdateState::Failed);
    assert!(
        tenant.advance_group(row.clone(), 1, vec![canary.clone(), other]).await.expect("asked")
    );
    let later = NOW.plus_ms(1);
    let change = GroupChange {
        row: group::Model { changed_at: later, ..row.clone() },
        was_changed_at: NOW,
        forgets_updates: false,
        retries_failed: true,
    };
    tenant.change_group(change, audit(fixture.tenant_id)).await.expect("asked").expect("resumed");
    let again = agent_update::Model {
        state: UpdateState::Pending,
        tries: 0,
        due_at: later,
        changed_at: later,
        code: None,
        message: None,
        ..canary
    };
    assert_eq!(tenant.group_updates(row.id).await.expect("read"), [again]);
}
