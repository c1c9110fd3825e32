//! Snapshots of PostgreSQL: the rows of each table in the text format of `COPY`.

use std::io::Read;

use futures_util::TryStreamExt as _;
use sea_orm::sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, query_as, query_scalar, raw_sql,
};

use super::{SnapshotContents, SnapshotError, SnapshotSink, TableColumns, restored};
use crate::domain::restore_note::RestoreNote;
use crate::store::connect::Backend;
use crate::store::{StoreError, connect, migrations};

/// Rows are stored in pieces of about this size.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// What is sent to the database at once.
const SENT_BYTES: usize = 64 * 1024;
/// The table with the steps of the schema, as `sea-orm-migration` creates it.
const STEPS_TABLE: &str = "CREATE TABLE seaql_migrations (version varchar NOT NULL PRIMARY KEY, \
                           applied_at bigint NOT NULL)";
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text FROM pg_class c \
                       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                       WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' \
                       ORDER BY c.relname, a.attnum";

/// A transaction that sees one state of the database.
pub(super) struct PostgresSnapshot {
    pub(super) contents: SnapshotContents,
    connection: PgConnection,
}

impl PostgresSnapshot {
    pub(super) async fn take(url: &str, password: Option<&str>) -> Result<Self, SnapshotError> {
        let mut connection = connect(url, password).await?;
        run(&mut connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let tables = tables(&mut connection).await?;
        if !tables.iter().any(|table| table.name == "seaql_migrations") {
            return Err(SnapshotError::NoDatabase);
        }
        let schema = query_scalar("SELECT version::text FROM seaql_migrations ORDER BY version")
            .fetch_all(&mut connection)
            .await?;
        let check = query_scalar("SELECT value FROM settings WHERE name = 'master_key_check'")
            .fetch_optional(&mut connection)
            .await?;
        let contents = SnapshotContents { schema, tables, master_key_check: check };
        Ok(Self { contents, connection })
    }

    pub(super) async fn write_to(
        mut self,
        sink: &mut dyn SnapshotSink,
    ) -> Result<(), SnapshotError> {
        for table in &self.contents.tables {
            let statement = format!("COPY {} TO STDOUT", list(table));
            let mut rows = self.connection.copy_out_raw(&statement).await?;
            let (mut piece, mut number) = (Vec::new(), 0);
            while let Some(bytes) = rows.try_next().await? {
                piece.extend_from_slice(&bytes);
                if piece.len() >= PIECE_BYTES {
                    // A line end within a value is written as `\n`.
                    let end = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                    if end > 0 {
                        sink.write(&piece_name(&table.name, number), &piece[..end])?;
                        piece.drain(..end);
                        number += 1;
                    }
                }
            }
            if !piece.is_empty() {
                sink.write(&piece_name(&table.name, number), &piece)?;
            }
        }
        Ok(self.connection.close().await?)
    }
}

/// Loads the rows of a backup into an empty database, in one transaction.
pub struct PostgresLoader {
    connection: PgConnection,
    tables: Vec<TableColumns>,
}

impl PostgresLoader {
    /// Creates the schema of the backup. Nothing is visible before [`Self::finish`].
    ///
    /// # Errors
    /// [`SnapshotError`]; above all if the database is not empty, or a server uses it.
    pub async fn start(
        url: &str,
        password: Option<&str>,
        schema: &[String],
        tables: Vec<TableColumns>,
    ) -> Result<Self, SnapshotError> {
        let statements = migrations::statements(schema, "bytea")?;
        let mut connection = connect(url, password).await?;
        if !connect::take_advisory_lock(&mut connection).await? {
            return Err(StoreError::Locked.into());
        }
        let found: i64 = query_scalar(
            "SELECT COUNT(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace",
        )
        .fetch_one(&mut connection)
        .await?;
        if found > 0 {
            return Err(SnapshotError::NotEmpty);
        }
        run(&mut connection, "BEGIN").await?;
        for statement in statements {
            run(&mut connection, &statement).await?;
        }
        run(&mut connection, STEPS_TABLE).await?;
        let own = self::tables(&mut connection).await?;
        // Names go into statements, so they must be this program's own.
        for table in &tables {
            let own = own.iter().find(|own| own.name == table.name);
            let is_known = own.is_some_and(|own| {
                table.columns.iter().all(|column| own.columns.contains(column))
                    && own.columns.len() == table.columns.len()
            });
            if !is_known {
                return Err(SnapshotError::Invalid("it has tables that its schema does not have"));
            }
        }
        Ok(Self { connection, tables })
    }

    /// Loads a piece of a table.
    ///
    /// # Errors
    /// [`SnapshotError`]
    pub async fn load(
        &mut self,
        table: &str,
        content: &mut (dyn Read + Send),
    ) -> Result<(), SnapshotError> {
        let unknown = SnapshotError::Invalid("it has rows of an unknown table");
        let table = self.tables.iter().find(|known| known.name == table).ok_or(unknown)?;
        let statement = format!("COPY {} FROM STDIN", list(table));
        let mut copy = self.connection.copy_in_raw(&statement).await?;
        let mut buffer = vec![0; SENT_BYTES];
        loop {
            let read = content.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            copy.send(&buffer[..read]).await?;
        }
        copy.finish().await?;
        Ok(())
    }

    /// Marks the data as restored, and commits it.
    ///
    /// # Errors
    /// [`SnapshotError`]; the database is then as before, unless the answer of the commit was lost.
    pub async fn finish(
        mut self,
        schema: &[String],
        note: &RestoreNote,
    ) -> Result<(), SnapshotError> {
        let loaded: Vec<String> =
            query_scalar("SELECT version::text FROM seaql_migrations ORDER BY version")
                .fetch_all(&mut self.connection)
                .await?;
        if loaded != schema {
            return Err(SnapshotError::Invalid("its schema is not the one that the backup names"));
        }
        for statement in restored::statements(Backend::Postgres, note) {
            run(&mut self.connection, &statement).await?;
        }
        run(&mut self.connection, "COMMIT").await?;
        Ok(self.connection.close().await?)
    }
}

async fn connect(url: &str, password: Option<&str>) -> Result<PgConnection, SnapshotError> {
    // A large table takes longer than any statement of a server.
    let options = connect::postgres_options(url, password)?.options([("statement_timeout", "0")]);
    Ok(PgConnection::connect_with(&options).await?)
}

async fn run(connection: &mut PgConnection, statements: &str) -> Result<(), SnapshotError> {
    raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await?;
    Ok(())
}

/// All tables of the schema, by name.
async fn tables(connection: &mut PgConnection) -> Result<Vec<TableColumns>, SnapshotError> {
    let columns: Vec<(String, String)> = query_as(COLUMNS).fetch_all(connection).await?;
    let mut tables: Vec<TableColumns> = Vec::new();
    for (name, column) in columns {
        match tables.last_mut() {
            Some(last) if last.name == name => last.columns.push(column),
            _ => tables.push(TableColumns { name, columns: vec![column] }),
        }
    }
    Ok(tables)
}

/// `"table" ("column", …)`
fn list(table: &TableColumns) -> String {
    let quote = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = table.columns.iter().map(quote).collect();
    format!("{} ({})", quote(&table.name), columns.join(", "))
}

fn piece_name(table: &str, number: u32) -> String {
    format!("tables/{table}/{number:08}")
}
