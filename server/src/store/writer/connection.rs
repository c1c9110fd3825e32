//! The writer's one connection, held from one transaction to the next.
//!
//! Taken from the pool each time, it would be tested and handed back by way of other threads, and
//! every batch would wait for that. So `BEGIN` and `COMMIT` are statements here, on a connection
//! that is held by the only thing that can hold one: a transaction that the library counts as open.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

use super::commit_metrics::CommitMetrics;
use super::epoch::KnownEpochs;
use crate::domain::ids::AgentId;
use crate::metrics::WriterMetrics;
use crate::store::blobs::Blobs;

/// How long the end of a failed transaction may take before its connection is given up.
const ROLLBACK_WAIT: Duration = Duration::from_secs(5);

/// The connection. Between two transactions it holds no lock.
pub(super) struct Connection {
    pool: DatabaseConnection,
    held: Option<DatabaseTransaction>,
    epochs: KnownEpochs,
    tally: CommitMetrics,
    meters: WriterMetrics,
    blobs: Blobs,
}

/// A transaction under way, with what is known of the data without asking.
pub struct Work<'a> {
    pub(super) transaction: &'a DatabaseTransaction,
    pub(super) epochs: &'a KnownEpochs,
    /// What counts once it stands.
    pub(super) tally: &'a CommitMetrics,
    /// Where long output goes.
    pub(super) blobs: &'a Blobs,
}

impl Connection {
    pub(super) fn new(pool: DatabaseConnection, blobs: Blobs, meters: WriterMetrics) -> Self {
        let (epochs, tally) = (KnownEpochs::default(), CommitMetrics::default());
        Self { pool, held: None, epochs, tally, meters, blobs }
    }

    /// Begins a transaction. On SQLite it may write from the start: one that begins with a read
    /// could not wait for its turn.
    pub(super) async fn begin(&mut self) -> Result<Work<'_>, DbErr> {
        self.tally.clear();
        if let Some(held) = &self.held {
            match held.execute_unprepared(begin_statement(held)).await {
                Ok(_) => {}
                // It broke while nothing was under way: a new one does as well.
                Err(error) if is_away(&error) => self.held = None,
                Err(error) => return Err(error),
            }
        }
        let held = match self.held.take() {
            Some(held) => held,
            None => self.connect().await?,
        };
        Ok(Work {
            transaction: self.held.insert(held),
            epochs: &self.epochs,
            tally: &self.tally,
            blobs: &self.blobs,
        })
    }

    /// # Errors
    /// What was written may stand nevertheless.
    pub(super) async fn commit(&mut self) -> Result<(), DbErr> {
        let Some(held) = &self.held else {
            return Err(DbErr::Custom("no transaction was begun".into()));
        };
        held.execute_unprepared("COMMIT").await?;
        self.tally.add_to(&self.meters);
        Ok(())
    }

    /// Ends a transaction that failed, or of which nothing is known.
    pub(super) async fn roll_back(&mut self) {
        self.epochs.forget();
        let Some(held) = &self.held else { return };
        let rollback = tokio::time::timeout(ROLLBACK_WAIT, held.execute_unprepared("ROLLBACK"));
        let is_over = matches!(rollback.await, Ok(Ok(_)));
        // SQLite may have rolled back by itself, which makes this an error and the connection no
        // worse. One to PostgreSQL that does not answer goes back to the pool, which tests it.
        if !is_over && held.get_database_backend() != DbBackend::Sqlite {
            self.held = None;
        }
    }

    /// Refuses whatever else the session of a failed write has written.
    pub(super) fn fail_session(&self, session: Option<(AgentId, i64)>) {
        if let Some((agent_id, epoch)) = session {
            self.epochs.fail(agent_id, epoch);
        }
    }

    async fn connect(&self) -> Result<DatabaseTransaction, DbErr> {
        let sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode, ..Default::default() };
        self.pool.begin_with_options(options).await
    }
}

fn begin_statement(held: &DatabaseTransaction) -> &'static str {
    match held.get_database_backend() {
        DbBackend::Sqlite => "BEGIN IMMEDIATE",
        _ => "BEGIN",
    }
}

/// True if the database itself is out of reach: trying each operation alone would only take longer.
pub(super) fn is_away(error: &DbErr) -> bool {
    use sea_orm::sqlx::Error;
    if matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) {
        return true;
    }
    matches!(
        source_of(error),
        Some(Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed)
    )
}

/// True if another connection to SQLite holds the lock: a checkpoint that empties the log.
pub(super) fn is_busy(error: &DbErr) -> bool {
    /// `SQLITE_BUSY`; the higher bits say more of it.
    const BUSY: u32 = 5;
    let Some(sea_orm::sqlx::Error::Database(error)) = source_of(error) else { return false };
    error.code().and_then(|code| code.parse().ok()).is_some_and(|code: u32| code & 0xff == BUSY)
}

fn source_of(error: &DbErr) -> Option<&sea_orm::sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => Some(source),
        _ => None,
    }
}
