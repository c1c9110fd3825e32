//! The writer's connection, which it keeps between transactions.
//!
//! A connection from the pool is tested and returned through other threads each time, and every
//! batch would wait for that. So the writer keeps one connection and sends `BEGIN` and `COMMIT` as
//! statements. The library offers only one way to keep a connection: an open transaction object.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

use super::access::audit_chain::{AuditChain, AuditShared};
use super::commit_metrics::CommitMetrics;
use super::epoch_cache::EpochCache;
use super::integrations::{OutboxEvents, OutboxShared};
use crate::domain::ids::AgentId;
use crate::metrics::WriterMetrics;
use crate::store::blobs::Blobs;

/// How long a rollback may take before the connection is dropped.
const ROLLBACK_WAIT: Duration = Duration::from_secs(5);

/// The connection. Between transactions it holds no lock.
pub(super) struct Connection {
    pool: DatabaseConnection,
    held: Option<DatabaseTransaction>,
    epochs: EpochCache,
    tx_metrics: CommitMetrics,
    metrics: WriterMetrics,
    blobs: Blobs,
    audit: AuditChain,
    outbox: OutboxEvents,
}

/// A transaction in progress, with cached data.
pub struct WriteTx<'a> {
    pub(super) transaction: &'a DatabaseTransaction,
    pub(super) epochs: &'a EpochCache,
    /// Counted after the commit.
    pub(super) metrics: &'a CommitMetrics,
    /// Files for long output.
    pub(super) blobs: &'a Blobs,
    /// The audit entries of the transaction.
    pub(super) audit: &'a AuditChain,
    /// The events of the transaction.
    pub(super) outbox: &'a OutboxEvents,
}

impl Connection {
    pub(super) fn new(
        pool: DatabaseConnection,
        blobs: Blobs,
        audit: AuditShared,
        outbox: OutboxShared,
        metrics: WriterMetrics,
    ) -> Self {
        let (epochs, tx_metrics) = (EpochCache::default(), CommitMetrics::default());
        let audit = AuditChain::new(audit);
        let outbox = OutboxEvents::new(outbox);
        Self { pool, held: None, epochs, tx_metrics, metrics, blobs, audit, outbox }
    }

    /// Starts a transaction. On SQLite it takes the write lock at once, because a transaction that
    /// starts with a read cannot wait for the lock later.
    pub(super) async fn begin(&mut self) -> Result<WriteTx<'_>, DbErr> {
        self.tx_metrics.clear();
        self.audit.begin();
        self.outbox.begin();
        if let Some(held) = &self.held {
            match held.execute_unprepared(begin_statement(held)).await {
                Ok(_) => {}
                // The connection broke between transactions; a new one works as well. PostgreSQL reports
                // that it ended a connection as the error of the next statement, and `BEGIN` alone
                // has changed nothing.
                Err(error) if is_unreachable(&error) || is_replaceable(held) => self.held = None,
                Err(error) => return Err(error),
            }
        }
        let held = match self.held.take() {
            Some(held) => held,
            None => self.connect().await?,
        };
        Ok(WriteTx {
            transaction: self.held.insert(held),
            epochs: &self.epochs,
            metrics: &self.tx_metrics,
            blobs: &self.blobs,
            audit: &self.audit,
            outbox: &self.outbox,
        })
    }

    /// # Errors
    /// The transaction may be committed nevertheless.
    pub(super) async fn commit(&mut self) -> Result<(), DbErr> {
        let Some(held) = &self.held else {
            return Err(DbErr::Custom("no transaction was begun".into()));
        };
        held.execute_unprepared("COMMIT").await?;
        self.tx_metrics.add_to(&self.metrics);
        self.audit.committed();
        self.outbox.committed();
        Ok(())
    }

    /// Ends a transaction that failed or whose result is unknown.
    pub(super) async fn roll_back(&mut self) {
        self.epochs.clear();
        self.audit.forget();
        let Some(held) = &self.held else { return };
        let rollback = tokio::time::timeout(ROLLBACK_WAIT, held.execute_unprepared("ROLLBACK"));
        let is_over = matches!(rollback.await, Ok(Ok(_)));
        // SQLite may have rolled back by itself; then this fails and the connection is still good. A
        // PostgreSQL connection that does not answer goes back to the pool, which tests it.
        if !is_over && held.get_database_backend() != DbBackend::Sqlite {
            self.held = None;
        }
    }

    /// Returns the connection to the pool, which replaces it if it is read-only: as after a failover,
    /// when another server takes the writes.
    pub(super) fn release(&mut self) {
        self.held = None;
    }

    /// Refuses all later writes of a session of which one write failed.
    pub(super) fn fail_session(&self, session: Option<(AgentId, i64)>) {
        if let Some((agent_id, epoch)) = session {
            self.epochs.mark_failed(agent_id, epoch);
        }
    }

    async fn connect(&self) -> Result<DatabaseTransaction, DbErr> {
        let sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        let options = TransactionOptions { sqlite_transaction_mode, ..Default::default() };
        self.pool.begin_with_options(options).await
    }
}

/// True if a new connection may do what this one can't. No other process ends a connection of SQLite, whose errors say
/// that the database is locked or broken.
fn is_replaceable(held: &DatabaseTransaction) -> bool {
    held.get_database_backend() != DbBackend::Sqlite
}

fn begin_statement(held: &DatabaseTransaction) -> &'static str {
    match held.get_database_backend() {
        DbBackend::Sqlite => "BEGIN IMMEDIATE",
        _ => "BEGIN",
    }
}

/// True if the database is unreachable, so that trying each operation alone is pointless.
pub(super) fn is_unreachable(error: &DbErr) -> bool {
    use sea_orm::sqlx::Error;
    if matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_)) {
        return true;
    }
    matches!(
        source_of(error),
        Some(Error::Io(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed)
    )
}

/// True if another connection holds the lock of SQLite, as a checkpoint does.
pub(super) fn is_locked(error: &DbErr) -> bool {
    /// `SQLITE_BUSY`. Higher bits are details.
    const BUSY: u32 = 5;
    let Some(sea_orm::sqlx::Error::Database(error)) = source_of(error) else { return false };
    error.code().and_then(|code| code.parse().ok()).is_some_and(|code: u32| code & 0xff == BUSY)
}

/// True if PostgreSQL refused the write because the database or the connection is read-only.
pub(super) fn is_read_only(error: &DbErr) -> bool {
    /// `read_only_sql_transaction`.
    const READ_ONLY: &str = "25006";
    let Some(sea_orm::sqlx::Error::Database(error)) = source_of(error) else { return false };
    error.code().is_some_and(|code| code == READ_ONLY)
}

fn source_of(error: &DbErr) -> Option<&sea_orm::sqlx::Error> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => Some(source),
        _ => None,
    }
}
