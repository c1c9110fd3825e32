//! A second tenant on a server, which no API creates yet: a hidden command of the server's program does.

use crate::clients::api::Api;
use crate::fixture::Fixture;

impl Fixture {
    /// Creates another tenant, for which the server is stopped and started again; a client with its
    /// owner's key.
    pub async fn other_tenant(&mut self) -> Api {
        self.server.stop();
        let created = self.server.run(&["create-tenant", "--name", "other tenant"]);
        let errors = String::from_utf8_lossy(&created.stderr);
        assert!(created.status.success(), "create a tenant: {errors}");
        let key = String::from_utf8(created.stdout).expect("text");
        self.server.resume();
        self.server.ready().await;
        self.api.with_key(key.trim())
    }
}
