//! Opens the database, and locks it against a second server.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sea_orm::sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};

use super::StoreError;

/// Permissions of the group and of other users.
const OTHERS: u32 = 0o077;
/// Connections for reading.
const READERS: u32 = 4;
/// How long a caller waits for a connection before the database counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache of the writer, in KiB.
const WRITER_CACHE_KIB: i32 = 64 * 1024;
/// Page cache of each reader, in KiB.
const READER_CACHE_KIB: i32 = 8 * 1024;
/// Prepared statements that a connection caches: about the number of different statements of the
/// writer.
const STATEMENTS: usize = 256;
/// How long a connection waits for SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for checkpoints, which block the writer while they wait for readers.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(200);
/// SQLite's log is truncated to this size when it restarts.
const LOG_KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// How long a starting server waits for the lock of a server that may just have been killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// The advisory lock of a server on its PostgreSQL database: "muster" in ASCII.
const ADVISORY_LOCK: i64 = 0x6d75_7374_6572;

/// The kind of database that a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// Reads the scheme of a database URL.
    ///
    /// # Errors
    /// [`StoreError::Url`] if it is neither `sqlite:` nor `postgres:`.
    pub fn of(url: &str) -> Result<Self, StoreError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            // The URL may contain a password, so it is never repeated.
            _ => Err(StoreError::Url("unknown scheme".into())),
        }
    }
}

/// The connections of one server.
pub struct DatabaseConnections {
    pub writer: DatabaseConnection,
    pub reader: DatabaseConnection,
    /// SQLite only: checkpoints would stall the writer on its own connection.
    pub checkpointer: Option<DatabaseConnection>,
}

/// Opens the database of this URL and takes its lock.
pub async fn open(
    url: &str,
    password: Option<&str>,
    data_dir: &Path,
) -> Result<DatabaseConnections, StoreError> {
    lock_directory(data_dir)?;
    if restore_folder(data_dir).exists() {
        return Err(StoreError::RestoreUnfinished);
    }
    match Backend::of(url)? {
        Backend::Sqlite => open_sqlite(url).await,
        Backend::Postgres => open_postgres(url, password).await,
    }
}

/// The folder in a data directory that a restore fills. While it exists, no server starts.
pub fn restore_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("restore.new")
}

/// Holds `<data-dir>/lock` until the process ends.
pub(super) fn lock_directory(data_dir: &Path) -> Result<(), StoreError> {
    let describe = |error: std::io::Error| StoreError::Directory(error.to_string());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(describe)?;
    close_to_others(data_dir).map_err(describe)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("lock"))
        .map_err(describe)?;
    match file.try_lock() {
        Ok(()) => {
            // Held until the process ends. The kernel releases it, also after kill -9.
            std::mem::forget(file);
            Ok(())
        }
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(error)) => Err(describe(error)),
    }
}

/// Removes the permissions of other users from the files of the data directory, which contain keys
/// and output. The directory itself may be shared on purpose, so it is only reported.
fn close_to_others(data_dir: &Path) -> std::io::Result<()> {
    let mode = fs::metadata(data_dir)?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(
            directory = %data_dir.display(),
            mode = format!("{:o}", mode & 0o7777),
            "other users can open the data directory; run chmod 700 on it"
        );
    }
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let found = entry.metadata()?;
        let mode = found.permissions().mode();
        if found.is_file() && mode & OTHERS != 0 {
            fs::set_permissions(entry.path(), Permissions::from_mode(mode & 0o700))?;
        }
    }
    Ok(())
}

async fn open_sqlite(url: &str) -> Result<DatabaseConnections, StoreError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| StoreError::Url(error.to_string()))?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", LOG_KEPT_BYTES.to_string())
        .pragma("temp_store", "MEMORY")
        // The rows of a batch are ready at once, so they need no second thread.
        .row_buffer_size(512)
        .statement_cache_capacity(STATEMENTS);
    let pool = |connections: u32, cache_kib: i32, patience: Duration| {
        let options = options.clone().busy_timeout(patience);
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.pragma("cache_size", (-cache_kib).to_string()))
    };
    let connect = async |connections, cache_kib, patience| {
        let pool = pool(connections, cache_kib, patience).await.map_err(to_store_error)?;
        Ok::<_, StoreError>(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
    };
    Ok(DatabaseConnections {
        writer: connect(1, WRITER_CACHE_KIB, BUSY_TIMEOUT).await?,
        reader: connect(READERS, READER_CACHE_KIB, BUSY_TIMEOUT).await?,
        checkpointer: Some(connect(1, READER_CACHE_KIB, CHECKPOINT_TIMEOUT).await?),
    })
}

/// How to connect to a PostgreSQL database.
pub(super) fn postgres_options(
    url: &str,
    password: Option<&str>,
) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| StoreError::Url(error.to_string()))?
        // A server that vanished without closing its connection must not keep its lock for hours.
        .options([
            ("statement_timeout", "30s"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
    Ok(match password {
        Some(password) => options.password(password),
        None => options,
    })
}

async fn open_postgres(
    url: &str,
    password: Option<&str>,
) -> Result<DatabaseConnections, StoreError> {
    let options = postgres_options(url, password)?;
    // The first connection is opened directly, because its error distinguishes "locked" from
    // "unreachable". The pool only reports a timeout.
    let mut probe = PgConnection::connect_with(&options).await.map_err(to_store_error)?;
    let patience = tokio::time::Instant::now() + LOCK_PATIENCE;
    let locked = loop {
        if take_advisory_lock(&mut probe).await.map_err(to_store_error)? {
            break false;
        }
        if tokio::time::Instant::now() >= patience {
            break true;
        }
        // The database notices the end of a killed server a moment later.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // Released before the connection is closed, because the database may notice the close only
    // later.
    let unlock = sea_orm::sqlx::query("SELECT pg_advisory_unlock_all()");
    probe.execute(unlock).await.map_err(to_store_error)?;
    probe.close().await.map_err(to_store_error)?;
    if locked {
        return Err(StoreError::Locked);
    }
    // The writer's only connection holds the lock. If it breaks, the next one acquires the lock
    // again.
    let writer = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(|connection, _| Box::pin(is_writable(connection)))
        .after_connect(|connection, _| {
            Box::pin(async move {
                match take_advisory_lock(connection).await? {
                    true => Ok(()),
                    false => Err(sea_orm::sqlx::Error::Protocol(
                        "another muster-server serves this database".into(),
                    )),
                }
            })
        })
        .connect_with(options.clone().statement_cache_capacity(STATEMENTS))
        .await
        .map_err(to_store_error)?;
    let reader = PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(to_store_error)?;
    Ok(DatabaseConnections {
        writer: SqlxPostgresConnector::from_sqlx_postgres_pool(writer),
        reader: SqlxPostgresConnector::from_sqlx_postgres_pool(reader),
        checkpointer: None,
    })
}

/// False for a connection to a standby, or one that was opened while the database was read-only. Such
/// a connection stays read-only, so the pool must replace it.
async fn is_writable(connection: &mut PgConnection) -> Result<bool, sea_orm::sqlx::Error> {
    let query = "SELECT current_setting('transaction_read_only') = 'off'";
    connection.fetch_one(sea_orm::sqlx::query(query)).await?.try_get(0)
}

pub(super) async fn take_advisory_lock(
    connection: &mut PgConnection,
) -> Result<bool, sea_orm::sqlx::Error> {
    let row = connection
        .fetch_one(sea_orm::sqlx::query("SELECT pg_try_advisory_lock($1)").bind(ADVISORY_LOCK))
        .await?;
    row.try_get(0)
}

fn to_store_error(error: sea_orm::sqlx::Error) -> StoreError {
    StoreError::Database(sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(error.into())))
}
