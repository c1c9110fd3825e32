//! What a roll-out holds is not sent, and each of its steps is taken once.

use muster_protocol::frame::InventoryState;
use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::domain::commands::job_state::{JobState, Stop};
use muster_server::domain::ids::{CommandId, JobId, PrincipalId, TenantId};
use muster_server::domain::time::Timestamp;
use muster_server::store::entities::commands::rollout;
use muster_server::store::queries::{LiveRollout, RolloutAction, RolloutActionResult, WaveCounts};
use muster_server::store::writer::{
    AdvanceRollout, Listed, MarkDelivered, NewExecution, OpenedSession, Reconcile, RolloutChange,
    SubmitJob,
};

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    a_held_execution_is_neither_sent_nor_expired_before_its_hold_is_lifted,
    a_step_is_applied_once_and_only_while_the_rollout_runs,
    offline_agents_are_skipped_or_postponed_when_their_wave_starts,
    a_pause_holds_queued_executions_and_a_resume_ignores_earlier_failures,
    an_abort_ends_queued_executions_and_a_cancel_ends_all,
    an_execution_that_an_agent_returns_is_held_again,
    an_execution_that_an_agent_has_is_not_held,
    old_rollouts_are_deleted_with_their_jobs,
    executions_that_fail_while_they_are_counted_are_not_missed,
);

impl Fixture {
    /// A job whose executions are held in waves: one for each session and wave.
    async fn rollout(&self, waves: &[(&OpenedSession, i32)]) -> (JobId, Vec<CommandId>) {
        let id = JobId::new();
        let executions = waves.iter().map(|(session, wave)| {
            let mut row = self.submission(session.agent_id).row;
            (row.job_id, row.wave, row.is_held) = (Some(id), Some(*wave), true);
            row.expires_at = Timestamp::NEVER;
            NewExecution { row, deliver_in_epoch: None }
        });
        let executions: Vec<_> = executions.collect();
        let commands = executions.iter().map(|execution| execution.row.id).collect();
        let row = self.job_row(id);
        let wave_count = waves.iter().map(|(_, wave)| *wave).max().unwrap_or(0);
        let mut rollout = Self::rollout_row(id, self.tenant_id);
        (rollout.wave_count, rollout.offline_wave) = (wave_count, Some(wave_count + 1));
        let audit = audit(self.tenant_id);
        let rollout = Some(rollout);
        let (idempotency, fire, approval) = (None, None, None);
        let submission = SubmitJob { row, rollout, executions, idempotency, fire, audit, approval };
        self.store.writer().commit(submission).await.expect("submit");
        (id, commands)
    }

    async fn step(&self, job_id: JobId, wave: i32, change: RolloutChange) -> bool {
        let operation =
            AdvanceRollout { tenant_id: self.tenant_id, job_id, wave, change, now: NOW };
        self.store.writer().commit(operation).await.expect("take a step")
    }

    async fn lift_holds(&self, job_id: JobId, wave: i32, ids: &[CommandId]) -> bool {
        let expires_at = NOW.plus_ms(5_000);
        let change = RolloutChange::LiftHolds { command_ids: ids.to_vec(), expires_at };
        self.step(job_id, wave, change).await
    }

    /// The row of a rollout with one wave.
    pub fn rollout_row(job_id: JobId, tenant_id: TenantId) -> rollout::Model {
        rollout::Model {
            job_id,
            tenant_id,
            spec: "{\"wave_size\":1}".into(),
            expires_in_ms: 60_000,
            wave: 1,
            wave_count: 1,
            offline_wave: None,
            wave_ended_at: None,
            resumed_at: None,
            gate_waived_wave: None,
            ignored_failures: 0,
            halt_reason: None,
        }
    }

    pub async fn act(&self, id: JobId, steering: RolloutAction) -> RolloutActionResult {
        let tenant = self.store.tenant(self.tenant_id);
        let audit = audit(self.tenant_id);
        tenant
            .apply_rollout_action(id, steering, PrincipalId::new(), NOW, audit)
            .await
            .expect("act")
    }

    async fn mark(&self, session: &OpenedSession, id: CommandId) -> Vec<CommandId> {
        let (agent_id, epoch) = (session.agent_id, session.epoch);
        let operation = MarkDelivered { agent_id, epoch, command_ids: vec![id], now: NOW };
        self.store.writer().commit(operation).await.expect("mark")
    }

    async fn live(&self, id: JobId) -> LiveRollout {
        let mut live = self.store.system().live_rollouts(&[id]).await.expect("read");
        live.pop().expect("not finished")
    }

    async fn counts(&self, id: JobId, wave: i32) -> WaveCounts {
        self.store.system().wave_counts(id, wave).await.expect("count")
    }
}

async fn a_held_execution_is_neither_sent_nor_expired_before_its_hold_is_lifted(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1), (&one, 2)]).await;
    let (first, second) = (commands[0], commands[1]);
    let system = fixture.store.system();
    let deliverable = async || system.deliverable(&[one.agent_id], NOW, 9, 9).await.expect("read");
    assert!(deliverable().await.is_empty());
    assert!(fixture.mark(&one, first).await.is_empty());
    assert!(system.expire_queued(NOW.plus_ms(1_000_000_000)).await.expect("sweep").is_empty());
    let held = WaveCounts { held: 1, ..WaveCounts::default() };
    assert_eq!(fixture.counts(job, 1).await, held);
    let held = system.held_executions(job, 1, 9).await.expect("read");
    assert_eq!(held.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(), [(first, one.agent_id)]);
    assert!(fixture.lift_holds(job, 1, &[first]).await);
    let ids: Vec<_> = deliverable().await.iter().map(|row| row.id).collect();
    assert_eq!(ids, [first]);
    let begun = WaveCounts { in_flight: 1, has_started: true, ..WaveCounts::default() };
    assert_eq!(fixture.counts(job, 1).await, begun);
    let expired = system.expire_queued(NOW.plus_ms(5_000)).await.expect("sweep");
    assert_eq!(expired, [(first, one.agent_id)]);
    let failed = WaveCounts { failures: 1, has_started: true, ..WaveCounts::default() };
    assert_eq!(fixture.counts(job, 1).await, failed);
    assert_eq!(fixture.state(second).await, CommandState::Queued);
}

async fn a_step_is_applied_once_and_only_while_the_rollout_runs(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1), (&one, 2)]).await;
    let next = || RolloutChange::NextWave { skipped: vec![], postponed: vec![] };
    assert!(fixture.step(job, 1, RolloutChange::EndWave).await);
    assert_eq!(fixture.live(job).await.row.wave_ended_at, Some(NOW));
    assert!(fixture.step(job, 1, next()).await);
    assert!(!fixture.step(job, 1, next()).await, "another took it before");
    let row = fixture.live(job).await.row;
    assert_eq!((row.wave, row.wave_ended_at), (2, None));
    assert_eq!(
        fixture.act(job, RolloutAction::Pause).await,
        RolloutActionResult::Done { ended: vec![] }
    );
    assert!(!fixture.lift_holds(job, 2, &commands).await, "it is paused");
    assert!(fixture.mark(&one, commands[1]).await.is_empty());
    fixture.act(job, RolloutAction::Resume).await;
    let reason = "too much failed".to_owned();
    let halt =
        RolloutChange::Halt { reason: reason.clone(), audit: Box::new(audit(fixture.tenant_id)) };
    assert!(fixture.step(job, 2, halt).await);
    let live = fixture.live(job).await;
    assert_eq!((live.state, live.row.halt_reason), (JobState::Halted, Some(reason)));
    assert!(!fixture.lift_holds(job, 2, &commands).await, "it has halted");
}

async fn offline_agents_are_skipped_or_postponed_when_their_wave_starts(fixture: Fixture) {
    let (one, two, three) =
        (fixture.agent("one").await, fixture.agent("two").await, fixture.agent("three").await);
    let (job, commands) = fixture.rollout(&[(&one, 1), (&two, 2), (&three, 2)]).await;
    let change =
        RolloutChange::NextWave { skipped: vec![commands[1]], postponed: vec![commands[2]] };
    assert!(fixture.step(job, 1, change).await);
    let skipped = fixture.command(commands[1]).await.command;
    assert_eq!(
        (skipped.state, skipped.end_reason),
        (CommandState::Skipped, Some(EndReason::SkippedOffline))
    );
    let moved = fixture.command(commands[2]).await.command;
    assert_eq!((moved.wave, moved.is_held), (Some(3), true));
    assert_eq!(fixture.live(job).await.row.wave_count, 3);
    // Who was left out has not failed, and nothing of the wave has begun.
    let counts = fixture.counts(job, 2).await;
    assert_eq!((counts.failures, counts.has_started, counts.held), (0, false, 1));
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let shown = tenant.rollouts(&[job]).await.expect("read").remove(&job).expect("there");
    assert_eq!((shown.counts.skipped, shown.counts.held), (1, 2));
}

async fn a_pause_holds_queued_executions_and_a_resume_ignores_earlier_failures(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1), (&one, 1)]).await;
    fixture.lift_holds(job, 1, &commands).await;
    fixture.act(job, RolloutAction::Pause).await;
    let paused = fixture.command(commands[0]).await.command;
    assert_eq!((paused.is_held, paused.expires_at), (true, Timestamp::NEVER));
    assert!(fixture.mark(&one, commands[0]).await.is_empty());
    fixture.act(job, RolloutAction::Resume).await;
    fixture.lift_holds(job, 1, &commands).await;
    fixture.mark(&one, commands[0]).await;
    let failed = muster_protocol::frame::Outcome::Failed;
    fixture.settle(&one, commands[0], failed).await;
    let halt =
        RolloutChange::Halt { reason: "x".into(), audit: Box::new(audit(fixture.tenant_id)) };
    assert!(fixture.step(job, 1, halt).await);
    assert!(fixture.command(commands[1]).await.command.is_held);
    fixture.act(job, RolloutAction::Resume).await;
    let live = fixture.live(job).await;
    assert_eq!((live.state, live.row.ignored_failures), (JobState::Running, 1));
    assert_eq!((live.row.halt_reason, live.row.gate_waived_wave), (None, None));
}

async fn an_abort_ends_queued_executions_and_a_cancel_ends_all(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1), (&one, 2)]).await;
    fixture.lift_holds(job, 1, &commands[..1]).await;
    fixture.mark(&one, commands[0]).await;
    let aborted = fixture.act(job, RolloutAction::Abort).await;
    assert_eq!(aborted, RolloutActionResult::Done { ended: vec![commands[1]] });
    assert_eq!(
        fixture.act(job, RolloutAction::Abort).await,
        RolloutActionResult::Done { ended: vec![] }
    );
    let refused =
        RolloutActionResult::Refused { state: JobState::Running, stop: Some(Stop::Aborted) };
    assert_eq!(fixture.act(job, RolloutAction::Resume).await, refused);
    assert_eq!(fixture.state(commands[0]).await, CommandState::Delivered);
    assert!(!fixture.lift_holds(job, 1, &commands).await);
    let (other, held) = fixture.rollout(&[(&one, 1), (&one, 2)]).await;
    fixture.act(other, RolloutAction::Pause).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let audit = audit(fixture.tenant_id);
    let cancelled = tenant.cancel_job(other, NOW, audit).await.expect("cancel").expect("there");
    assert_eq!(cancelled.ended.len(), held.len());
    let ended = fixture.store.system().ended_jobs(&[other]).await.expect("read");
    assert_eq!(JobState::of_ended(ended[0].stop, ended[0].ends.clone()), JobState::Cancelled);
}

async fn an_execution_that_an_agent_returns_is_held_again(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1)]).await;
    let alone = fixture.delivered(&one).await;
    fixture.lift_holds(job, 1, &commands).await;
    fixture.mark(&one, commands[0]).await;
    let (agent_id, epoch) = (one.agent_id, one.epoch);
    let inventory = Reconcile { agent_id, epoch, listed: vec![], now: NOW };
    fixture.store.writer().commit(inventory).await.expect("reconcile");
    let back = fixture.command(commands[0]).await.command;
    assert_eq!((back.state, back.is_held), (CommandState::Queued, true));
    let alone = fixture.command(alone).await.command;
    assert_eq!((alone.state, alone.is_held), (CommandState::Queued, false));
    // Of a job that was aborted meanwhile it ends.
    fixture.act(job, RolloutAction::Abort).await;
    assert_eq!(fixture.state(commands[0]).await, CommandState::Cancelled);
    let left = fixture.store.system().end_aborted(job, NOW).await.expect("end");
    assert!(left.is_empty());
}

/// A server that was restored from a backup still holds what an agent has by now.
async fn an_execution_that_an_agent_has_is_not_held(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    let (job, commands) = fixture.rollout(&[(&one, 1), (&two, 1)]).await;
    for (session, command_id, state) in [
        (&one, commands[0], InventoryState::Accepted),
        (&two, commands[1], InventoryState::Running),
    ] {
        let (agent_id, epoch) = (session.agent_id, session.epoch);
        let listed = vec![Listed { command_id, state }];
        let inventory = Reconcile { agent_id, epoch, listed, now: NOW };
        fixture.store.writer().commit(inventory).await.expect("reconcile");
        assert!(!fixture.command(command_id).await.command.is_held);
    }
    let has = WaveCounts { in_flight: 2, has_started: true, ..WaveCounts::default() };
    assert_eq!(fixture.counts(job, 1).await, has);
    let system = fixture.store.system();
    assert!(system.held_executions(job, 1, 9).await.expect("read").is_empty());
}

async fn old_rollouts_are_deleted_with_their_jobs(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (job, _) = fixture.rollout(&[(&one, 1)]).await;
    fixture.act(job, RolloutAction::Abort).await;
    let ended = fixture.ended(job).await.expect("over");
    assert!(fixture.finish(&ended, JobState::Aborted).await);
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let retention = muster_server::store::queries::Retention {
        telemetry_before: later,
        idempotency_before: later,
        history_before: later,
        deliveries_before: later,
    };
    while fixture.store.system().drop_old(retention).await.expect("sweep") {}
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.job(job).await.expect("read").is_none());
    assert!(tenant.rollouts(&[job]).await.expect("read").is_empty());
}

async fn executions_that_fail_while_they_are_counted_are_not_missed(fixture: Fixture) {
    const EXECUTIONS: u64 = 40;
    let one = fixture.agent("one").await;
    let (job, commands) = fixture.rollout(&[(&one, 1); 40]).await;
    for (number, id) in (1..).zip(&commands) {
        let expires_at = NOW.plus_ms(number);
        let change = RolloutChange::LiftHolds { command_ids: vec![*id], expires_at };
        assert!(fixture.step(job, 1, change).await);
    }
    let system = fixture.store.system();
    let fail_one_by_one = async {
        for number in 1..=EXECUTIONS {
            let expired = system.expire_queued(NOW.plus_ms(number)).await.expect("sweep");
            assert_eq!(expired.len(), 1);
        }
    };
    let count_meanwhile = async {
        loop {
            let counts = fixture.counts(job, 1).await;
            assert!(
                counts.failures + counts.in_flight >= EXECUTIONS,
                "some were missed: {counts:?}"
            );
            if counts.failures == EXECUTIONS {
                break;
            }
        }
    };
    tokio::join!(fail_one_by_one, count_meanwhile);
}
