//! The cost of the rows of durable commands in SQLite, written with the driver only: each command
//! is inserted, delivered and ended with its report, and every transaction is synced.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement, TransactionTrait as _, Value};
use uuid::Uuid;

/// Rows per statement and per transaction, as in the server's writer.
const PIECE: usize = 64;
const BATCH: usize = 512;
const DATA: &str = r#"{"parameters":{"NAME":"world"},"script":"hello"}"#;
const RESULT: &str = r#"{"exit_code":0,"duration_ms":3,"output_bytes":0,"stdout_bytes":0,"stderr_bytes":0,"dropped_bytes":0,"output_complete":true}"#;
const SCHEMA: [&str; 6] = [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "CREATE TABLE commands (id BLOB PRIMARY KEY, agent_id BLOB NOT NULL, data TEXT NOT NULL, \
     state TEXT NOT NULL, created_at INTEGER NOT NULL, finished_at INTEGER) WITHOUT ROWID",
    "CREATE INDEX commands_state ON commands (state, id)",
    "CREATE INDEX commands_open ON commands (agent_id, id) WHERE finished_at IS NULL",
    "CREATE TABLE reports (command_id BLOB PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID",
];

/// Commands per second for `count` commands, from the first insert to the last committed result.
pub async fn commands_per_s(folder: &Path, count: usize) -> Result<f64> {
    let path = folder.join(format!("bare-{}.db", Uuid::now_v7()));
    let mut options = sea_orm::ConnectOptions::new(format!("sqlite:{}?mode=rwc", path.display()));
    options.max_connections(1);
    let connection = Database::connect(options).await.context("open a database")?;
    for statement in SCHEMA {
        connection.execute_unprepared(statement).await.context("prepare a database")?;
    }
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let agents: Vec<Uuid> = (0..count).map(|_| Uuid::new_v4()).collect();
    let began_at = Instant::now();
    let ids: Vec<Uuid> = agents.iter().map(|_| Uuid::now_v7()).collect();
    let rows: Vec<_> = ids.iter().copied().zip(agents).collect();
    let ends = "UPDATE commands SET state = 'succeeded', finished_at = 1 WHERE id IN";
    for rows in rows.chunks(BATCH) {
        let transaction = connection.begin().await?;
        for rows in rows.chunks(PIECE) {
            let row = |(id, agent): &(Uuid, Uuid)| -> Vec<Value> {
                vec![(*id).into(), (*agent).into(), DATA.into(), "delivered".into(), now.into()]
            };
            let values = rows.iter().flat_map(row).collect();
            let sql = "INSERT INTO commands (id, agent_id, data, state, created_at) VALUES";
            run(&transaction, listed(sql, "(?,?,?,?,?)", rows.len()), values).await?;
        }
        transaction.commit().await?;
    }
    for ids in ids.chunks(BATCH) {
        let transaction = connection.begin().await?;
        for ids in ids.chunks(PIECE) {
            let list = format!("({})", listed("", "?", ids.len()));
            let values = ids.iter().map(|id| (*id).into()).collect();
            run(&transaction, format!("{ends} {list}"), values).await?;
            let report = |id: &Uuid| -> Vec<Value> { vec![(*id).into(), RESULT.into()] };
            let sql = "INSERT INTO reports (command_id, data) VALUES";
            let values = ids.iter().flat_map(report).collect();
            run(&transaction, listed(sql, "(?,?)", ids.len()), values).await?;
        }
        transaction.commit().await?;
    }
    let elapsed = began_at.elapsed();
    connection.close().await?;
    Ok(count as f64 / elapsed.as_secs_f64())
}

/// A statement with `count` placeholders.
fn listed(sql: &str, place: &str, count: usize) -> String {
    format!("{sql} {}", vec![place; count].join(","))
}

async fn run(
    transaction: &sea_orm::DatabaseTransaction,
    sql: String,
    values: Vec<Value>,
) -> Result<()> {
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    transaction.execute_raw(statement).await.context("write rows")?;
    Ok(())
}
