//! Access to a server's database that bypasses the server.

use super::sql;
use crate::servers::server::{Database, Server};

impl Server {
    /// Runs a statement on the server's database. Returns a line for each row, its fields separated
    /// by `|`.
    ///
    /// # Panics
    /// If the statement fails.
    pub fn query(&self, statement: &str) -> Vec<String> {
        match &self.database {
            Database::Sqlite => sql::query_file(&self.data_dir().join("muster.db"), statement),
            Database::Postgres(database) => database.query(statement),
            Database::Cluster(cluster) => sql::query(&cluster.url(), statement),
        }
    }
}
