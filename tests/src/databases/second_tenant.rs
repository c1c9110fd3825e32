//! A second tenant on a server.

use serde_json::json;

use crate::clients::api::Api;
use crate::fixture::Fixture;
use crate::json::JsonFields as _;

impl Fixture {
    /// Creates another tenant as the operator; a client with its owner's key.
    pub async fn other_tenant(&self) -> Api {
        let made = self.api.post("/api/tenants", json!({"name": "other tenant"})).await;
        self.api.with_key(made.expect(201).text("key"))
    }
}
