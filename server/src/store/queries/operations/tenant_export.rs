//! Reads everything of one tenant in pages, as JSON without secrets.
//!
//! Rows are read by the types of their columns, so that a new column is part of the export by itself.
//! A test walks the schema: a table with the column `tenant_id` is in [`TABLES`] or in
//! [`NOT_EXPORTED_TABLES`].

use std::collections::HashMap;

use sea_orm::sea_query::{Alias, ColumnType, Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait, ConnectionTrait as _, DbErr, EntityTrait, IdenStatic as _, Iterable as _,
    QueryFilter as _, QueryOrder as _, QueryResult, QuerySelect as _, QueryTrait as _,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::access::{
    agent_key, api_key, audit_entry, invitation, member, tenant, user,
};
use crate::store::entities::commands::{
    approval, approval_rule, command, command_report, job, ladder, output_blob, output_chunk,
    rollout,
};
use crate::store::entities::fleet::{agent, agent_event, agent_manifest};
use crate::store::entities::integrations::{alert, alert_rule, delivery, integration};
use crate::store::entities::library::{
    assignment, package, package_signature, script, script_body, script_signature, script_version,
};
use crate::store::entities::releases::{agent_update, group};
use crate::store::entities::schedules::{
    calendar, fire, hook, hook_delivery, schedule, trigger_state,
};
use crate::store::queries::TenantScope;

/// Rows of a page.
const PAGE_ROWS: u64 = 100;

/// What is exported, in this order. Rows that belong to others follow them: the person of a member, the
/// manifest of an agent, the report and the output of a command.
pub const TABLES: [&str; 33] = [
    "tenants",
    "api_keys",
    "agent_keys",
    "members",
    "invitations",
    "agents",
    "agent_groups",
    "agent_updates",
    "scripts",
    "script_versions",
    "script_bodies",
    "script_signatures",
    "packages",
    "package_signatures",
    "assignments",
    "schedules",
    "fires",
    "trigger_states",
    "calendars",
    "hooks",
    "hook_deliveries",
    "jobs",
    "rollouts",
    "commands",
    "agent_events",
    "alert_rules",
    "alerts",
    "integrations",
    "deliveries",
    "approval_rules",
    "ladders",
    "approvals",
    "audit_entries",
];

/// Tables of a tenant that are not exported, and why.
pub const NOT_EXPORTED_TABLES: [(&str, &str); 21] = [
    ("agent_fact_reports", "what hosts report again when they connect"),
    ("agent_facts", "what hosts report again when they connect"),
    ("alert_states", "what checks of alert rules have measured since minutes"),
    ("api_key_secrets", "hashes of secrets"),
    ("assignment_rollouts", "waves that are under way, which end; the audit log has them"),
    ("assignment_states", "what hosts report again when they connect"),
    ("audit_anchors", "part of the export of the audit log, which can be verified"),
    ("audit_heads", "part of the export of the audit log, which can be verified"),
    ("audit_links", "part of the export of the audit log, which can be verified"),
    ("client_certificates", "worth nothing outside of this server"),
    ("idempotency_records", "belong to requests, and are deleted after a day"),
    ("key_notices", "which keys were reported before they expire"),
    ("retired_agent_secrets", "hashes of secrets"),
    ("rollout_shares", "agents that waves have reached; gone when the rollout ends"),
    ("service_controls", "what people wanted of services on single agents; the audit log has it"),
    ("storage_days", "measurements of this server"),
    ("storage_purges", "the last request to delete old history; the audit log has it"),
    ("storage_usage", "measurements of this server"),
    ("uploaded_files", "copies of files of people, which are deleted a week after their last use"),
    ("user_sessions", "sign-ins, which are worth nothing outside of this server"),
    ("webhook_keys", "secrets"),
];

/// Columns that are secrets, hashes of them, or of this server only.
const HIDDEN: [&str; 12] = [
    "secret_hash",
    "previous_secret_hash",
    "next_fingerprint",
    "password_hash",
    "token_hash",
    "sealed_parameters",
    "sealed",
    "queue_changes",
    "is_indexed",
    "manifest_bytes",
    "manifest_scripts",
    "webhook_url",
];

/// A part of the export.
#[derive(Debug, Default)]
pub struct ExportPage {
    /// Table and row.
    pub rows: Vec<(&'static str, Map<String, Value>)>,
    /// Where the table continues; `None` at its end.
    pub next: Option<Uuid>,
}

impl TenantScope {
    /// The rows of a table after an id, in the order of their ids. Empty for another table than those
    /// of [`TABLES`].
    pub async fn export_page(
        &self,
        table: &str,
        after: Option<Uuid>,
    ) -> Result<ExportPage, StoreError> {
        match table {
            "tenants" => self.page::<tenant::Entity>("tenants", ("id", "id"), after).await,
            "api_keys" => self.table::<api_key::Entity>("api_keys", after).await,
            "agent_keys" => self.table::<agent_key::Entity>("agent_keys", after).await,
            "members" => {
                let page = self.table::<member::Entity>("members", after).await?;
                self.beside::<user::Entity>(page, ("users", "id"), "user_id").await
            }
            "invitations" => self.table::<invitation::Entity>("invitations", after).await,
            "agents" => {
                let page = self.table::<agent::Entity>("agents", after).await?;
                self.beside::<agent_manifest::Entity>(page, ("agent_manifests", "agent_id"), "id")
                    .await
            }
            "agent_groups" => self.table::<group::Entity>("agent_groups", after).await,
            "agent_updates" => {
                let keys = ("tenant_id", "agent_id");
                self.page::<agent_update::Entity>("agent_updates", keys, after).await
            }
            "scripts" => self.table::<script::Entity>("scripts", after).await,
            "script_versions" => {
                self.table::<script_version::Entity>("script_versions", after).await
            }
            "script_bodies" => self.table::<script_body::Entity>("script_bodies", after).await,
            "script_signatures" => {
                self.table::<script_signature::Entity>("script_signatures", after).await
            }
            "packages" => self.table::<package::Entity>("packages", after).await,
            "package_signatures" => {
                self.table::<package_signature::Entity>("package_signatures", after).await
            }
            "assignments" => self.table::<assignment::Entity>("assignments", after).await,
            "schedules" => self.table::<schedule::Entity>("schedules", after).await,
            "fires" => self.table::<fire::Entity>("fires", after).await,
            "trigger_states" => self.table::<trigger_state::Entity>("trigger_states", after).await,
            "calendars" => self.table::<calendar::Entity>("calendars", after).await,
            "hooks" => self.table::<hook::Entity>("hooks", after).await,
            "hook_deliveries" => {
                self.table::<hook_delivery::Entity>("hook_deliveries", after).await
            }
            "jobs" => self.table::<job::Entity>("jobs", after).await,
            "rollouts" => {
                let keys = ("tenant_id", "job_id");
                self.page::<rollout::Entity>("rollouts", keys, after).await
            }
            "commands" => self.commands_with_output(after).await,
            "agent_events" => self.table::<agent_event::Entity>("agent_events", after).await,
            "alert_rules" => self.table::<alert_rule::Entity>("alert_rules", after).await,
            "alerts" => self.table::<alert::Entity>("alerts", after).await,
            "integrations" => self.table::<integration::Entity>("integrations", after).await,
            "deliveries" => self.table::<delivery::Entity>("deliveries", after).await,
            "approval_rules" => self.table::<approval_rule::Entity>("approval_rules", after).await,
            "ladders" => {
                let keys = ("tenant_id", "tenant_id");
                self.page::<ladder::Entity>("ladders", keys, after).await
            }
            "approvals" => self.table::<approval::Entity>("approvals", after).await,
            "audit_entries" => self.table::<audit_entry::Entity>("audit_entries", after).await,
            _ => Ok(ExportPage::default()),
        }
    }

    async fn table<E: EntityTrait>(
        &self,
        name: &'static str,
        after: Option<Uuid>,
    ) -> Result<ExportPage, StoreError> {
        self.page::<E>(name, ("tenant_id", "id"), after).await
    }

    /// One page. `keys`: the columns with the tenant and with the id that orders the rows.
    async fn page<E: EntityTrait>(
        &self,
        name: &'static str,
        (tenant, id): (&'static str, &'static str),
        after: Option<Uuid>,
    ) -> Result<ExportPage, StoreError> {
        let mut query = E::find()
            .filter(Expr::col(Alias::new(tenant)).eq(self.tenant_id))
            .order_by_asc(Expr::col(Alias::new(id)))
            .limit(PAGE_ROWS);
        if let Some(after) = after {
            query = query.filter(Expr::col(Alias::new(id)).gt(after));
        }
        let rows = self.read::<E>(query).await?;
        let next = match rows.last().and_then(|row| row.get(id)).and_then(Value::as_str) {
            Some(last) if rows.len() as u64 == PAGE_ROWS => Uuid::parse_str(last).ok(),
            _ => None,
        };
        Ok(ExportPage { rows: rows.into_iter().map(|row| (name, row)).collect(), next })
    }

    /// Adds the rows that belong to those of a page. `key`: their column with the value that the
    /// page's rows have in `of`.
    async fn beside<E: EntityTrait>(
        &self,
        mut page: ExportPage,
        (name, key): (&'static str, &'static str),
        of: &'static str,
    ) -> Result<ExportPage, StoreError> {
        let ids: Vec<Uuid> = page.rows.iter().filter_map(|(_, row)| id_in(row, of)).collect();
        if !ids.is_empty() {
            let query = E::find().filter(Expr::col(Alias::new(key)).is_in(ids));
            let rows = self.read::<E>(query).await?;
            page.rows.extend(rows.into_iter().map(|row| (name, row)));
        }
        Ok(page)
    }

    /// Commands with their reports, and with what is stored of their output: its size.
    async fn commands_with_output(&self, after: Option<Uuid>) -> Result<ExportPage, StoreError> {
        let page = self.table::<command::Entity>("commands", after).await?;
        let ids: Vec<CommandId> =
            page.rows.iter().filter_map(|(_, row)| id_in(row, "id")).map(CommandId).collect();
        let reports = ("command_reports", "command_id");
        let mut page = self.beside::<command_report::Entity>(page, reports, "id").await?;
        if ids.is_empty() {
            return Ok(page);
        }
        let end = Expr::col(output_chunk::Column::OffsetBytes)
            .add(Expr::col(output_chunk::Column::LengthBytes));
        let chunks: Vec<(CommandId, i64)> = output_chunk::Entity::find()
            .select_only()
            .column(output_chunk::Column::CommandId)
            .column_as(end.max(), "bytes")
            .filter(output_chunk::Column::CommandId.is_in(ids.iter().copied()))
            .group_by(output_chunk::Column::CommandId)
            .into_tuple()
            .all(&self.reader)
            .await?;
        let blobs: Vec<(CommandId, i64)> = output_blob::Entity::find()
            .select_only()
            .column(output_blob::Column::CommandId)
            .column(output_blob::Column::LengthBytes)
            .filter(output_blob::Column::CommandId.is_in(ids.iter().copied()))
            .filter(output_blob::Column::DroppedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        // A compaction between the two reads leaves the same number in both.
        let sizes: HashMap<CommandId, i64> = chunks.into_iter().chain(blobs).collect();
        let output = |id: &CommandId| {
            let bytes = sizes.get(id).filter(|bytes| **bytes > 0)?;
            let path = format!("/api/commands/{id}/output");
            let row = json!({"command_id": id, "output_bytes": bytes, "path": path});
            Some(("output", row.as_object().cloned()?))
        };
        page.rows.extend(ids.iter().filter_map(output));
        Ok(page)
    }

    async fn read<E: EntityTrait>(
        &self,
        query: sea_orm::Select<E>,
    ) -> Result<Vec<Map<String, Value>>, StoreError> {
        let is_shown = |column: &E::Column| !HIDDEN.contains(&column.as_str());
        let columns: Vec<E::Column> = E::Column::iter().filter(is_shown).collect();
        let query = query.select_only().columns(columns.iter().copied());
        let statement = query.build(self.reader.get_database_backend());
        let rows = self.reader.query_all_raw(statement).await?;
        let to_map = |row: &QueryResult| {
            let field = |column: &E::Column| Ok((column.as_str().to_owned(), field(row, column)?));
            columns.iter().map(field).collect::<Result<Map<_, _>, DbErr>>()
        };
        Ok(rows.iter().map(to_map).collect::<Result<_, _>>()?)
    }
}

fn id_in(row: &Map<String, Value>, column: &str) -> Option<Uuid> {
    Uuid::parse_str(row.get(column)?.as_str()?).ok()
}

/// One value by the type of its column.
fn field<C: ColumnTrait>(row: &QueryResult, column: &C) -> Result<Value, DbErr> {
    let name = column.as_str();
    Ok(match column.def().get_column_type() {
        ColumnType::Uuid => json!(row.try_get::<Option<Uuid>>("", name)?),
        ColumnType::BigInteger => match row.try_get::<Option<i64>>("", name)? {
            Some(ms) if is_instant(name) => json!(Timestamp(ms)),
            number => json!(number),
        },
        ColumnType::Integer => json!(row.try_get::<Option<i32>>("", name)?),
        ColumnType::Double => json!(row.try_get::<Option<f64>>("", name)?),
        ColumnType::Boolean => json!(row.try_get::<Option<bool>>("", name)?),
        ColumnType::Json | ColumnType::JsonBinary => {
            row.try_get::<Option<Value>>("", name)?.unwrap_or_default()
        }
        ColumnType::Binary(_) | ColumnType::VarBinary(_) | ColumnType::Blob => {
            let bytes = row.try_get::<Option<Vec<u8>>>("", name)?;
            let hex =
                |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            json!(bytes.map(hex))
        }
        _ => json!(row.try_get::<Option<String>>("", name)?),
    })
}

/// Instants are named `…_at`, with these exceptions.
fn is_instant(name: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "at",
        "failing_since",
        "handled_until",
        "in_force_since",
        "previous_valid_until",
        "silenced_until",
        "valid_until",
    ];
    name.ends_with("_at") || OTHERS.contains(&name)
}
