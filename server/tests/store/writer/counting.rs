//! Each change is counted once, and only if it was committed.

use bytes::Bytes;
use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::{CommandState, EndReason};
use muster_server::domain::ids::{AgentId, CommandId, JobId};
use muster_server::metrics::{MetricSet, MetricsFormat, Registry};
use muster_server::store::StoreError;
use muster_server::store::entities::access::audit_entry;
use muster_server::store::queries::Deletion;
use muster_server::store::writer::{AppendAudit, AppendOutput, NewExecution, SubmitJob};

use crate::fixture::{Fixture, NOW, audit, settle};
use crate::on_both_databases;

on_both_databases!(
    writes_retried_after_a_failed_batch_count_once,
    what_a_change_ends_counts_once_though_its_batch_failed,
    executions_that_end_before_they_start_are_counted,
    what_does_not_stand_does_not_count,
);

impl Fixture {
    /// A counter as it is written out.
    fn count(&self, name: &str) -> u64 {
        let parts =
            MetricSet { writer: self.store.writer().metrics().clone(), ..MetricSet::default() };
        let text = Registry::new(&parts).text(MetricsFormat::OpenMetrics).expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    fn ended_in(&self, state: CommandState) -> u64 {
        self.count(&format!("muster_commands_ended_total{{state=\"{}\"}}", state.as_str()))
    }

    /// An entry that is there already: a write at the end of a batch, which fails with it.
    async fn taken_entry(&self) -> audit_entry::Model {
        let entry = audit(self.tenant_id);
        self.store.writer().commit(AppendAudit(entry.clone())).await.expect("audit");
        entry
    }

    /// Puts the write and a failing one into one transaction, which is tried again one
    /// by one.
    async fn beside_a_failure<T>(&self, write: impl Future<Output = T>) -> T {
        let before = self.count("muster_writer_failed_commits_total");
        let bad = self.taken_entry().await;
        // Both are queued before the writer runs.
        let (written, failed) = tokio::join!(write, self.store.writer().commit(AppendAudit(bad)));
        assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
        assert_eq!(self.count("muster_writer_failed_commits_total"), before + 1);
        written
    }

    async fn queued(&self, agent: AgentId) -> CommandId {
        let submission = self.submission(agent);
        let id = submission.row.id;
        self.store.writer().commit(submission).await.expect("submit");
        id
    }
}

async fn writes_retried_after_a_failed_batch_count_once(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (done, printing) = (fixture.delivered(&session).await, fixture.delivered(&session).await);
    let writer = fixture.store.writer();
    let settlement = writer.commit(settle(&session, done, Outcome::Succeeded));
    let output = AppendOutput {
        max_log_bytes: None,
        agent_id: session.agent_id,
        epoch: session.epoch,
        command_id: printing,
        offset_bytes: 0,
        length_bytes: 1,
        stdout_offset_bytes: 0,
        stdout_bytes: 1,
        records: Bytes::from_static(b"\x01\0\0\0\x01x"),
        received_at: muster_server::domain::time::Timestamp(1),
    };
    fixture.beside_a_failure(settlement).await.expect("settle");
    fixture.beside_a_failure(writer.commit(output)).await.expect("append");
    assert_eq!(fixture.ended_in(CommandState::Succeeded), 1);
    assert_eq!(fixture.count("muster_output_stored_bytes_total"), 1);
}

async fn what_a_change_ends_counts_once_though_its_batch_failed(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let agent = session.agent_id;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let cancelled = fixture.queued(agent).await;
    let cancel = || tenant.cancel_command(cancelled, NOW, audit(fixture.tenant_id));
    fixture.beside_a_failure(cancel()).await.expect("cancel");
    cancel().await.expect("once more");
    assert_eq!(fixture.ended_in(CommandState::Cancelled), 1, "a repetition ends nothing");
    let refused = fixture.queued(agent).await;
    let system = fixture.store.system();
    let refusal = system.refuse_queued(vec![(refused, agent)], EndReason::AgentDeleted, NOW);
    fixture.beside_a_failure(refusal).await.expect("refuse");
    assert_eq!(fixture.ended_in(CommandState::Rejected), 1);
    fixture.queued(agent).await;
    fixture.delivered(&session).await;
    let deletion = tenant.delete_agent(agent, Deletion::Operator, NOW, audit(fixture.tenant_id));
    fixture.beside_a_failure(deletion).await.expect("delete").expect("there was one");
    assert_eq!(fixture.ended_in(CommandState::Cancelled), 2);
    assert_eq!(fixture.ended_in(CommandState::Lost), 1);
}

async fn executions_that_end_before_they_start_are_counted(fixture: Fixture) {
    let agent = fixture.agent("host").await.agent_id;
    let id = JobId::new();
    let states = [
        CommandState::Rejected,
        CommandState::Cancelled,
        CommandState::Cancelled,
        CommandState::Queued,
    ];
    let executions = states.into_iter().map(|state| {
        let mut row = fixture.submission(agent).row;
        (row.job_id, row.state) = (Some(id), state);
        NewExecution { row, deliver_in_epoch: None }
    });
    let row = fixture.job_row(id);
    let submission = SubmitJob {
        row,
        rollout: None,
        executions: executions.collect(),
        idempotency: None,
        fire: None,
        audit: audit(fixture.tenant_id),
        approval: None,
    };
    let writer = fixture.store.writer();
    fixture.beside_a_failure(writer.commit(submission)).await.expect("submit");
    assert_eq!(fixture.ended_in(CommandState::Rejected), 1);
    assert_eq!(fixture.ended_in(CommandState::Cancelled), 2);
    assert_eq!(fixture.ended_in(CommandState::Queued), 0, "it has not ended");
    let tenant = fixture.store.tenant(fixture.tenant_id);
    let cancel = tenant.cancel_job(id, NOW, audit(fixture.tenant_id));
    cancel.await.expect("cancel").expect("there is one");
    assert_eq!(fixture.ended_in(CommandState::Cancelled), 3);
}

async fn what_does_not_stand_does_not_count(fixture: Fixture) {
    let session = fixture.agent("host").await;
    let (held, other) = (fixture.queued(session.agent_id).await, fixture.delivered(&session).await);
    let taken = fixture.taken_entry().await;
    let tenant = fixture.store.tenant(fixture.tenant_id);
    tenant.cancel_command(held, NOW, taken).await.expect_err("its entry can't be written");
    assert_eq!(fixture.state(held).await, CommandState::Queued);
    // What comes next has nothing of it.
    fixture.settle(&session, other, Outcome::Succeeded).await;
    assert_eq!(fixture.ended_in(CommandState::Cancelled), 0);
    assert_eq!(fixture.ended_in(CommandState::Succeeded), 1);
}
