//! Jobs end once, when the last of their executions has.

use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::CommandState;
use muster_server::domain::commands::job_state::JobState;
use muster_server::domain::ids::{CommandId, JobId};
use muster_server::store::queries::{EndedJob, Retention};
use muster_server::store::writer::{FinishJob, NewExecution, OpenedSession, SubmitJob};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::fleet::sessions::opened;
use crate::on_both_databases;

on_both_databases!(
    a_job_has_ended_when_its_last_execution_has,
    a_job_is_finished_once,
    a_job_of_agents_that_are_gone_ends_when_it_was_made,
    unfinished_jobs_are_found_page_by_page,
    the_jobs_of_changed_commands_are_found,
    commands_that_a_new_ledger_loses_are_named,
    what_has_ended_of_an_open_job_is_kept_however_old_it_is,
);

impl Fixture {
    /// A job whose executions were sent to these agents; its id and theirs.
    async fn job(&self, sessions: &[&OpenedSession]) -> (JobId, Vec<CommandId>) {
        let (id, submission) = self.job_submission(sessions);
        let commands = submission.executions.iter().map(|execution| execution.row.id).collect();
        self.store.writer().commit(submission).await.expect("submit");
        (id, commands)
    }

    /// A job for these agents that is not stored yet, and its id.
    pub fn job_submission(&self, sessions: &[&OpenedSession]) -> (JobId, SubmitJob) {
        let id = JobId::new();
        let executions = sessions.iter().map(|session| {
            let mut row = self.submission(session.agent_id).row;
            row.job_id = Some(id);
            NewExecution { row, deliver_in_epoch: Some(session.epoch) }
        });
        let executions = executions.collect();
        let row = self.job_row(id);
        let audit = audit(self.tenant_id);
        let (idempotency, fire, approval) = (None, None, None);
        (id, SubmitJob { row, rollout: None, executions, idempotency, fire, audit, approval })
    }

    pub async fn ended(&self, id: JobId) -> Option<EndedJob> {
        self.store.system().ended_jobs(&[id]).await.expect("read").pop()
    }

    pub async fn finish(&self, ended: &EndedJob, state: JobState) -> bool {
        let operation = FinishJob {
            tenant_id: ended.tenant_id,
            job_id: ended.id,
            state,
            finished_at: ended.finished_at,
        };
        self.store.writer().commit(operation).await.expect("finish")
    }
}

async fn a_job_has_ended_when_its_last_execution_has(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    let (id, commands) = fixture.job(&[&one, &two]).await;
    assert_eq!(fixture.ended(id).await, None);
    fixture.settle(&one, commands[0], Outcome::Succeeded).await;
    assert_eq!(fixture.ended(id).await, None);
    fixture.settle(&two, commands[1], Outcome::Failed).await;
    let ended = fixture.ended(id).await.expect("over");
    assert_eq!(ended.finished_at, NOW);
    assert_eq!(JobState::of_ended(None, ended.ends), JobState::Failed);
}

async fn a_job_is_finished_once(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (id, commands) = fixture.job(&[&one]).await;
    fixture.settle(&one, commands[0], Outcome::Succeeded).await;
    let ended = fixture.ended(id).await.expect("over");
    assert!(fixture.finish(&ended, JobState::Succeeded).await);
    assert!(!fixture.finish(&ended, JobState::Failed).await);
    let row = fixture.store.tenant(fixture.tenant_id).job(id).await.expect("read").expect("there");
    assert_eq!((row.state, row.finished_at), (JobState::Succeeded, Some(NOW)));
    assert_eq!(fixture.ended(id).await, None);
    assert!(fixture.store.system().unfinished_jobs(None, 10).await.expect("read").is_empty());
}

async fn what_has_ended_of_an_open_job_is_kept_however_old_it_is(fixture: Fixture) {
    let (one, two) = (fixture.agent("one").await, fixture.agent("two").await);
    let (id, commands) = fixture.job(&[&one, &two]).await;
    fixture.settle(&one, commands[0], Outcome::Failed).await;
    let later = NOW.plus_ms(100 * 365 * 24 * 3_600_000);
    let retention = Retention {
        telemetry_before: later,
        idempotency_before: later,
        history_before: later,
        deliveries_before: later,
    };
    while fixture.store.system().drop_old(retention).await.expect("sweep") {}
    fixture.settle(&two, commands[1], Outcome::Succeeded).await;
    let ended = fixture.ended(id).await.expect("over");
    let state = JobState::of_ended(None, ended.ends.clone());
    assert_eq!(state, JobState::Failed, "a failure was forgotten");
    assert!(fixture.finish(&ended, state).await);
    while fixture.store.system().drop_old(retention).await.expect("sweep") {}
    let tenant = fixture.store.tenant(fixture.tenant_id);
    assert!(tenant.job(id).await.expect("read").is_none());
    assert!(tenant.command(commands[0]).await.expect("read").is_none());
}

async fn a_job_of_agents_that_are_gone_ends_when_it_was_made(fixture: Fixture) {
    let (id, _) = fixture.job(&[]).await;
    let ended = fixture.ended(id).await.expect("over");
    assert_eq!((ended.finished_at, ended.ends), (NOW, vec![]));
}

async fn unfinished_jobs_are_found_page_by_page(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(fixture.job(&[&one]).await.0);
    }
    let system = fixture.store.system();
    assert_eq!(system.unfinished_jobs(None, 2).await.expect("read"), ids[..2]);
    assert_eq!(system.unfinished_jobs(Some(ids[1]), 2).await.expect("read"), ids[2..]);
}

async fn the_jobs_of_changed_commands_are_found(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let (id, commands) = fixture.job(&[&one, &one]).await;
    let alone = fixture.delivered(&one).await;
    let system = fixture.store.system();
    let ids = [commands[0], commands[1], alone];
    assert_eq!(system.jobs_of(&ids).await.expect("read"), [id]);
    let mut changed = system.changed_commands(&ids).await.expect("read");
    changed.sort_by_key(|row| row.job_id.is_none());
    let states: Vec<_> = changed.iter().map(|row| (row.job_id, row.state)).collect();
    let sent = CommandState::Delivered;
    assert_eq!(states, [(Some(id), sent), (Some(id), sent), (None, sent)]);
}

async fn commands_that_a_new_ledger_loses_are_named(fixture: Fixture) {
    let one = fixture.agent("one").await;
    let id = fixture.delivered(&one).await;
    let mut again = fixture.registration("one");
    if let muster_server::store::writer::AgentIdentity::Full { agent_id, ledger_id, .. } =
        &mut again.identity
    {
        (*agent_id, *ledger_id) = (Some(one.agent_id), Uuid::from_u128(2));
    }
    let again = opened(fixture.open(again).await);
    assert_eq!((again.agent_id, again.lost), (one.agent_id, vec![id]));
    assert_eq!(fixture.state(id).await, CommandState::Lost);
}
