//! A generated dataset: executions of ninety days, written into the database of a stopped server.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement, Value};
use uuid::Uuid;

/// Age of the oldest execution; those older than 90 days would be deleted.
const SPAN: Duration = Duration::from_secs(80 * 24 * 3_600);
/// Rows per transaction.
const PIECE: u32 = 100_000;
/// Rare values of a script and a key.
const RARE: u32 = 100_000;
const AGENTS: u32 = 1_000;
/// The only query for more than fifty executions.
pub const LONG_PAGE: &str = "no filter, 500 a page";

/// The values that queries filter by.
pub struct Dataset {
    tenant_id: Uuid,
    first_ms: i64,
    step_ms: i64,
    executions: u32,
    job_id: Uuid,
    key_id: Uuid,
    rare_key_id: Uuid,
}

/// Ids are UUIDv7 in the order of the rows; everything else is scattered.
const COMMANDS: &str = r#"
    WITH RECURSIVE number(i) AS (SELECT $1 UNION ALL SELECT i + 1 FROM number WHERE i + 1 < $2)
    INSERT INTO commands (id, tenant_id, agent_id, command, data, state, requested_by,
        requested_from, created_at, expires_at, timeout_ms, lost_after_ms, delivered_at, started_at,
        finished_at, job_id, script, "trigger", is_indexed)
    SELECT unhex(printf('%012x7%03x8%s', at, i % 4096, substr(hex(randomblob(8)), 1, 15))), $5,
        unhex(printf('%032x', 1 + agent)), 'execute',
        printf('{"parameters":{"NAME":"somebody"},"script":"%s"}', script),
        CASE WHEN i % 20 = 0 THEN 'failed' WHEN i = 7 THEN 'lost' ELSE 'succeeded' END,
        CASE WHEN i % $9 = 11 THEN $8 ELSE $7 END, '127.0.0.1', at, at + 86400000, 3600000, 86400000,
        at + 1, at + 5, at + 900, CASE WHEN i < 10000 AND i % 10 = 0 THEN $6 END, script,
        CASE WHEN i % 100 = 3 THEN 'retry' ELSE 'api' END, TRUE
    FROM (SELECT i, $3 + i * $4 AS at, abs(random()) % $10 AS agent,
        CASE WHEN i % $9 = 13 THEN 'rare' ELSE printf('script-%d', abs(random()) % 30) END AS script
        FROM number)"#;
const REPORTS: &str = r#"
    INSERT INTO command_reports (command_id, is_late, outcome, data, reported_at)
    SELECT id, FALSE, state, '{"exit_code":0,"duration_ms":812,"output_bytes":24,"stdout_bytes":24,
        "stderr_bytes":0,"dropped_bytes":0,"output_complete":true}', finished_at
    FROM commands WHERE created_at >= $1 AND created_at < $2"#;
const JOB: &str =
    "INSERT INTO jobs (id, tenant_id, script, data, secret_names, target, agent_count,
    requested_by, created_at) VALUES ($1, $2, 'script-1', '{}', '[]', '{}', 1000, $3, $4)";
const LOOK_UP: &str = "SELECT * FROM commands WHERE tenant_id = $1 AND is_indexed
    ORDER BY id DESC LIMIT 50";

/// Opens the database of a stopped server.
pub async fn connect(database: &Path) -> Result<DatabaseConnection> {
    Database::connect(format!("sqlite:{}", database.display())).await.context("open the database")
}

impl Dataset {
    /// Writes `executions` executions and their reports.
    pub async fn fill(database: &Path, executions: u32) -> Result<Self> {
        let connection = connect(database).await?;
        let tenant = Statement::from_string(DbBackend::Sqlite, "SELECT id FROM tenants");
        let tenant = connection.query_one_raw(tenant).await?.context("find the tenant")?;
        let first = SystemTime::now().duration_since(UNIX_EPOCH)? - SPAN;
        let dataset = Self {
            tenant_id: tenant.try_get("", "id")?,
            first_ms: i64::try_from(first.as_millis())?,
            step_ms: i64::try_from(SPAN.as_millis())? / i64::from(executions),
            executions,
            job_id: Uuid::now_v7(),
            key_id: Uuid::now_v7(),
            rare_key_id: Uuid::now_v7(),
        };
        let job = [
            dataset.job_id.into(),
            dataset.tenant_id.into(),
            dataset.key_id.into(),
            dataset.first_ms.into(),
        ];
        run(&connection, JOB, job).await?;
        for from in (0..executions).step_by(PIECE as usize) {
            let to = executions.min(from + PIECE);
            dataset.write(&connection, from, to).await?;
        }
        connection.close().await?;
        Ok(dataset)
    }

    async fn write(&self, connection: &DatabaseConnection, from: u32, to: u32) -> Result<()> {
        let values = [
            from.into(),
            to.into(),
            self.first_ms.into(),
            self.step_ms.into(),
            self.tenant_id.into(),
            self.job_id.into(),
            self.key_id.into(),
            self.rare_key_id.into(),
            RARE.into(),
            AGENTS.into(),
        ];
        run(connection, COMMANDS, values).await?;
        run(connection, REPORTS, [self.at(from).into(), self.at(to).into()]).await
    }

    fn at(&self, row: u32) -> i64 {
        self.first_ms + i64::from(row) * self.step_ms
    }

    /// Names and query strings: each filter with common and rare values, and combinations.
    pub fn queries(&self) -> Vec<(&'static str, String)> {
        let agent = Uuid::from_u128(7);
        let instant = |row: u32| {
            let at = chrono::DateTime::from_timestamp_millis(self.at(row)).unwrap_or_default();
            at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        };
        let middle = self.executions / 2;
        let (after, before) = (instant(middle), instant(middle + self.executions / 10));
        let cursor = |row| Uuid::from_u128((self.at(row).cast_unsigned() as u128) << 80);
        vec![
            ("no filter", String::new()),
            ("no filter, in the middle", format!("cursor={}", cursor(middle))),
            (LONG_PAGE, "limit=500".into()),
            ("agent", format!("agent_id={agent}")),
            ("agent, in the middle", format!("agent_id={agent}&cursor={}", cursor(middle))),
            ("script", "script=script-7".into()),
            ("rare script", "script=rare".into()),
            ("job", format!("job_id={}", self.job_id)),
            ("state failed", "state=failed".into()),
            ("state lost, the one", "state=lost".into()),
            ("state running, none", "state=running".into()),
            ("state succeeded", "state=succeeded".into()),
            ("retries", "trigger=retry".into()),
            ("key", format!("requested_by={}", self.key_id)),
            ("rare key", format!("requested_by={}", self.rare_key_id)),
            ("a tenth in the middle", format!("created_after={after}&created_before={before}")),
            ("agent, failed", format!("agent_id={agent}&state=failed")),
            ("script, failed", "script=script-7&state=failed".into()),
            ("agent, script, retries", format!("agent_id={agent}&script=script-7&trigger=retry")),
        ]
    }

    /// Reads fifty rows like the server does; returns how many were found.
    pub async fn look_up(&self, connection: &DatabaseConnection) -> Result<usize> {
        let statement =
            Statement::from_sql_and_values(DbBackend::Sqlite, LOOK_UP, [self.tenant_id.into()]);
        Ok(connection.query_all_raw(statement).await?.len())
    }
}

async fn run<const N: usize>(
    connection: &DatabaseConnection,
    sql: &str,
    values: [Value; N],
) -> Result<()> {
    let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
    connection.execute_raw(statement).await.context("write the dataset")?;
    Ok(())
}
