//! The writer's loop: drain the queue, merge operations, commit, answer the callers.

use std::time::{Duration, Instant};

use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::mpsc;

use super::access::audit_chain::{AuditShared, seal};
use super::connection::{Connection, WriteTx, is_locked, is_read_only, is_unreachable};
use super::integrations::{OutboxShared, store_events};
use super::{
    AdvanceRollout, AppendAudit, AppendOutput, BatchOperation, Change, CloseSession, FinishJob,
    IndexHistory, MAX_BATCH, MarkDelivered, OpenSession, Reconcile, RecordAssignmentStates,
    RecordFacts, RecordHeartbeat, RecordManifest, RecordProgress, RecordTaskRuns, Reply, Settle,
    SubmitCommand, SubmitJob,
};
use crate::metrics::WriterMetrics;
use crate::store::StoreError;
use crate::store::blobs::Blobs;

/// How long a transaction may take before the database counts as unreachable.
const COMMIT_WAIT: Duration = Duration::from_secs(60);
/// How often a batch waits for the lock of SQLite, which checkpoints may hold. Each wait lasts as
/// long as the timeout of the connection.
const LOCK_ATTEMPTS: usize = 4;

/// Operations of one kind, with the channels to their callers.
struct Group<Op: BatchOperation> {
    operations: Vec<Op>,
    replies: Vec<Reply<Op::Done>>,
}

impl<Op: BatchOperation> Default for Group<Op> {
    fn default() -> Self {
        Self { operations: Vec::new(), replies: Vec::new() }
    }
}

impl<Op: BatchOperation> Group<Op> {
    fn push(&mut self, operation: Op, reply: Reply<Op::Done>) {
        self.operations.push(operation);
        self.replies.push(reply);
    }

    fn answer(self, results: Vec<Result<Op::Done, StoreError>>) {
        // Fails if the caller has stopped waiting; its operation is committed all the same.
        for (reply, result) in self.replies.into_iter().zip(results) {
            let _ = reply.send(result);
        }
    }

    fn fail(self, error: &StoreError, connection: &Connection) {
        for (operation, reply) in self.operations.into_iter().zip(self.replies) {
            connection.fail_session(operation.session());
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// Commits each operation in a transaction of its own. `unreachable`: the error that showed that
    /// the database is unreachable; later operations fail with it at once.
    async fn commit_one_by_one(
        self,
        connection: &mut Connection,
        unreachable: &mut Option<StoreError>,
    ) {
        for (operation, reply) in self.operations.into_iter().zip(self.replies) {
            let result = match unreachable {
                Some(error) => Err(error.clone()),
                None => commit_alone(connection, &operation).await,
            };
            if let Err(StoreError::Database(error)) = &result
                && is_unreachable(error)
            {
                *unreachable = Some(StoreError::Database(error.clone()));
            }
            if result.as_ref().is_err_and(|error| !error.is_of_one_output()) {
                connection.fail_session(operation.session());
            }
            let _ = reply.send(result);
        }
    }
}

/// Whether a failed transaction may be tried again.
enum BatchFailure {
    /// It failed before the commit, so none of it is stored.
    NotCommitted(DbErr),
    /// It failed at the commit or got no answer, so it may be stored.
    Unknown(DbErr),
}

async fn commit_alone<Op: BatchOperation>(
    connection: &mut Connection,
    operation: &Op,
) -> Result<Op::Done, StoreError> {
    let tx = connection.begin().await?;
    let applied = match Op::apply(&tx, std::slice::from_ref(operation)).await {
        Ok(results) => finish(&tx).await.map(|()| results),
        Err(error) => Err(error),
    };
    let done = match applied {
        Ok(mut results) => connection.commit().await.map(|()| results.pop()),
        Err(error) => Err(error),
    };
    if done.is_err() {
        connection.roll_back().await;
    }
    done?.unwrap_or(Err(StoreError::WriterStopped))
}

/// Generates the queue's type, the batch and the order within a transaction from one list of kinds.
macro_rules! operations {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        /// One entry of the writer's queue.
        pub enum Operation {
            $($kind($kind, Reply<<$kind as BatchOperation>::Done>),)+
        }

        $(impl From<($kind, Reply<<$kind as BatchOperation>::Done>)> for Operation {
            fn from((operation, reply): ($kind, Reply<<$kind as BatchOperation>::Done>)) -> Self {
                Self::$kind(operation, reply)
            }
        })+

        #[derive(Default)]
        struct Batch {
            len: usize,
            $($field: Group<$kind>,)+
        }

        struct Results {
            $($field: Vec<Result<<$kind as BatchOperation>::Done, StoreError>>,)+
        }

        impl Batch {
            fn push(&mut self, operation: Operation) {
                self.len += 1;
                match operation {
                    $(Operation::$kind(operation, reply) => self.$field.push(operation, reply),)+
                }
            }

            async fn apply(
                &self,
                tx: &WriteTx<'_>,
            ) -> Result<Results, DbErr> {
                let results = Results {
                    $($field: if self.$field.operations.is_empty() {
                        Vec::new()
                    } else {
                        Box::pin($kind::apply(tx, &self.$field.operations)).await?
                    },)+
                };
                Box::pin(finish(tx)).await?;
                Ok(results)
            }

            async fn commit(&self, connection: &mut Connection) -> Result<Results, BatchFailure> {
                let tx = connection.begin().await.map_err(BatchFailure::NotCommitted)?;
                let results = self.apply(&tx).await.map_err(BatchFailure::NotCommitted)?;
                connection.commit().await.map_err(BatchFailure::Unknown)?;
                Ok(results)
            }

            fn answer(self, results: Results) {
                $(self.$field.answer(results.$field);)+
            }

            fn fail(self, error: &StoreError, connection: &Connection) {
                $(self.$field.fail(error, connection);)+
            }

            async fn commit_one_by_one(self, connection: &mut Connection) {
                let mut unreachable = None;
                $(Box::pin(self.$field.commit_one_by_one(connection, &mut unreachable)).await;)+
            }
        }
    };
}

// The order matters within one command: submit before deliver, start before output, output before
// the result. A run of a task that is new after the inventory must not count as missing in it.
operations! {
    changes: Change,
    opens: OpenSession,
    manifests: RecordManifest,
    facts: RecordFacts,
    reconciliations: Reconcile,
    task_runs: RecordTaskRuns,
    submissions: SubmitCommand,
    jobs: SubmitJob,
    deliveries: MarkDelivered,
    progress: RecordProgress,
    outputs: AppendOutput,
    settlements: Settle,
    rollouts: AdvanceRollout,
    finished_jobs: FinishJob,
    heartbeats: RecordHeartbeat,
    assignment_states: RecordAssignmentStates,
    audits: AppendAudit,
    closes: CloseSession,
    history_indexing: IndexHistory,
}

/// Stores what the operations added to the transaction: events, and audit entries last, because they lock
/// the logs of the tenants until the commit.
async fn finish(tx: &WriteTx<'_>) -> Result<(), DbErr> {
    store_events(tx.transaction, tx.outbox).await?;
    seal(tx.transaction, tx.audit).await
}

/// Runs until every [`super::Writer`] is dropped.
pub(super) async fn run(
    connection: DatabaseConnection,
    blobs: Blobs,
    (audit, outbox): (AuditShared, OutboxShared),
    mut queue: mpsc::Receiver<Operation>,
    metrics: WriterMetrics,
) {
    let mut connection = Connection::new(connection, blobs, audit, outbox, metrics.clone());
    while let Some(first) = queue.recv().await {
        let mut batch = Batch::default();
        batch.push(first);
        // Lets requests that have just arrived queue their operations for this transaction.
        tokio::task::yield_now().await;
        while batch.len < MAX_BATCH {
            match queue.try_recv() {
                Ok(operation) => batch.push(operation),
                Err(_) => break,
            }
        }
        commit(&mut connection, batch, &metrics).await;
    }
}

async fn commit(connection: &mut Connection, batch: Batch, metrics: &WriterMetrics) {
    let started = Instant::now();
    let failure = match commit_with_lock_retries(connection, &batch).await {
        Ok(results) => {
            metrics.committed(batch.len, started.elapsed());
            return batch.answer(results);
        }
        Err(failure) => failure,
    };
    metrics.failed();
    connection.roll_back().await;
    match failure {
        BatchFailure::NotCommitted(error) if is_read_only(&error) => {
            tracing::error!(operations = batch.len, %error, "failed to commit");
            connection.release();
            batch.fail(&StoreError::Database(error), connection);
        }
        BatchFailure::NotCommitted(error)
            if batch.len > 1 && !is_unreachable(&error) && !is_locked(&error) =>
        {
            tracing::warn!(operations = batch.len, %error, "failed to commit a batch; committing its operations one by one");
            batch.commit_one_by_one(connection).await;
        }
        // A batch that may be stored is not tried again. Its callers get the error, and sessions
        // reconcile with their agents.
        BatchFailure::NotCommitted(error) | BatchFailure::Unknown(error) => {
            tracing::error!(operations = batch.len, %error, "failed to commit");
            batch.fail(&StoreError::Database(error), connection);
        }
    }
}

/// Commits a batch, and repeats it while SQLite is locked: without the lock none of it was stored.
async fn commit_with_lock_retries(
    connection: &mut Connection,
    batch: &Batch,
) -> Result<Results, BatchFailure> {
    let mut attempts = 1;
    loop {
        let committed = tokio::time::timeout(COMMIT_WAIT, batch.commit(connection)).await;
        match committed {
            Ok(Err(BatchFailure::NotCommitted(error)))
                if is_locked(&error) && attempts < LOCK_ATTEMPTS =>
            {
                connection.roll_back().await;
                attempts += 1;
            }
            Ok(result) => return result,
            Err(_) => {
                let error = DbErr::Custom("no answer from the database".into());
                return Err(BatchFailure::Unknown(error));
            }
        }
    }
}
