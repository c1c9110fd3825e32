//! The export and the end of a tenant, checked against the schema: a table that is new is found here.

use std::collections::{BTreeMap, BTreeSet};

use muster_server::domain::ids::TenantId;
use muster_server::store::queries::{EXPORTED_TABLES, NOT_EXPORTED_TABLES, TenantAudit};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, audit};
use crate::on_both_databases;

on_both_databases!(
    every_table_of_a_tenant_is_exported_or_has_a_reason,
    export_has_every_table_of_a_tenant_and_no_secret,
    no_row_of_an_erased_tenant_is_left,
    deletion_waits_for_its_time_and_can_be_withdrawn_before,
);

/// Tables that belong to the server as a whole.
const OF_SERVER: [&str; 7] = [
    "device_logins",
    "mails",
    "registrations",
    "release_key_changes",
    "releases",
    "settings",
    "token_keys",
];

/// The tables, and the types of their columns.
type Schema = BTreeMap<String, BTreeMap<String, String>>;
/// Ids that rows of different tables share, by the name of their column.
type SharedIds = BTreeMap<&'static str, Uuid>;

impl Fixture {
    async fn query(&self, sql: &str) -> Vec<sea_orm::QueryResult> {
        let rows = self.rows().await;
        let statement = Statement::from_string(rows.get_database_backend(), sql);
        rows.query_all_raw(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn is_sqlite(&self) -> bool {
        self.rows().await.get_database_backend() == DbBackend::Sqlite
    }

    async fn schema(&self) -> Schema {
        let sql = match self.is_sqlite().await {
            true => {
                "SELECT m.name AS tbl, c.name AS col, lower(c.type) AS kind FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
            }
            false => {
                "SELECT table_name::text AS tbl, column_name::text AS col, data_type::text AS kind FROM information_schema.columns WHERE table_schema = current_schema()"
            }
        };
        let mut schema = Schema::new();
        for row in self.query(sql).await {
            let text = |name: &str| row.try_get::<String>("", name).expect("text");
            schema.entry(text("tbl")).or_default().insert(text("col"), text("kind"));
        }
        schema.retain(|table, _| table != "seaql_migrations" && !table.starts_with("sqlite_"));
        schema
    }

    async fn literal(&self, kind: &str, id: Uuid) -> String {
        let is_sqlite = self.is_sqlite().await;
        let hex = id.simple();
        match kind {
            "uuid" | "blob" | "bytea" if is_sqlite => format!("X'{hex}'"),
            "uuid" => format!("'{id}'"),
            "bytea" => format!("'\\x{hex}'"),
            "text" => format!("'secret-{hex}'"),
            "json" => "'[]'".into(),
            "boolean" => "FALSE".into(),
            _ => "1".into(),
        }
    }

    /// A row in every table that can hold something of a tenant.
    async fn fill(&self, schema: &Schema, ids: &SharedIds) {
        for (table, columns) in schema {
            if !OF_SERVER.contains(&table.as_str()) {
                self.insert(table, columns, ids, &[]).await;
            }
        }
        self.insert("commands", &schema["commands"], ids, &[("id", Uuid::now_v7())]).await;
        // The other index of a tenant's commands.
        let own = self.literal("uuid", ids["id of commands"]).await;
        self.query(&format!("UPDATE commands SET is_indexed = TRUE WHERE id = {own}")).await;
    }

    async fn insert(
        &self,
        table: &str,
        columns: &BTreeMap<String, String>,
        ids: &SharedIds,
        own: &[(&str, Uuid)],
    ) {
        let mut values = Vec::new();
        for (column, kind) in columns {
            let value = match own.iter().find(|(name, _)| name == column) {
                Some((_, id)) => *id,
                None => {
                    let of_table = format!("{column} of {table}");
                    let shared = ids.get(of_table.as_str()).or_else(|| ids.get(column.as_str()));
                    shared.copied().unwrap_or_else(Uuid::now_v7)
                }
            };
            values.push(match column.as_str() {
                "delete_at" => "NULL".into(),
                _ => self.literal(kind, value).await,
            });
        }
        let names: Vec<_> = columns.keys().map(|name| format!("\"{name}\"")).collect();
        let (names, values) = (names.join(", "), values.join(", "));
        self.query(&format!("INSERT INTO {table} ({names}) VALUES ({values})")).await;
    }

    /// How many rows have one of the ids, by table.
    async fn row_counts(&self, schema: &Schema, ids: &SharedIds) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for (table, columns) in schema {
            let mut conditions = Vec::new();
            for (name, id) in ids {
                let column = match name.split_once(" of ") {
                    Some((column, of)) if of == table => column,
                    Some(_) => continue,
                    None => name,
                };
                if columns.contains_key(column) {
                    conditions.push(format!("{column} = {}", self.literal("uuid", *id).await));
                }
            }
            if conditions.is_empty() {
                assert!(OF_SERVER.contains(&table.as_str()), "whose are the rows of {table}?");
                continue;
            }
            let rows = conditions.join(" OR ");
            let rows = self.query(&format!("SELECT count(*) AS n FROM {table} WHERE {rows}")).await;
            counts.insert(table.clone(), rows[0].try_get("", "n").expect("a count"));
        }
        counts
    }

    async fn delete_at(&self, tenant_id: TenantId, at_ms: i64) {
        let id = self.literal("uuid", tenant_id.0).await;
        self.query(&format!(
            "UPDATE tenants SET delete_at = {at_ms}, plan = 'pro' WHERE id = {id}"
        ))
        .await;
    }

    /// All lines of an export.
    async fn exported(&self, tenant_id: TenantId) -> Vec<(&'static str, serde_json::Value)> {
        let mut lines = Vec::new();
        for table in EXPORTED_TABLES {
            let mut after = None;
            loop {
                let page = self.store.tenant(tenant_id).export_page(table, after).await;
                let page = page.unwrap_or_else(|error| panic!("{table}: {error}"));
                lines.extend(page.rows.into_iter().map(|(table, row)| (table, row.into())));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        lines
    }
}

/// The ids of one tenant's rows.
fn shared_ids(tenant_id: TenantId) -> SharedIds {
    let (agent, command, key) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let (user, job, member) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    BTreeMap::from([
        ("id of tenants", tenant_id.0),
        ("tenant_id", tenant_id.0),
        ("id of agents", agent),
        ("agent_id", agent),
        ("id of commands", command),
        ("command_id", command),
        ("id of agent_keys", key),
        ("key_id", key),
        ("id of users", user),
        ("user_id", user),
        ("id of jobs", job),
        ("job_id", job),
        ("id of members", member),
        ("member_id", member),
    ])
}

fn audits(tenant_id: TenantId) -> TenantAudit {
    TenantAudit { requested: audit(tenant_id), in_tenant: None }
}

async fn every_table_of_a_tenant_is_exported_or_has_a_reason(fixture: Fixture) {
    let schema = fixture.schema().await;
    let of_tenants = schema.iter().filter(|(_, columns)| columns.contains_key("tenant_id"));
    let of_tenants: BTreeSet<_> = of_tenants.map(|(table, _)| table.as_str()).collect();
    assert!(of_tenants.len() > 10, "{of_tenants:?}");
    let left_out = NOT_EXPORTED_TABLES.iter().map(|(table, _)| *table);
    let known: BTreeSet<_> = EXPORTED_TABLES.into_iter().chain(left_out).collect();
    let known: BTreeSet<_> = known.into_iter().filter(|table| *table != "tenants").collect();
    assert_eq!(of_tenants, known, "add the table to the export, or to what is left out, and why");
}

async fn export_has_every_table_of_a_tenant_and_no_secret(fixture: Fixture) {
    let schema = fixture.schema().await;
    let (tenant_id, other) = (TenantId::new(), TenantId::new());
    let (ids, other_ids) = (shared_ids(tenant_id), shared_ids(other));
    fixture.fill(&schema, &ids).await;
    fixture.fill(&schema, &other_ids).await;
    for _ in 0..250 {
        fixture.insert("audit_entries", &schema["audit_entries"], &ids, &[]).await;
    }
    let lines = fixture.exported(tenant_id).await;
    let tables: BTreeSet<_> = lines.iter().map(|(table, _)| *table).collect();
    let beside = ["users", "agent_manifests", "command_reports", "output"];
    assert_eq!(tables, EXPORTED_TABLES.into_iter().chain(beside).collect());
    let entries = lines.iter().filter(|(table, _)| *table == "audit_entries");
    let entries: Vec<_> = entries.map(|(_, row)| row["id"].to_string()).collect();
    assert_eq!(entries.len(), 251);
    assert_eq!(entries.iter().collect::<BTreeSet<_>>().len(), 251, "each once");
    for (table, row) in &lines {
        let text = row.to_string();
        for id in other_ids.values() {
            assert!(!text.contains(&id.to_string()), "{table} of another tenant: {text}");
        }
        for secret in ["hash", "sealed", "fingerprint"] {
            assert!(!text.contains(secret), "{table}: {text}");
        }
    }
    let row = |table: &str| &lines.iter().find(|(name, _)| *name == table).expect("a row").1;
    assert_eq!(row("tenants")["id"], tenant_id.0.to_string());
    assert_eq!(row("agents")["created_at"], "1970-01-01T00:00:00.001Z");
    assert_eq!(row("output")["command_id"], ids["command_id"].to_string());
}

async fn no_row_of_an_erased_tenant_is_left(fixture: Fixture) {
    let schema = fixture.schema().await;
    let (tenant_id, other) = (TenantId::new(), TenantId::new());
    let (ids, other_ids) = (shared_ids(tenant_id), shared_ids(other));
    for ids in [&ids, &other_ids] {
        fixture.fill(&schema, ids).await;
    }
    for _ in 0..600 {
        fixture.insert("audit_entries", &schema["audit_entries"], &ids, &[]).await;
    }
    let before = fixture.row_counts(&schema, &ids).await;
    assert!(before.values().all(|count| *count > 0), "nothing to erase: {before:?}");
    let kept = fixture.row_counts(&schema, &other_ids).await;
    let system = fixture.store.system();
    // Not before its time.
    fixture.delete_at(tenant_id, NOW.0 + 1).await;
    assert_eq!(system.tenants_to_erase(NOW).await.expect("read"), []);
    assert!(!system.erase_slice(tenant_id, NOW).await.expect("erase"));
    assert_eq!(fixture.row_counts(&schema, &ids).await, before);
    fixture.delete_at(tenant_id, NOW.0).await;
    assert_eq!(system.tenants_to_erase(NOW).await.expect("read"), [tenant_id]);
    let mut slices = 0;
    while system.erase_slice(tenant_id, NOW).await.expect("erase") {
        slices += 1;
        // The server may stop after any slice: what is left is found again, and not restored.
        assert_eq!(system.tenants_to_erase(NOW).await.expect("read"), [tenant_id]);
        let restored = fixture.store.tenant(tenant_id);
        let restored = restored.set_deletion(None, true, NOW, audits(tenant_id)).await;
        assert_eq!(restored.expect("try"), None);
    }
    assert!(slices > 10, "{slices}");
    let after = fixture.row_counts(&schema, &ids).await;
    assert!(after.values().all(|count| *count == 0), "left: {after:?}");
    assert_eq!(fixture.row_counts(&schema, &other_ids).await, kept, "of another tenant");
    assert_eq!(system.tenants_to_erase(NOW).await.expect("read"), []);
}

async fn deletion_waits_for_its_time_and_can_be_withdrawn_before(fixture: Fixture) {
    fixture.make_tenant().await;
    let id = fixture.tenant_id;
    let (tenant, system) = (fixture.store.tenant(id), fixture.store.system());
    let set_as = async |at, is_operator, now| {
        let row = tenant.set_deletion(at, is_operator, now, audits(id)).await.expect("change");
        row.map(|row| row.delete_at)
    };
    let set = async |at, now| set_as(at, false, now).await;
    let due = NOW.plus_ms(1_000);
    assert_eq!(set(Some(due), NOW).await, Some(Some(due)));
    assert_eq!(system.closed_tenants().await.expect("read"), [id]);
    // A second request does not move it.
    assert_eq!(set(Some(due.plus_ms(5)), NOW).await, Some(Some(due)));
    assert_eq!(set(None, NOW).await, Some(None));
    assert_eq!(system.closed_tenants().await.expect("read"), []);
    assert_eq!(set(None, NOW).await, Some(None), "nothing to withdraw");
    assert_eq!(set(Some(due), NOW).await, Some(Some(due)));
    assert_eq!(set(None, due).await, None, "the deletion may have begun");
    // What the operator asks for, the tenant can't withdraw, also if it asked for it first.
    assert_eq!(set_as(Some(due.plus_ms(5)), true, NOW).await, Some(Some(due)));
    assert_eq!(set(None, NOW).await, Some(Some(due)));
    assert_eq!(set_as(None, true, NOW).await, Some(None));
    assert_eq!(set_as(Some(due), true, NOW).await, Some(Some(due)));
    assert_eq!(set(Some(due), NOW).await, Some(Some(due)), "asking again changes nothing");
    assert_eq!(set(None, NOW).await, Some(Some(due)));
    let stranger = fixture.store.tenant(TenantId::new());
    let stranger = stranger.set_deletion(Some(due), false, NOW, audits(id)).await;
    assert_eq!(stranger.expect("try"), None);
}
