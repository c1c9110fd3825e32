//! Statements sent to a database directly, as text.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sea_orm::sqlx::postgres::{PgConnection, PgRow};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Error, Row as _, raw_sql};

/// How long a statement waits for SQLite's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a statement on the PostgreSQL database of this URL. Returns a line for each row, its fields
/// separated by `|`.
///
/// # Panics
/// If the statement fails.
pub fn query(url: &str, statement: &str) -> Vec<String> {
    blocking(async {
        let mut connection = PgConnection::connect(url).await?;
        let rows = postgres_rows(&mut connection, statement).await;
        connection.close().await?;
        rows
    })
    .unwrap_or_else(|error| panic!("{statement}: {error}"))
}

/// [`query`], on the SQLite database in this file.
///
/// # Panics
/// If the statement fails.
pub fn query_file(file: &Path, statement: &str) -> Vec<String> {
    blocking(async {
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let statement = raw_sql(AssertSqlSafe(statement.to_owned()));
        let rows: Vec<SqliteRow> = statement.fetch(&mut connection).try_collect().await?;
        connection.close().await?;
        let lines = rows.iter().map(|row| line(row.len(), |at| row.try_get_unchecked(at)));
        lines.collect::<Result<_, Error>>()
    })
    .unwrap_or_else(|error| panic!("{statement}: {error}"))
}

/// A connection to PostgreSQL that holds a lock of this name while it lives.
pub struct Lock(PgConnection);

impl Lock {
    /// Connects and waits for the lock.
    pub async fn acquire(url: &str, name: &str) -> Self {
        let connection = PgConnection::connect(url).await.expect("connect to PostgreSQL");
        let mut lock = Self(connection);
        lock.query(&format!("SELECT pg_advisory_lock(hashtext('{name}'))")).await;
        lock
    }

    /// [`query`], on this connection.
    pub async fn query(&mut self, statement: &str) -> Vec<String> {
        let rows = postgres_rows(&mut self.0, statement).await;
        rows.unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// Releases the lock.
    pub async fn release(self) {
        self.0.close().await.expect("close a connection");
    }
}

/// Sent as plain text: all fields of the answer are text as well.
async fn postgres_rows(
    connection: &mut PgConnection,
    statement: &str,
) -> Result<Vec<String>, Error> {
    let statement = raw_sql(AssertSqlSafe(statement.to_owned()));
    let rows: Vec<PgRow> = statement.fetch(connection).try_collect().await?;
    rows.iter().map(|row| line(row.len(), |at| row.try_get_unchecked(at))).collect()
}

fn line(
    fields: usize,
    field: impl Fn(usize) -> Result<Option<String>, Error>,
) -> Result<String, Error> {
    let fields = (0..fields).map(|at| Ok(field(at)?.unwrap_or_default()));
    Ok(fields.collect::<Result<Vec<_>, Error>>()?.join("|"))
}

/// Runs to its end on a thread of its own: callers may or may not be in a runtime.
fn blocking<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("start a runtime").block_on(work)
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| resume_unwind(panic)))
}
