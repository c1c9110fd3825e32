//! The one writer: every write of the server goes through its queue.
//!
//! It drains whatever is queued, without a timer, into one transaction: operations of one kind are
//! merged into multi-row statements, the transaction costs one fsync, and each caller is answered
//! after the commit. If a transaction fails, its operations are tried again one by one, so that
//! one bad write spoils no other.
//!
//! Bounds: [`QUEUE`] waiting operations (callers wait for room), [`MAX_BATCH`] in a transaction.

pub mod access;
mod batch;
mod change;
pub mod commands;
mod commit_metrics;
mod connection;
mod epoch;
pub(super) mod rows;
pub mod sessions;

use std::future::Future;
use std::pin::Pin;

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbErr};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

pub use self::access::append_audit::AppendAudit;
pub use self::batch::Operation;
use self::change::Change;
pub use self::commands::advance_rollout::{AdvanceRollout, RolloutChange};
pub use self::commands::append_output::AppendOutput;
pub use self::commands::finish_job::FinishJob;
pub use self::commands::index_history::FileHistory;
pub use self::commands::mark_delivered::MarkDelivered;
pub use self::commands::record_progress::{Progress, RecordProgress};
pub use self::commands::settle::{Report, Settle, Settled};
pub use self::commands::submit_command::{Idempotency, SubmitCommand, Submitted};
pub use self::commands::submit_job::{NewExecution, SubmitJob, SubmittedJob};
use self::connection::Work;
pub use self::sessions::close_session::CloseSession;
pub use self::sessions::open_session::{AgentIdentity, OpenSession, OpenedSession, SessionOpening};
pub use self::sessions::reconcile::{Committed, Disposition, Listed, Reconcile, Reconciled};
pub use self::sessions::record_heartbeat::RecordHeartbeat;
pub use self::sessions::record_manifest::RecordManifest;
use super::StoreError;
use super::blobs::Blobs;
use crate::domain::ids::AgentId;
use crate::metrics::WriterMetrics;

/// Operations that may wait.
const QUEUE: usize = 4_096;
/// Operations of one transaction.
const MAX_BATCH: usize = 512;
/// Values of one list in a statement.
const MAX_LIST: usize = 256;

/// Where the answer to a write goes.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write that can share its transaction, and its statements, with others of its kind.
pub trait Merge: Send + Sync + Sized + 'static {
    /// What its caller learns after the commit.
    type Done: Send + 'static;

    /// The session that it is a write of, by agent and epoch: once it has failed, what the session
    /// wrote behind it is refused.
    fn session(&self) -> Option<(AgentId, i64)> {
        None
    }

    /// Carries out all of them. Must be repeatable: a failed transaction is tried again. What is to
    /// be counted goes to the work's tally, never to meters. An inner `Err` concerns one operation,
    /// which must then have changed nothing.
    fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> impl Future<Output = Result<Vec<Result<Self::Done, StoreError>>, DbErr>> + Send;
}

/// The queue's end that callers hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Operation>,
    meters: WriterMetrics,
}

/// The answer to a write, after its commit.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl Writer {
    /// Starts the writer on a connection of its own. It ends when the last handle is dropped.
    pub fn start(connection: DatabaseConnection, blobs: Blobs) -> Self {
        let (queue, operations) = mpsc::channel(QUEUE);
        let meters = WriterMetrics::default();
        tokio::spawn(batch::run(connection, blobs, operations, meters.clone()));
        Self { queue, meters }
    }

    /// What it counts.
    pub fn meters(&self) -> &WriterMetrics {
        &self.meters
    }

    /// Writes that wait.
    pub fn waiting(&self) -> usize {
        QUEUE - self.queue.capacity()
    }

    /// Waits for the writer to end, which it does not while anybody holds it and it is in order.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    /// Queues a write and waits for its commit.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the write is committed then.
    pub async fn commit<Op>(&self, operation: Op) -> Result<Op::Done, StoreError>
    where
        Op: Merge,
        Operation: From<(Op, Reply<Op::Done>)>,
    {
        self.enqueue(operation).await?.await
    }

    /// Queues a write, waits only for room in the queue, and hands back the wait for its commit.
    /// Writes of one caller are carried out in the order they were queued, kind by kind.
    ///
    /// # Errors
    /// [`StoreError::WriterStopped`].
    pub fn enqueue<Op>(
        &self,
        operation: Op,
    ) -> impl Future<Output = Result<Pending<Op::Done>, StoreError>> + Send + 'static
    where
        Op: Merge,
        Operation: From<(Op, Reply<Op::Done>)>,
    {
        let (reply, answer) = oneshot::channel();
        // Tried at once, outside of the future: whoever waits for a commit should not hold room
        // for the widest operation meanwhile.
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

    /// A write of its own making, for changes too rare to merge. `change` may run more than once: what
    /// it did is counted by whoever gets its answer.
    ///
    /// # Errors
    /// Whatever `change` returns; nothing of it is committed then.
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
