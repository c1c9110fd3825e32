//! A PostgreSQL database for one test, in the cluster that all tests of the run share.

use uuid::Uuid;

use super::shared_cluster::SharedCluster;
use super::sql;

/// The database that administrative statements are sent to.
const ADMINISTRATION: &str = "postgres";

/// A database that is dropped with this value, together with every connection to it.
#[derive(Debug)]
pub struct PostgresDatabase {
    cluster: &'static SharedCluster,
    name: String,
}

impl PostgresDatabase {
    /// An empty database.
    pub fn empty() -> Self {
        Self::copy_of("template1")
    }

    /// A database with the schema that `migrate` creates. It is called once in a run for each
    /// test program, with the address of an empty database to which it must leave no connection.
    pub async fn migrated(migrate: impl AsyncFnOnce(&str)) -> Self {
        let cluster = tokio::task::block_in_place(SharedCluster::get);
        let template = template_name();
        let mut lock = sql::Lock::acquire(&cluster.url(ADMINISTRATION), &template).await;
        let found = format!("SELECT datistemplate FROM pg_database WHERE datname = '{template}'");
        if lock.query(&found).await != ["t"] {
            // A test that was killed may have left an unfinished one.
            lock.query(&format!("DROP DATABASE IF EXISTS {template} WITH (FORCE)")).await;
            lock.query(&format!("CREATE DATABASE {template}")).await;
            migrate(&cluster.url(&template)).await;
            lock.query(&format!("ALTER DATABASE {template} IS_TEMPLATE true")).await;
        }
        lock.release().await;
        tokio::task::block_in_place(|| Self::copy_of(&template))
    }

    fn copy_of(template: &str) -> Self {
        let cluster = SharedCluster::get();
        let name = format!("test_{}", Uuid::new_v4().simple());
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        sql::query(&cluster.url(ADMINISTRATION), &statement);
        Self { cluster, name }
    }

    /// Its address, as a server takes it.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// Runs a statement on it. Returns a line for each row, its fields separated by `|`.
    ///
    /// # Panics
    /// If the statement fails.
    pub fn query(&self, statement: &str) -> Vec<String> {
        sql::query(&self.url(), statement)
    }

    /// Makes new connections read-only, and those that are open as well, or only lets new ones write
    /// again: as connections to a standby, which stay with it when another server takes the writes.
    pub fn set_read_only(&self, is_read_only: bool) {
        let (name, administration) = (&self.name, self.cluster.url(ADMINISTRATION));
        let value = if is_read_only { "on" } else { "off" };
        let setting = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
        sql::query(&administration, &setting);
        if is_read_only {
            self.end_connections();
        }
    }

    /// Ends all connections to it, as an administrator or a restart does, and waits for their end.
    pub fn end_connections(&self) {
        let statement = format!(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        sql::query(&self.cluster.url(ADMINISTRATION), &statement);
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sql::query(&self.cluster.url(ADMINISTRATION), &statement);
    }
}

/// Of this test program: two builds never share a schema.
fn template_name() -> String {
    let program = std::env::current_exe().expect("a process knows its executable");
    let name = program.file_name().expect("a file").to_string_lossy();
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    // PostgreSQL cuts names at 63 bytes; cargo's hash is at the end.
    format!("template_{}", &plain[plain.len().saturating_sub(50)..])
}
