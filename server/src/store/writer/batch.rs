//! The writer's loop: drain, merge, commit, answer.

use std::time::{Duration, Instant};

use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::mpsc;

use super::connection::{Connection, Work, is_away, is_busy};
use super::{
    AdvanceRollout, AppendAudit, AppendOutput, Change, CloseSession, FileHistory, FinishJob,
    MAX_BATCH, MarkDelivered, Merge, OpenSession, Reconcile, RecordHeartbeat, RecordManifest,
    RecordProgress, Reply, Settle, SubmitCommand, SubmitJob,
};
use crate::metrics::WriterMetrics;
use crate::store::StoreError;
use crate::store::blobs::Blobs;

/// How long a transaction may take before the database counts as out of reach.
const COMMIT_WAIT: Duration = Duration::from_secs(60);
/// How often a batch waits for SQLite's lock, which checkpoints may hold; each time as long as the
/// connection's own patience.
const BUSY_TRIES: usize = 4;

/// Operations of one kind, with those who wait for them.
struct Group<Op: Merge> {
    operations: Vec<Op>,
    replies: Vec<Reply<Op::Done>>,
}

impl<Op: Merge> Default for Group<Op> {
    fn default() -> Self {
        Self { operations: Vec::new(), replies: Vec::new() }
    }
}

impl<Op: Merge> Group<Op> {
    fn push(&mut self, operation: Op, reply: Reply<Op::Done>) {
        self.operations.push(operation);
        self.replies.push(reply);
    }

    fn answer(self, results: Vec<Result<Op::Done, StoreError>>) {
        // A caller that has gone away no longer wants to know; what it asked for is committed.
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

    /// `away`: the error that showed the database to be out of reach; nothing is tried after it.
    async fn one_by_one(self, connection: &mut Connection, away: &mut Option<StoreError>) {
        for (operation, reply) in self.operations.into_iter().zip(self.replies) {
            let result = match away {
                Some(error) => Err(error.clone()),
                None => alone(connection, &operation).await,
            };
            if let Err(StoreError::Database(error)) = &result
                && is_away(error)
            {
                *away = Some(StoreError::Database(error.clone()));
            }
            if result.as_ref().is_err_and(|error| !error.is_of_one_output()) {
                connection.fail_session(operation.session());
            }
            let _ = reply.send(result);
        }
    }
}

/// Where a transaction failed decides whether it may be tried again.
enum Failure {
    /// Before the commit: nothing of it stands.
    Before(DbErr),
    /// At the commit, or without an answer: it may stand.
    Unknown(DbErr),
}

async fn alone<Op: Merge>(
    connection: &mut Connection,
    operation: &Op,
) -> Result<Op::Done, StoreError> {
    let work = connection.begin().await?;
    let done = match Op::apply(&work, std::slice::from_ref(operation)).await {
        Ok(mut results) => connection.commit().await.map(|()| results.pop()),
        Err(error) => Err(error),
    };
    if done.is_err() {
        connection.roll_back().await;
    }
    done?.unwrap_or(Err(StoreError::WriterStopped))
}

/// One list of kinds makes the queue's type, the batch, and the order within a transaction.
macro_rules! operations {
    ($($field:ident: $kind:ident),+ $(,)?) => {
        /// One entry of the writer's queue.
        pub enum Operation {
            $($kind($kind, Reply<<$kind as Merge>::Done>),)+
        }

        $(impl From<($kind, Reply<<$kind as Merge>::Done>)> for Operation {
            fn from((operation, reply): ($kind, Reply<<$kind as Merge>::Done>)) -> Self {
                Self::$kind(operation, reply)
            }
        })+

        #[derive(Default)]
        struct Batch {
            len: usize,
            $($field: Group<$kind>,)+
        }

        struct Results {
            $($field: Vec<Result<<$kind as Merge>::Done, StoreError>>,)+
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
                work: &Work<'_>,
            ) -> Result<Results, DbErr> {
                Ok(Results {
                    $($field: if self.$field.operations.is_empty() {
                        Vec::new()
                    } else {
                        Box::pin($kind::apply(work, &self.$field.operations)).await?
                    },)+
                })
            }

            async fn commit(&self, connection: &mut Connection) -> Result<Results, Failure> {
                let work = connection.begin().await.map_err(Failure::Before)?;
                let results = self.apply(&work).await.map_err(Failure::Before)?;
                connection.commit().await.map_err(Failure::Unknown)?;
                Ok(results)
            }

            fn answer(self, results: Results) {
                $(self.$field.answer(results.$field);)+
            }

            fn fail(self, error: &StoreError, connection: &Connection) {
                $(self.$field.fail(error, connection);)+
            }

            async fn one_by_one(self, connection: &mut Connection) {
                let mut away = None;
                $(Box::pin(self.$field.one_by_one(connection, &mut away)).await;)+
            }
        }
    };
}

// The order matters within one command: it is submitted before it is delivered, started before
// its output, and its output stands before its end.
operations! {
    changes: Change,
    opens: OpenSession,
    manifests: RecordManifest,
    reconciliations: Reconcile,
    submissions: SubmitCommand,
    jobs: SubmitJob,
    deliveries: MarkDelivered,
    progress: RecordProgress,
    outputs: AppendOutput,
    settlements: Settle,
    rollouts: AdvanceRollout,
    finished_jobs: FinishJob,
    heartbeats: RecordHeartbeat,
    audits: AppendAudit,
    closes: CloseSession,
    filings: FileHistory,
}

/// Runs until every handle is gone.
pub(super) async fn run(
    connection: DatabaseConnection,
    blobs: Blobs,
    mut queue: mpsc::Receiver<Operation>,
    meters: WriterMetrics,
) {
    let mut connection = Connection::new(connection, blobs, meters.clone());
    while let Some(first) = queue.recv().await {
        let mut batch = Batch::default();
        batch.push(first);
        // Requests that have arrived meanwhile get their turn first, and share this transaction.
        tokio::task::yield_now().await;
        while batch.len < MAX_BATCH {
            match queue.try_recv() {
                Ok(operation) => batch.push(operation),
                Err(_) => break,
            }
        }
        commit(&mut connection, batch, &meters).await;
    }
}

async fn commit(connection: &mut Connection, batch: Batch, meters: &WriterMetrics) {
    let started = Instant::now();
    let failure = match commit_in_turn(connection, &batch).await {
        Ok(results) => {
            meters.committed(batch.len, started.elapsed());
            return batch.answer(results);
        }
        Err(failure) => failure,
    };
    meters.failed();
    connection.roll_back().await;
    match failure {
        Failure::Before(error) if batch.len > 1 && !is_away(&error) && !is_busy(&error) => {
            tracing::warn!(operations = batch.len, %error, "failed to write together; one by one now");
            batch.one_by_one(connection).await;
        }
        // What may stand is not tried again: its callers are told that it failed, and sessions
        // reconcile what they were told.
        Failure::Before(error) | Failure::Unknown(error) => {
            tracing::error!(operations = batch.len, %error, "failed to commit");
            batch.fail(&StoreError::Database(error), connection);
        }
    }
}

/// Waits for SQLite's lock, again if need be: nothing of a batch stands that did not get it.
async fn commit_in_turn(connection: &mut Connection, batch: &Batch) -> Result<Results, Failure> {
    let mut tries = 1;
    loop {
        let committed = tokio::time::timeout(COMMIT_WAIT, batch.commit(connection)).await;
        match committed {
            Ok(Err(Failure::Before(error))) if is_busy(&error) && tries < BUSY_TRIES => {
                connection.roll_back().await;
                tries += 1;
            }
            Ok(result) => return result,
            Err(_) => {
                let error = DbErr::Custom("no answer from the database".into());
                return Err(Failure::Unknown(error));
            }
        }
    }
}
