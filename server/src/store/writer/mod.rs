//! The writer: every write of the server goes through its queue.
//!
//! It drains the queue, without a timer, into one transaction. Operations of one kind are merged into
//! multi-row statements, the transaction costs one fsync, and each caller gets its result after the
//! commit. If a transaction fails before its commit, its operations are repeated one by one, so that
//! one bad write does not fail the others.
//!
//! Limits: [`MAX_QUEUED`] waiting operations (more callers wait), [`MAX_BATCH`] in a transaction.

pub mod access;
mod batch;
mod change;
pub mod commands;
mod commit_metrics;
mod connection;
mod epoch;
mod epoch_cache;
pub mod integrations;
pub(super) mod rows;
pub mod sessions;

use std::future::Future;
use std::pin::Pin;

use muster_protocol::identity::{AgentKeyPair, AgentPublicKey};
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::access::AppendAudit;
use self::access::audit_chain::AuditShared;
pub use self::batch::Operation;
use self::change::Change;
pub(super) use self::change::{add_audit, add_events};
pub(super) use self::commands::advance_rollout::hold_queued;
pub use self::commands::advance_rollout::{AdvanceRollout, RolloutChange};
pub use self::commands::append_output::AppendOutput;
pub use self::commands::finish_job::FinishJob;
pub use self::commands::index_history::IndexHistory;
pub use self::commands::mark_delivered::MarkDelivered;
pub use self::commands::record_progress::{Progress, RecordProgress};
pub use self::commands::settle::{Report, Settle, Settled};
pub use self::commands::submit_command::{Idempotency, SubmitCommand, Submitted};
pub use self::commands::submit_job::{NewExecution, SubmitJob, SubmittedJob};
use self::connection::WriteTx;
use self::integrations::OutboxShared;
pub use self::sessions::close_session::CloseSession;
pub use self::sessions::open_session::{
    AgentIdentity, OpenSession, OpenedSession, SessionOpening, admit_secret,
};
pub use self::sessions::reconcile::{Committed, Disposition, Listed, Reconcile, Reconciled};
pub use self::sessions::record_assignment_states::RecordAssignmentStates;
pub use self::sessions::record_facts::RecordFacts;
pub use self::sessions::record_heartbeat::RecordHeartbeat;
pub use self::sessions::record_manifest::{ManifestSize, RecordManifest, RecordedManifest};
pub use self::sessions::record_task_runs::{MAX_SERVICE_STARTS_PER_HOUR, RecordTaskRuns};
use super::StoreError;
use super::blobs::Blobs;
use crate::domain::ids::AgentId;
use crate::metrics::WriterMetrics;

/// Most operations in the queue.
const MAX_QUEUED: usize = 4_096;
/// Most operations of one transaction.
const MAX_BATCH: usize = 512;
/// Most values of one list in a statement.
pub(in crate::store) const MAX_LIST: usize = 256;

/// Receives the result of a write.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write that shares its transaction and its statements with others of its kind.
pub trait BatchOperation: Send + Sync + Sized + 'static {
    /// What its caller gets after the commit.
    type Done: Send + 'static;

    /// Agent and epoch of the session that writes. If the write fails, later writes of the session
    /// are refused.
    fn session(&self) -> Option<(AgentId, i64)> {
        None
    }

    /// Applies all operations. Must be repeatable, because a failed transaction is tried again:
    /// counts go to `tx.metrics`, never to the metrics themselves. An inner `Err` concerns one
    /// operation, which must then have changed no row.
    fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Done, StoreError>>, DbErr>> + Send;
}

/// Sends operations to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Operation>,
    metrics: WriterMetrics,
    audit: AuditShared,
    outbox: OutboxShared,
}

/// The result of a write, after its commit.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl Writer {
    /// Starts the writer on its own connection. It ends when the last `Writer` is dropped.
    pub fn start(connection: DatabaseConnection, blobs: Blobs) -> Self {
        let (queue, operations) = mpsc::channel(MAX_QUEUED);
        let metrics = WriterMetrics::default();
        let (audit, outbox) = (AuditShared::default(), OutboxShared::default());
        let shared = (audit.clone(), outbox.clone());
        tokio::spawn(batch::run(connection, blobs, shared, operations, metrics.clone()));
        Self { queue, metrics, audit, outbox }
    }

    /// Sets the key that signs audit logs, and the previous one, whose signatures are still valid.
    pub fn set_audit_key(&self, key: AgentKeyPair, previous: Option<AgentPublicKey>) {
        self.audit.set_key(key, previous);
    }

    /// The keys of audit logs.
    pub(in crate::store) fn audit(&self) -> &AuditShared {
        &self.audit
    }

    /// Counts commits with audit entries, to wait for the next.
    pub fn audit_commits(&self) -> watch::Receiver<u64> {
        self.audit.commits()
    }

    /// Waits until an agent of this server is online or offline; returns at once if one changed before.
    pub async fn presence_changed(&self) {
        self.outbox.presence_changed().await;
    }

    /// Waits until this server wrote to the outbox; returns at once if it did before.
    pub async fn outbox_written(&self) {
        self.outbox.written().await;
    }

    /// The metrics of the writer.
    pub fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Number of operations in the queue.
    pub fn waiting(&self) -> usize {
        MAX_QUEUED - self.queue.capacity()
    }

    /// Waits for the end of the writer. While this handle exists, that is a failure.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    /// Queues a write and waits for its commit.
    ///
    /// # Errors
    /// [`StoreError`]. After a failed commit, or without an answer of the database, the write may be
    /// committed nevertheless.
    pub async fn commit<Op>(&self, operation: Op) -> Result<Op::Done, StoreError>
    where
        Op: BatchOperation,
        Operation: From<(Op, Reply<Op::Done>)>,
    {
        self.enqueue(operation).await?.await
    }

    /// Queues a write and returns a future for its commit; waits only while the queue is full.
    /// Writes of one caller and one kind are applied in the order in which they were queued.
    ///
    /// # Errors
    /// [`StoreError::WriterStopped`].
    pub fn enqueue<Op>(
        &self,
        operation: Op,
    ) -> impl Future<Output = Result<Pending<Op::Done>, StoreError>> + Send + 'static
    where
        Op: BatchOperation,
        Operation: From<(Op, Reply<Op::Done>)>,
    {
        let (reply, answer) = oneshot::channel();
        // Before the future, so that a caller that waits for its commit does not hold memory for the
        // largest operation.
        let queued = match self.queue.try_send(Operation::from((operation, reply))) {
            Ok(()) => None,
            Err(TrySendError::Full(operation)) => {
                let queue = self.queue.clone();
                let send = async move { queue.send(operation).await.is_ok() };
                Some(Box::pin(send) as Pin<Box<dyn Future<Output = bool> + Send>>)
            }
            Err(TrySendError::Closed(_)) => Some(Box::pin(std::future::ready(false)) as _),
        };
        async move {
            if let Some(queued) = queued
                && !queued.await
            {
                return Err(StoreError::WriterStopped);
            }
            let wait = async move { answer.await.unwrap_or(Err(StoreError::WriterStopped)) };
            Ok(Box::pin(wait) as Pending<Op::Done>)
        }
    }

    /// Runs a closure as a write, for changes too rare to merge. `change` may run more than once, so
    /// the caller counts its effects after the commit.
    ///
    /// # Errors
    /// The error that `change` returns; none of it is committed then. [`StoreError::Database`] as in
    /// [`Self::commit`].
    pub async fn change<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> Fn(
                &'a DatabaseTransaction,
            )
                -> Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        let (change, value) = Change::new(change);
        self.commit(change).await?;
        value.take().ok_or(StoreError::WriterStopped)
    }
}
