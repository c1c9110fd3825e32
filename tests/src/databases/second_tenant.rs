//! A second tenant on a server, which no API creates yet: written into its database.

use uuid::Uuid;

use crate::agents::scripts::sha256;
use crate::clients::api::Api;
use crate::fixture::Fixture;
use crate::servers::server::Database;

impl Fixture {
    /// An owner of another tenant on this server: a copy of the first tenant and of its owner's key,
    /// under other ids and with another secret.
    ///
    /// # Panics
    /// On PostgreSQL.
    pub fn other_tenant(&self) -> Api {
        assert!(matches!(self.server.database, Database::Sqlite), "this copies SQLite rows");
        let secret = format!("mst_live_{}", "s".repeat(43));
        let tenant_id = format!("x'{}'", Uuid::new_v4().simple());
        let key_id = format!("x'{}'", Uuid::new_v4().simple());
        let hash = format!("x'{}'", sha256(secret.as_bytes()));
        self.copy_first("tenants", &[("id", &tenant_id), ("name", "'other tenant'")]);
        let key = [("id", &*key_id), ("tenant_id", &tenant_id), ("secret_hash", &hash)];
        self.copy_first("api_keys", &key);
        self.api.with_key(&secret)
    }

    /// Copies the oldest row of a table, with these fields exchanged.
    fn copy_first(&self, table: &str, changes: &[(&str, &str)]) {
        let columns = self.server.query(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let value = |column: &str| {
            let change = changes.iter().find(|(name, _)| *name == column);
            change.map_or(column, |(_, value)| value).to_owned()
        };
        let values: Vec<String> = columns.iter().map(|column| value(column)).collect();
        self.server.query(&format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {table} ORDER BY created_at LIMIT 1",
            columns.join(", "),
            values.join(", ")
        ));
    }
}
