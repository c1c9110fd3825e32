//! Adds up what is stored, in slices of rows, so that no query reads a whole table.
//!
//! Sizes of files are read from their rows and exact. Sizes of rows are estimated: the length of their long
//! texts, and a fixed number of bytes for all other columns and the entries of indexes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, DbErr, Statement};
use uuid::Uuid;

use crate::domain::ids::{TenantId, first_id_at};
use crate::domain::operations::storage::usage::{
    CauseUsage, ScriptUsage, StorageCause, StorageUsage,
};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::queries::SystemScope;

/// Rows of a slice.
const SLICE_ROWS: i64 = 5_000;
/// Agents of a slice, each with its telemetry of a day.
const SLICE_AGENTS: i64 = 20;
/// How much longer than a slice the pause after it is, and the longest pause.
const PAUSE_FACTOR: u32 = 4;
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Most scripts of a tenant that are counted one by one.
const MAX_COUNTED_SCRIPTS: usize = 10_000;
/// Executions of this time show who writes now: 7 days.
const RECENT_MS: u64 = 7 * 24 * 3_600_000;

/// A table with the columns `id` and `tenant_id`.
struct Table {
    name: &'static str,
    cause: StorageCause,
    /// Expression for the length of the texts of a row.
    texts: &'static str,
    /// Expression for the size of the file of a row.
    file: &'static str,
    /// Everything else of a row, with its index entries.
    row_bytes: u64,
}

const fn table(
    name: &'static str,
    cause: StorageCause,
    texts: &'static str,
    row_bytes: u64,
) -> Table {
    Table { name, cause, texts, file: "0", row_bytes }
}

const TABLES: [Table; 12] = [
    table("jobs", StorageCause::History, "octet_length(data) + octet_length(target)", 300),
    table("approvals", StorageCause::History, "octet_length(data)", 500),
    table("fires", StorageCause::History, "COALESCE(octet_length(detail), 0)", 300),
    table("hook_deliveries", StorageCause::History, "COALESCE(octet_length(detail), 0)", 300),
    table("agent_events", StorageCause::Telemetry, "COALESCE(octet_length(detail), 0)", 160),
    table("deliveries", StorageCause::Deliveries, "COALESCE(octet_length(data), 0)", 700),
    table("alerts", StorageCause::Deliveries, "octet_length(rule_name)", 350),
    // With its part of a link of the chain.
    table("audit_entries", StorageCause::Audit, "octet_length(detail)", 450),
    table("script_versions", StorageCause::Library, "octet_length(document)", 300),
    table("script_bodies", StorageCause::Library, "octet_length(body)", 120),
    Table {
        name: "packages",
        cause: StorageCause::Library,
        texts: "octet_length(document)",
        file: "archive_bytes",
        row_bytes: 400,
    },
    Table {
        name: "uploaded_files",
        cause: StorageCause::Library,
        texts: "octet_length(name)",
        file: "CASE WHEN completed_at IS NULL THEN 0 ELSE size_bytes END",
        row_bytes: 350,
    },
];

/// By tenant and script, of one slice of commands: the commands themselves.
const COMMANDS: &str = "SELECT tenant_id, script, \
    CAST(CASE WHEN id >= $3 THEN 1 ELSE 0 END AS bigint), CAST(COUNT(*) AS bigint), \
    CAST(COALESCE(SUM(octet_length(data)), 0) AS bigint), CAST(0 AS bigint), CAST(0 AS bigint) \
    FROM commands WHERE id > $1 AND id <= $2 GROUP BY 1, 2, 3";
const COMMAND_ROW_BYTES: u64 = 550;
/// Their results.
const REPORTS: &str = "SELECT c.tenant_id, c.script, \
    CAST(CASE WHEN c.id >= $3 THEN 1 ELSE 0 END AS bigint), CAST(COUNT(*) AS bigint), \
    CAST(COALESCE(SUM(octet_length(r.data) + COALESCE(octet_length(r.error), 0) \
        + COALESCE(octet_length(r.attestation), 0)), 0) AS bigint), CAST(0 AS bigint), CAST(0 AS bigint) \
    FROM command_reports r JOIN commands c ON c.id = r.command_id \
    WHERE r.command_id > $1 AND r.command_id <= $2 GROUP BY 1, 2, 3";
const REPORT_ROW_BYTES: u64 = 90;
/// Their output in compacted files: the size of the files, and of the output in them.
const BLOBS: &str = "SELECT c.tenant_id, c.script, \
    CAST(CASE WHEN c.id >= $3 THEN 1 ELSE 0 END AS bigint), CAST(COUNT(*) AS bigint), CAST(0 AS bigint), \
    CAST(COALESCE(SUM(CASE WHEN b.dropped_at IS NULL THEN b.stored_bytes ELSE 0 END), 0) AS bigint), \
    CAST(COALESCE(SUM(CASE WHEN b.dropped_at IS NULL THEN b.length_bytes ELSE 0 END), 0) AS bigint) \
    FROM output_blobs b JOIN commands c ON c.id = b.command_id \
    WHERE b.command_id > $1 AND b.command_id <= $2 GROUP BY 1, 2, 3";
const BLOB_ROW_BYTES: u64 = 110;
/// Their output in rows and live files. Rows that a file has replaced wait for their deletion.
const CHUNKS: &str = "SELECT c.tenant_id, c.script, \
    CAST(CASE WHEN c.id >= $3 THEN 1 ELSE 0 END AS bigint), CAST(COUNT(*) AS bigint), \
    CAST(COALESCE(SUM(octet_length(o.records)), 0) AS bigint), \
    CAST(COALESCE(SUM(o.file_bytes), 0) AS bigint), \
    CAST(COALESCE(SUM(CASE WHEN b.command_id IS NULL OR o.offset_bytes >= b.length_bytes \
        THEN o.length_bytes ELSE 0 END), 0) AS bigint) \
    FROM output_chunks o JOIN commands c ON c.id = o.command_id \
    LEFT JOIN output_blobs b ON b.command_id = o.command_id \
    WHERE o.command_id > $1 AND o.command_id <= $2 GROUP BY 1, 2, 3";
const CHUNK_ROW_BYTES: u64 = 90;
const TELEMETRY: &str = "SELECT a.tenant_id, CAST(COUNT(*) AS bigint), CAST(0 AS bigint), CAST(0 AS bigint) \
    FROM telemetry_samples t JOIN agents a ON a.id = t.agent_id \
    WHERE t.agent_id > $1 AND t.agent_id <= $2 GROUP BY 1";
const SAMPLE_ROW_BYTES: u64 = 120;

/// Tenant, script, whether it is recent, rows, texts, files, written.
type ScriptRow = (TenantId, Option<String>, i64, i64, i64, i64, i64);

/// What a tenant has so far.
#[derive(Debug, Default)]
struct Counted {
    causes: BTreeMap<StorageCause, (u64, u64, u64)>,
    scripts: BTreeMap<Option<String>, ScriptUsage>,
    /// Scripts beyond [`MAX_COUNTED_SCRIPTS`].
    rest: ScriptUsage,
}

impl Counted {
    fn add(&mut self, cause: StorageCause, rows: u64, files: u64, row_bytes: u64) {
        let sums = self.causes.entry(cause).or_default();
        *sums = (sums.0 + rows, sums.1 + files, sums.2 + row_bytes);
    }

    fn script(&mut self, name: Option<String>) -> &mut ScriptUsage {
        if !self.scripts.contains_key(&name) && self.scripts.len() >= MAX_COUNTED_SCRIPTS {
            return &mut self.rest;
        }
        let new = ScriptUsage { script: name.clone(), ..ScriptUsage::default() };
        self.scripts.entry(name).or_insert(new)
    }

    fn into_usage(self) -> StorageUsage {
        let cause = |(cause, (row_count, file_bytes, estimated_row_bytes))| CauseUsage {
            cause,
            row_count,
            file_bytes,
            estimated_row_bytes,
        };
        let causes = self.causes.into_iter().map(cause).collect();
        let mut usage = StorageUsage::new(causes, self.scripts.into_values().collect());
        usage.other_scripts.add(&self.rest);
        usage
    }
}

/// Reads what is stored, and how much time that leaves for others.
pub(super) struct StorageWalk<'a> {
    pub system: &'a SystemScope,
    pub now: Timestamp,
    /// Whether others use the database meanwhile.
    pub is_paced: bool,
}

impl StorageWalk<'_> {
    /// What each tenant stores, and, by the nil id, what all of them and the server together do.
    pub async fn run(&self) -> Result<BTreeMap<TenantId, StorageUsage>, StoreError> {
        let mut counted = BTreeMap::new();
        self.commands(&mut counted).await?;
        for table in &TABLES {
            self.table(table, &mut counted).await?;
        }
        self.telemetry(&mut counted).await?;
        let mut all = Counted::default();
        for found in counted.values() {
            for (cause, (rows, files, row_bytes)) in &found.causes {
                all.add(*cause, *rows, *files, *row_bytes);
            }
            for (name, script) in &found.scripts {
                all.script(name.clone()).add(script);
            }
            all.rest.add(&found.rest);
        }
        counted.insert(TenantId(Uuid::nil()), all);
        Ok(counted.into_iter().map(|(id, found)| (id, found.into_usage())).collect())
    }

    async fn commands(&self, counted: &mut BTreeMap<TenantId, Counted>) -> Result<(), StoreError> {
        let recent = first_id_at(self.now.minus_ms(RECENT_MS));
        let mut after = Uuid::nil();
        while let Some(last) = self.slice_end("commands", after, SLICE_ROWS).await? {
            let started_at = Instant::now();
            for (query, cause, row_bytes) in [
                (COMMANDS, StorageCause::History, COMMAND_ROW_BYTES),
                (REPORTS, StorageCause::History, REPORT_ROW_BYTES),
                (BLOBS, StorageCause::Output, BLOB_ROW_BYTES),
                (CHUNKS, StorageCause::Output, CHUNK_ROW_BYTES),
            ] {
                for row in self.rows::<ScriptRow>(query, [after, last, recent].to_vec()).await? {
                    let (tenant_id, script, is_recent, rows, texts, files, written) = row;
                    let [rows, texts, files, written] =
                        [rows, texts, files, written].map(i64::unsigned_abs);
                    let found = counted.entry(tenant_id).or_default();
                    let in_rows = texts + rows * row_bytes;
                    found.add(cause, rows, files, in_rows);
                    let script = found.script(script);
                    if cause == StorageCause::History {
                        script.history_bytes += in_rows;
                    } else {
                        script.output_bytes += files + in_rows;
                        script.written_bytes += written;
                    }
                    if query == COMMANDS {
                        script.execution_count += rows;
                    }
                    if is_recent == 1 {
                        script.recent_bytes += files + in_rows;
                    }
                }
            }
            self.pause(started_at).await;
            after = last;
        }
        Ok(())
    }

    async fn table(
        &self,
        table: &Table,
        counted: &mut BTreeMap<TenantId, Counted>,
    ) -> Result<(), StoreError> {
        let Table { name, cause, texts, file, row_bytes } = table;
        let query = format!(
            "SELECT tenant_id, CAST(COUNT(*) AS bigint), CAST(COALESCE(SUM({texts}), 0) AS bigint), \
             CAST(COALESCE(SUM({file}), 0) AS bigint) FROM {name} WHERE id > $1 AND id <= $2 GROUP BY 1"
        );
        let sums = (query.as_str(), *cause, *row_bytes);
        self.slices((name, SLICE_ROWS), sums, counted).await
    }

    async fn telemetry(&self, counted: &mut BTreeMap<TenantId, Counted>) -> Result<(), StoreError> {
        let sums = (TELEMETRY, StorageCause::Telemetry, SAMPLE_ROW_BYTES);
        self.slices(("agents", SLICE_AGENTS), sums, counted).await
    }

    /// Adds up by tenant, in slices of the rows of a table.
    async fn slices(
        &self,
        (table, slice): (&str, i64),
        (query, cause, row_bytes): (&str, StorageCause, u64),
        counted: &mut BTreeMap<TenantId, Counted>,
    ) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        while let Some(last) = self.slice_end(table, after, slice).await? {
            let started_at = Instant::now();
            for row in self.rows::<(TenantId, i64, i64, i64)>(query, [after, last].to_vec()).await?
            {
                let (tenant_id, rows, texts, files) = row;
                let [rows, texts, files] = [rows, texts, files].map(i64::unsigned_abs);
                let found = counted.entry(tenant_id).or_default();
                found.add(cause, rows, files, texts + rows * row_bytes);
            }
            self.pause(started_at).await;
            after = last;
        }
        Ok(())
    }

    /// The last id of the next slice of a table; `None` at its end.
    async fn slice_end(
        &self,
        table: &str,
        after: Uuid,
        slice: i64,
    ) -> Result<Option<Uuid>, StoreError> {
        let query = format!(
            "SELECT id FROM (SELECT id FROM {table} WHERE id > $1 ORDER BY id LIMIT {slice}) AS slice \
             ORDER BY id DESC LIMIT 1"
        );
        Ok(self.rows::<(Uuid,)>(&query, vec![after]).await?.pop().map(|(id,)| id))
    }

    async fn rows<R: sea_orm::TryGetableMany>(
        &self,
        query: &str,
        ids: Vec<Uuid>,
    ) -> Result<Vec<R>, StoreError> {
        let reader = &self.system.reader;
        let values: Vec<sea_orm::Value> = ids.into_iter().map(Into::into).collect();
        let statement =
            Statement::from_sql_and_values(reader.get_database_backend(), query, values);
        let mut rows = Vec::new();
        for row in reader.query_all_raw(statement).await? {
            rows.push(R::try_get_many_by_index(&row).map_err(DbErr::from)?);
        }
        Ok(rows)
    }

    async fn pause(&self, started_at: Instant) {
        if self.is_paced {
            tokio::time::sleep((started_at.elapsed() * PAUSE_FACTOR).min(MAX_PAUSE)).await;
        }
    }
}
