//! An execution that fails is run again exactly once for each retry of its job, and the job counts agents.

use muster_protocol::frame::{Outcome, Receipt};
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::commands::retries::StoredRetries;
use muster_server::domain::ids::{CommandId, JobId};
use muster_server::domain::time::Timestamp;
use muster_server::store::queries::{RolloutAction, WaitingAttempt};
use muster_server::store::writer::{MarkDelivered, OpenedSession, SubmitJob};
use serde_json::json;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    failed_execution_is_run_again_until_its_retries_are_used_up,
    attempt_is_not_sent_before_its_time,
    repeated_report_makes_no_second_attempt,
    only_known_bad_ends_are_run_again,
    what_a_person_cancelled_or_signed_is_not_run_again,
    attempt_of_a_paused_rollout_is_held,
);

const PAUSE_MS: u64 = 1_000;

impl Fixture {
    /// A job for one agent whose execution was sent, and which retries it twice.
    async fn retrying_job(
        &self,
        session: &OpenedSession,
        change: impl FnOnce(&mut SubmitJob),
    ) -> (JobId, CommandId) {
        let (id, mut submission) = self.job_submission(&[session]);
        let retries = StoredRetries { count: 2, backoff_ms: PAUSE_MS, expires_in_ms: 60_000 };
        submission.row.retries = Some(json!(retries).to_string());
        change(&mut submission);
        let command = submission.executions[0].row.id;
        self.store.writer().commit(submission).await.expect("submit");
        (id, command)
    }

    async fn waiting_attempts(&self, job: JobId) -> Vec<WaitingAttempt> {
        self.store.system().waiting_attempts(&[job]).await.expect("read")
    }

    /// Marks a command as delivered at an instant; false if it may not be sent then.
    pub async fn is_sent(&self, session: &OpenedSession, id: CommandId, now: Timestamp) -> bool {
        let (agent_id, epoch) = (session.agent_id, session.epoch);
        let operation = MarkDelivered { agent_id, epoch, command_ids: vec![id], now };
        self.store.writer().commit(operation).await.expect("mark") == [id]
    }

    pub async fn deliverable(&self, session: &OpenedSession, now: Timestamp) -> Vec<CommandId> {
        let agents = [session.agent_id];
        let rows = self.store.system().deliverable(&agents, now, 9, 9).await.expect("read");
        rows.into_iter().map(|row| row.id).collect()
    }
}

async fn failed_execution_is_run_again_until_its_retries_are_used_up(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let by_request = |submission: &mut SubmitJob| {
        let row = &mut submission.executions[0].row;
        (row.request_id, row.has_secrets) = (Some("request-1".into()), true);
    };
    let (job, first) = fixture.retrying_job(&session, by_request).await;
    let mut attempt = first;
    for number in 2..=3 {
        let settled = fixture.settle(&session, attempt, Outcome::Failed).await;
        assert_eq!(settled.job_id, Some(job));
        let next = settled.next_attempt.expect("another attempt");
        assert_eq!(fixture.ended(job).await, None, "attempt {number} is open");
        let before = fixture.command(attempt).await.command;
        assert_eq!((before.state, before.retried_as), (CommandState::Failed, Some(next)));
        assert_eq!(before.job_id, Some(job));
        // Its secrets are sealed like those of the first one, which the fixture checks.
        let row = fixture.command(next).await.command;
        assert_eq!((row.state, row.attempt), (CommandState::Queued, number));
        assert_eq!((row.retry_of, row.job_id), (Some(attempt), Some(job)));
        assert_eq!((row.request_id.as_deref(), row.has_secrets), (Some("request-1"), true));
        let due = row.not_before.expect("a time");
        assert!(fixture.is_sent(&session, next, due).await);
        attempt = next;
    }
    let last = fixture.settle(&session, attempt, Outcome::TimedOut).await;
    assert_eq!(last.next_attempt, None);
    let ended = fixture.ended(job).await.expect("over");
    assert_eq!(ended.ends, [CommandState::TimedOut], "the last attempt counts");
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let progress = tenant.job_progress(&[job]).await.expect("read").remove(&job);
    assert_eq!(progress.expect("counted").counts, [(CommandState::TimedOut, 1)].into());
}

async fn attempt_is_not_sent_before_its_time(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (job_id, first) = fixture.retrying_job(&session, |_| {}).await;
    let next = fixture.settle(&session, first, Outcome::Failed).await.next_attempt.expect("one");
    let not_before = NOW.plus_ms(PAUSE_MS);
    let waiting = WaitingAttempt { job_id, agent_id: session.agent_id, not_before };
    assert_eq!(fixture.waiting_attempts(job_id).await, [waiting]);
    let early = not_before.minus_ms(1);
    assert!(fixture.deliverable(&session, early).await.is_empty());
    assert!(!fixture.is_sent(&session, next, early).await);
    assert_eq!(fixture.deliverable(&session, not_before).await, [next]);
    assert!(fixture.is_sent(&session, next, not_before).await);
    assert!(fixture.waiting_attempts(job_id).await.is_empty());
}

async fn repeated_report_makes_no_second_attempt(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (job, first) = fixture.retrying_job(&session, |_| {}).await;
    let next = fixture.settle(&session, first, Outcome::Failed).await.next_attempt;
    assert!(next.is_some());
    let again = fixture.settle(&session, first, Outcome::Failed).await;
    assert_eq!((again.receipt, again.next_attempt), (Receipt::Recorded, None));
    assert_eq!(fixture.waiting_attempts(job).await.len(), 1);
}

async fn only_known_bad_ends_are_run_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let ends = [
        (Outcome::Succeeded, false),
        (Outcome::Failed, true),
        (Outcome::TimedOut, true),
        (Outcome::Cancelled, false),
        (Outcome::Expired, false),
        (Outcome::Rejected, false),
        (Outcome::Lost, false),
    ];
    for (outcome, is_run_again) in ends {
        let (job, first) = fixture.retrying_job(&session, |_| {}).await;
        let settled = fixture.settle(&session, first, outcome).await;
        assert_eq!(settled.next_attempt.is_some(), is_run_again, "{outcome:?}");
        assert_eq!(fixture.ended(job).await.is_none(), is_run_again, "{outcome:?}");
    }
}

async fn what_a_person_cancelled_or_signed_is_not_run_again(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (job, first) = fixture.retrying_job(&session, |_| {}).await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let entry = audit(fixture.tenant_id);
    tenant.cancel_job(job, NOW, entry).await.expect("cancel").expect("the job");
    let settled = fixture.settle(&session, first, Outcome::Failed).await;
    assert_eq!(settled.next_attempt, None, "cancelled");
    let (job, first) = fixture.retrying_job(&session, |_| {}).await;
    let next = fixture.settle(&session, first, Outcome::Failed).await.next_attempt.expect("one");
    let entry = audit(fixture.tenant_id);
    let cancelled = tenant.cancel_job(job, NOW, entry).await.expect("cancel").expect("the job");
    assert_eq!(cancelled.ended, [next], "it waits no longer");
    let ends = fixture.ended(job).await.expect("over").ends;
    assert_eq!(ends, [CommandState::Cancelled]);
    let signed = |submission: &mut SubmitJob| {
        submission.executions[0].row.capsule = Some("{}".into());
    };
    let (_, first) = fixture.retrying_job(&session, signed).await;
    let settled = fixture.settle(&session, first, Outcome::Failed).await;
    assert_eq!(settled.next_attempt, None, "signed for one start");
    let (_, first) = fixture.retrying_job(&session, |_| {}).await;
    tenant.cancel_command(first, NOW, audit(fixture.tenant_id)).await.expect("cancel");
    let settled = fixture.settle(&session, first, Outcome::Failed).await;
    assert_eq!(settled.next_attempt, None, "the execution alone was cancelled");
    let (job, first) = fixture.retrying_job(&session, in_wave).await;
    fixture.act(job, RolloutAction::Abort).await;
    let settled = fixture.settle(&session, first, Outcome::Failed).await;
    assert_eq!(settled.next_attempt, None, "aborted");
}

/// Makes a job a rollout of one wave.
fn in_wave(submission: &mut SubmitJob) {
    submission.rollout = Some(Fixture::rollout_row(submission.row.id, submission.row.tenant_id));
    submission.executions[0].row.wave = Some(1);
}

async fn attempt_of_a_paused_rollout_is_held(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (job, first) = fixture.retrying_job(&session, in_wave).await;
    fixture.act(job, RolloutAction::Pause).await;
    let next = fixture.settle(&session, first, Outcome::Failed).await.next_attempt.expect("one");
    let row = fixture.command(next).await.command;
    assert!(row.is_held);
    assert_eq!((row.wave, row.expires_at), (Some(1), Timestamp::NEVER));
    let later = NOW.plus_ms(PAUSE_MS);
    assert!(fixture.deliverable(&session, later).await.is_empty());
    assert!(fixture.waiting_attempts(job).await.is_empty());
    let held = fixture.store.system().held_executions(job, 1, 9).await.expect("read");
    assert_eq!(held.iter().map(|held| held.0).collect::<Vec<_>>(), [next]);
    let row = fixture.store.tenant(fixture.tenant_id).job(job).await.expect("read");
    assert_eq!(row.expect("the job").state, JobState::Paused);
}
