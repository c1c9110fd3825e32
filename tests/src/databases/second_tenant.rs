//! A second tenant on a server, which no API makes yet: written into its database.

use std::process::Command;

use crate::agents::scripts::sha256;
use crate::clients::api::Api;
use crate::fixture::World;

/// Copies the first tenant and its owner's key, under ids and a secret of their own.
const COPY: &str = "
import sqlite3, sys, uuid
database, secret_hash = sqlite3.connect(sys.argv[1], timeout=30), bytes.fromhex(sys.argv[2])
database.row_factory = sqlite3.Row
def copy(table, **fields):
    row = dict(database.execute(f'SELECT * FROM {table} ORDER BY created_at LIMIT 1').fetchone())
    row.update(fields)
    marks = ', '.join('?' * len(row))
    database.execute(f'INSERT INTO {table} ({\", \".join(row)}) VALUES ({marks})', list(row.values()))
tenant = uuid.uuid4().bytes
copy('tenants', id=tenant, name='strangers')
copy('api_keys', id=uuid.uuid4().bytes, tenant_id=tenant, secret_hash=secret_hash)
database.commit()
";

impl World {
    /// An owner of another tenant on this server.
    ///
    /// # Panics
    /// On PostgreSQL.
    pub fn stranger(&self) -> Api {
        let secret = format!("mst_live_{}", "s".repeat(43));
        let file = self.server.data_dir().join("muster.db");
        let copied = Command::new("python3")
            .args(["-c", COPY])
            .arg(file)
            .arg(sha256(secret.as_bytes()))
            .status()
            .expect("start python3");
        assert!(copied.success(), "the second tenant could not be written");
        self.api.with_key(&secret)
    }
}
