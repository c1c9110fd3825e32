//! Rollouts of assignments: what hosts are to have, and decisions that come too late.

use muster_server::domain::ids::{AgentId, AssignmentId, PackageId, TenantId};
use muster_server::domain::library::assignment_records::{AssignedKind, AssignmentRecord};
use muster_server::domain::library::assignment_rollout::{
    AssignmentRollout, FormerVersion, RolloutShare, RolloutState, ShareState,
};
use muster_server::domain::time::Timestamp;
use muster_server::store::StoreError;
use muster_server::store::queries::{ROLLOUT_UNDER_WAY, RolloutDecision};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    agents_that_no_wave_has_reached_keep_the_former_version,
    a_version_can_not_change_while_a_rollout_is_under_way,
    a_decision_about_another_state_of_the_rollout_changes_nothing,
    an_aborted_rollout_leaves_the_former_version_and_nothing_else,
);

struct Begun {
    row: AssignmentRecord,
    rollout: AssignmentRollout,
    former: PackageId,
}

impl Fixture {
    /// An assignment whose version changes in waves.
    async fn begun(&self) -> Begun {
        let tenant_id = self.tenant_id;
        let former = self.package(tenant_id).await;
        let next = self.package_named(tenant_id, "next").await;
        let id = self.assign_kind(tenant_id, former, "one", AssignedKind::Task).await;
        let tenant = self.store.tenant(tenant_id);
        let found = tenant.assignment(id.expect("assigned")).await.expect("read").expect("there");
        let row = AssignmentRecord {
            content_id: next.into(),
            content_version: "2".into(),
            changed_at: NOW.plus_ms(1),
            ..found
        };
        let rollout = AssignmentRollout {
            assignment_id: row.id,
            tenant_id,
            former: Some(FormerVersion { content_id: former.into(), version: "1".into() }),
            wave_size: "1".into(),
            max_failures: "0".into(),
            healthy_for_ms: 0,
            state: RolloutState::Running,
            halt_reason: None,
            wave: 0,
            healthy_wave: 0,
            started_at: row.changed_at,
            changed_at: row.changed_at,
        };
        let begun = Begun { row, rollout, former };
        let started = self.change(&begun.row, Some(begun.rollout.clone()), NOW).await;
        assert!(started.expect("changed"));
        begun
    }

    async fn change(
        &self,
        row: &AssignmentRecord,
        rollout: Option<AssignmentRollout>,
        was_changed_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let row = row.clone().into();
        tenant.change_assignment(row, rollout, was_changed_at, audit(self.tenant_id)).await
    }

    /// The package whose document an agent is to have.
    async fn wanted_on(&self, agent_id: AgentId) -> Option<String> {
        let tenant = self.store.tenant(self.tenant_id);
        let wanted = tenant.wanted_assignments(NOW).await.expect("read");
        let [wanted] = wanted.try_into().expect("one assignment");
        let rollout = wanted.rollout.as_ref().map(|rollout| rollout.reached.contains(&agent_id));
        let content = wanted.content_for(agent_id)?;
        assert_eq!(content.document, wanted.content.document, "both have one document here");
        Some(match rollout {
            None => "for all".to_owned(),
            Some(true) => "reached".to_owned(),
            Some(false) => "former".to_owned(),
        })
    }

    async fn rollout_of(&self, id: AssignmentId) -> Option<AssignmentRollout> {
        self.store.tenant(self.tenant_id).assignment_rollout(id).await.expect("read")
    }

    async fn decide_rollout(&self, decision: RolloutDecision) -> bool {
        let tenant = self.store.tenant(self.tenant_id);
        tenant.decide_rollout(decision, audit(self.tenant_id)).await.expect("a transaction")
    }
}

fn share(agent_id: AgentId, state: ShareState) -> RolloutShare {
    RolloutShare { agent_id, wave: 1, state, changed_at: NOW }
}

async fn agents_that_no_wave_has_reached_keep_the_former_version(fixture: Fixture) {
    let Begun { row, rollout, former } = fixture.begun().await;
    let (first, second) = (AgentId::new(), AgentId::new());
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert_eq!(fixture.wanted_on(first).await.as_deref(), Some("former"));
    let shares = vec![share(first, ShareState::Updating)];
    assert!(tenant.advance_rollout(rollout.clone(), 1, shares).await.expect("stored"));
    assert_eq!(fixture.wanted_on(first).await.as_deref(), Some("reached"));
    assert_eq!(fixture.wanted_on(second).await.as_deref(), Some("former"));
    for package in [former, PackageId(row.content_id.0)] {
        let deleted = tenant.delete_package(package, audit(fixture.tenant_id)).await;
        assert!(matches!(deleted, Err(StoreError::Refused(_))), "{deleted:?}");
    }
    // Another tenant sees none of it.
    let foreign = fixture.store.tenant(TenantId::new());
    assert_eq!(foreign.assignment_rollout(row.id).await.expect("read"), None);
    assert_eq!(foreign.rollout_shares(row.id).await.expect("read"), []);
    let current = fixture.rollout_of(row.id).await.expect("under way");
    assert_eq!(current, AssignmentRollout { wave: 1, ..rollout });
    assert!(fixture.decide_rollout(RolloutDecision::Finish(current)).await);
    assert_eq!(fixture.wanted_on(second).await.as_deref(), Some("for all"));
    assert_eq!(tenant.rollout_shares(row.id).await.expect("read"), []);
    assert!(tenant.delete_package(former, audit(fixture.tenant_id)).await.expect("deleted"));
}

async fn a_version_can_not_change_while_a_rollout_is_under_way(fixture: Fixture) {
    let Begun { row, rollout, former } = fixture.begun().await;
    let back =
        AssignmentRecord { content_id: former.into(), changed_at: NOW.plus_ms(2), ..row.clone() };
    for started in [None, Some(rollout.clone())] {
        let refused = fixture.change(&back, started, row.changed_at).await;
        assert!(matches!(refused, Err(StoreError::Refused(ROLLOUT_UNDER_WAY))), "{refused:?}");
    }
    let renamed =
        AssignmentRecord { name: "renamed".into(), changed_at: NOW.plus_ms(2), ..row.clone() };
    assert!(fixture.change(&renamed, None, row.changed_at).await.expect("changed"));
    assert_eq!(fixture.rollout_of(row.id).await, Some(rollout));
    // The rollout goes with its assignment.
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.delete_assignment(row.id, audit(fixture.tenant_id)).await.expect("deleted"));
    assert_eq!(fixture.rollout_of(row.id).await, None);
}

async fn a_decision_about_another_state_of_the_rollout_changes_nothing(fixture: Fixture) {
    let Begun { row, rollout, .. } = fixture.begun().await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let agent = AgentId::new();
    let shares = vec![share(agent, ShareState::Failed)];
    assert!(tenant.advance_rollout(rollout.clone(), 1, shares.clone()).await.expect("stored"));
    assert!(!tenant.advance_rollout(rollout.clone(), 1, shares).await.expect("too late"));
    assert!(!tenant.pass_rollout_wave(rollout.clone()).await.expect("too late"));
    assert!(!fixture.decide_rollout(RolloutDecision::Finish(rollout.clone())).await);
    let current = AssignmentRollout { wave: 1, ..rollout };
    let reason = "Halted: 1 failed".to_owned();
    let later = NOW.plus_ms(9);
    let halted = tenant.halt_rollout(current, reason.clone(), later, audit(fixture.tenant_id));
    assert!(halted.await.expect("halted"));
    let halted = fixture.rollout_of(row.id).await.expect("under way");
    assert_eq!((halted.state, halted.halt_reason.as_ref()), (RolloutState::Halted, Some(&reason)));
    assert!(fixture.decide_rollout(RolloutDecision::Resume(halted.clone())).await);
    assert!(!fixture.decide_rollout(RolloutDecision::Resume(halted)).await, "twice");
    let resumed = fixture.rollout_of(row.id).await.expect("under way");
    assert_eq!((resumed.state, resumed.halt_reason), (RolloutState::Running, None));
    assert_eq!(resumed.healthy_wave, 1);
    let shares = tenant.rollout_shares(row.id).await.expect("read");
    assert_eq!(shares, [share(agent, ShareState::Accepted)]);
}

async fn an_aborted_rollout_leaves_the_former_version_and_nothing_else(fixture: Fixture) {
    let Begun { row, rollout, former } = fixture.begun().await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let shares = vec![share(AgentId::new(), ShareState::Done)];
    assert!(tenant.advance_rollout(rollout.clone(), 0, shares).await.expect("stored"));
    let back = AssignmentRecord {
        content_id: former.into(),
        content_version: "1".into(),
        changed_at: NOW.plus_ms(2),
        ..row.clone()
    };
    let abort = |was_changed_at| RolloutDecision::Abort {
        rollout: rollout.clone(),
        row: Box::new(back.clone()),
        was_changed_at,
    };
    assert!(!fixture.decide_rollout(abort(NOW)).await, "the assignment was changed since");
    assert!(fixture.decide_rollout(abort(row.changed_at)).await);
    assert_eq!(tenant.assignment(row.id).await.expect("read"), Some(back));
    assert_eq!(fixture.rollout_of(row.id).await, None);
    assert_eq!(tenant.rollout_shares(row.id).await.expect("read"), []);
    let under_way = fixture.store.system().rollouts_under_way().await.expect("read");
    assert_eq!(under_way, []);
}
