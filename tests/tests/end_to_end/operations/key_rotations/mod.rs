//! The keys of the server are replaced while it runs, while it is stopped, and by a program that is killed.

mod kills;
mod offline;
mod online;

use muster_tests::{Fixture, JsonFields as _};
use serde_json::json;

const URL: &str = "https://hooks.example/x";
/// Everything that is sealed under the master key: the table, the column and its rows.
const SEALED: [(&str, &str, &str); 9] = [
    ("commands", "sealed_parameters", "sealed_parameters IS NOT NULL"),
    ("webhook_keys", "sealed", "1 = 1"),
    ("hooks", "sealed", "1 = 1"),
    ("schedules", "sealed_parameters", "sealed_parameters IS NOT NULL"),
    ("integrations", "sealed", "1 = 1"),
    ("mails", "sealed", "NOT is_failed"),
    ("totp_secrets", "sealed", "1 = 1"),
    ("token_keys", "sealed", "1 = 1"),
    (
        "settings",
        "value",
        "name IN ('master_key_check', 'audit_key', 'audit_key_previous', 'certificate_authority')",
    ),
];

/// The standard output of a program that succeeded.
fn printed(done: &std::process::Output) -> String {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The secret that signs webhooks.
async fn webhook_secret(fixture: &Fixture) -> String {
    let shown = fixture.api.post("/api/webhooks/secret", json!({"url": URL})).await.expect(200);
    shown.text("secret").to_owned()
}

/// Copies the row with sealed parameters so often, for agents that do not exist: the server sends them to no
/// host.
fn copy_rows(fixture: &Fixture, count: usize) {
    let id = match fixture.server.is_postgres() {
        true => "gen_random_uuid()",
        false => "randomblob(16)",
    };
    fixture.server.query(&format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
         INSERT INTO commands (id, tenant_id, agent_id, command, data, sealed_parameters, state, \
         requested_by, created_at, expires_at, timeout_ms, lost_after_ms) SELECT {id}, tenant_id, {id}, command, \
         data, sealed_parameters, state, requested_by, created_at, expires_at, timeout_ms, lost_after_ms \
         FROM commands, numbers WHERE sealed_parameters IS NOT NULL"
    ));
}

/// The master keys that values are sealed under, each with the number of values: a value starts with the
/// version of its form and the id of its key.
fn sealed_under(fixture: &Fixture) -> Vec<(String, usize)> {
    let head = match fixture.server.is_postgres() {
        true => "encode(substr(value, 1, 9), 'hex')",
        false => "lower(hex(substr(value, 1, 9)))",
    };
    let values = SEALED
        .map(|(table, column, rows)| format!("SELECT {column} AS value FROM {table} WHERE {rows}"));
    let values = values.join(" UNION ALL ");
    let rows = fixture.server.query(&format!(
        "SELECT {head} || ' ' || COUNT(*) FROM ({values}) AS sealed_values GROUP BY {head}"
    ));
    let parsed = rows.iter().map(|row| row.split_once(' ').expect("two columns"));
    parsed.map(|(head, count)| (head.to_owned(), count.parse().expect("a number"))).collect()
}
