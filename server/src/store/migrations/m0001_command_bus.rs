//! The first schema.

use sea_orm_migration::prelude::*;

/// Makes every table of the command bus.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Half of it would keep the next start from doing the rest.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        for index in INDEXES {
            manager.get_connection().execute_unprepared(index).await?;
        }
        Ok(())
    }
}

/// Partial indexes keep the hot ones as small as the work that is open.
const INDEXES: [&str; 13] = [
    "CREATE UNIQUE INDEX api_keys_secret ON api_keys (secret_hash)",
    "CREATE INDEX api_keys_tenant ON api_keys (tenant_id, id)",
    "CREATE UNIQUE INDEX agent_keys_secret ON agent_keys (secret_hash)",
    "CREATE INDEX agent_keys_previous ON agent_keys (previous_secret_hash) WHERE previous_secret_hash IS NOT NULL",
    "CREATE INDEX agents_tenant ON agents (tenant_id, id)",
    "CREATE INDEX agents_identity ON agents (key_id, identity)",
    "CREATE INDEX agent_events_agent ON agent_events (agent_id, id)",
    "CREATE INDEX commands_open ON commands (agent_id, id) WHERE finished_at IS NULL",
    "CREATE INDEX commands_history ON commands (tenant_id, id)",
    "CREATE INDEX commands_expiry ON commands (expires_at) WHERE state = 'queued'",
    "CREATE INDEX telemetry_age ON telemetry_samples (at)",
    "CREATE INDEX idempotency_age ON idempotency_records (created_at)",
    "CREATE INDEX audit_tenant ON audit_entries (tenant_id, id)",
];

fn column(name: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(name))
}

fn table(
    name: &'static str,
    key: &[&'static str],
    columns: Vec<ColumnDef>,
) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(Alias::new(name));
    for mut definition in columns {
        table.col(&mut definition);
    }
    let mut primary = Index::create();
    for part in key {
        primary.col(Alias::new(*part));
    }
    table.primary_key(&mut primary);
    table.take()
}

fn tables() -> Vec<TableCreateStatement> {
    vec![
        table(
            "tenants",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("name").text().not_null().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "api_keys",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("name").text().not_null().to_owned(),
                column("prefix").text().not_null().to_owned(),
                column("secret_hash").blob().not_null().to_owned(),
                column("role").text().not_null().to_owned(),
                column("scopes").json().not_null().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
                column("expires_at").big_integer().to_owned(),
                column("revoked_at").big_integer().to_owned(),
            ],
        ),
        table(
            "agent_keys",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("name").text().not_null().to_owned(),
                column("prefix").text().not_null().to_owned(),
                column("secret_hash").blob().not_null().to_owned(),
                column("previous_secret_hash").blob().to_owned(),
                column("previous_valid_until").big_integer().to_owned(),
                column("permissions").json().not_null().to_owned(),
                column("tags").json().not_null().to_owned(),
                column("max_agents").integer().not_null().to_owned(),
                column("is_disabled").boolean().not_null().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
                column("expires_at").big_integer().to_owned(),
            ],
        ),
        table(
            "retired_agent_secrets",
            &["secret_hash"],
            vec![
                column("secret_hash").blob().not_null().to_owned(),
                column("key_id").uuid().not_null().to_owned(),
                column("is_deleted").boolean().not_null().to_owned(),
                column("retired_at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "agents",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("key_id").uuid().not_null().to_owned(),
                column("level").text().not_null().to_owned(),
                column("identity").text().not_null().to_owned(),
                column("name").text().not_null().to_owned(),
                column("hostname").text().not_null().to_owned(),
                column("ip").text().not_null().to_owned(),
                column("version").text().not_null().to_owned(),
                column("os").text().not_null().to_owned(),
                column("arch").text().not_null().to_owned(),
                column("capabilities").json().not_null().to_owned(),
                column("tags").json().not_null().to_owned(),
                column("policy").text().to_owned(),
                column("max_executions").integer().not_null().to_owned(),
                column("ledger_id").uuid().to_owned(),
                column("instance_id").uuid().to_owned(),
                column("previous_instance_id").uuid().to_owned(),
                column("epoch").big_integer().not_null().to_owned(),
                column("transport").text().not_null().to_owned(),
                column("is_online").boolean().not_null().to_owned(),
                column("alert").text().to_owned(),
                column("connected_at").big_integer().not_null().to_owned(),
                column("last_seen_at").big_integer().not_null().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
                column("deleted_at").big_integer().to_owned(),
            ],
        ),
        table(
            "agent_manifests",
            &["agent_id"],
            vec![
                column("agent_id").uuid().not_null().to_owned(),
                column("manifest").text().not_null().to_owned(),
                column("error").text().to_owned(),
                column("reported_at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "agent_ledgers",
            &["agent_id"],
            vec![
                column("agent_id").uuid().not_null().to_owned(),
                column("acceptance_count").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "agent_events",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("agent_id").uuid().not_null().to_owned(),
                column("kind").text().not_null().to_owned(),
                column("detail").text().to_owned(),
                column("at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "telemetry_samples",
            &["agent_id", "at"],
            vec![
                column("agent_id").uuid().not_null().to_owned(),
                column("at").big_integer().not_null().to_owned(),
                column("cpu_percent").double().to_owned(),
                column("memory_percent").double().to_owned(),
                column("disk_percent").double().to_owned(),
                column("uptime_seconds").double().to_owned(),
                column("load_1m").double().to_owned(),
                column("running_executions").double().to_owned(),
            ],
        ),
        table(
            "commands",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("agent_id").uuid().not_null().to_owned(),
                column("command").text().not_null().to_owned(),
                column("data").text().not_null().to_owned(),
                column("state").text().not_null().to_owned(),
                column("end_reason").text().to_owned(),
                column("requested_by").uuid().not_null().to_owned(),
                column("requested_from").text().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
                column("expires_at").big_integer().not_null().to_owned(),
                column("timeout_ms").big_integer().not_null().to_owned(),
                column("lost_after_ms").big_integer().not_null().to_owned(),
                column("delivered_at").big_integer().to_owned(),
                column("started_at").big_integer().to_owned(),
                column("finished_at").big_integer().to_owned(),
                column("cancel_requested_at").big_integer().to_owned(),
            ],
        ),
        table(
            "command_reports",
            &["command_id"],
            vec![
                column("command_id").uuid().not_null().to_owned(),
                column("is_late").boolean().not_null().to_owned(),
                column("outcome").text().not_null().to_owned(),
                column("data").text().not_null().to_owned(),
                column("error").text().to_owned(),
                column("error_code").text().to_owned(),
                column("reported_at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "output_chunks",
            &["command_id", "offset_bytes"],
            vec![
                column("command_id").uuid().not_null().to_owned(),
                column("offset_bytes").big_integer().not_null().to_owned(),
                column("length_bytes").big_integer().not_null().to_owned(),
                column("stdout_offset_bytes").big_integer().not_null().to_owned(),
                column("stdout_bytes").big_integer().not_null().to_owned(),
                column("records").blob().not_null().to_owned(),
            ],
        ),
        table(
            "idempotency_records",
            &["tenant_id", "principal_id", "key"],
            vec![
                column("tenant_id").uuid().not_null().to_owned(),
                column("principal_id").uuid().not_null().to_owned(),
                column("key").text().not_null().to_owned(),
                column("request_hash").blob().not_null().to_owned(),
                column("command_id").uuid().not_null().to_owned(),
                column("created_at").big_integer().not_null().to_owned(),
            ],
        ),
        table(
            "audit_entries",
            &["id"],
            vec![
                column("id").uuid().not_null().to_owned(),
                column("tenant_id").uuid().not_null().to_owned(),
                column("at").big_integer().not_null().to_owned(),
                column("actor_kind").text().not_null().to_owned(),
                column("actor_id").uuid().to_owned(),
                column("action").text().not_null().to_owned(),
                column("subject_kind").text().not_null().to_owned(),
                column("subject_id").uuid().to_owned(),
                column("detail").text().not_null().to_owned(),
                column("source").text().to_owned(),
            ],
        ),
    ]
}
