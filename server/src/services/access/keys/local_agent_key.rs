//! The agent key of the agent beside the server, which no person ever sees.

use std::path::Path;

use muster_protocol::Permissions;
use muster_protocol::parameter::secret::{AGENT_KEY_PREFIX, is_well_formed};
use serde_json::json;

use super::agent_keys::AgentKeys;
use crate::domain::access::credential::NewSecret;
use crate::domain::ids::AgentKeyId;
use crate::services::access::authentication::write_key_file;
use crate::services::access::caller::{AuditAction, Subject};
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::agent_key;
use crate::store::entities::column::StringList;

/// Its name in the list of agent keys.
const NAME: &str = "local-agent";

impl AgentKeys {
    /// Makes a key of the first tenant for one agent and writes it to the file (0600), unless the file has one.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] if the file cannot be written.
    pub async fn make_local_key(&self, file: &Path) -> Result<()> {
        let written = std::fs::read_to_string(file).unwrap_or_default();
        if is_well_formed(written.trim(), AGENT_KEY_PREFIX) {
            return Ok(());
        }
        let tenant = self.store.system().first_tenant().await?;
        let tenant_id = tenant.ok_or(ServiceError::NotFound("tenant"))?.id;
        let (secret, now) = (NewSecret::random(AGENT_KEY_PREFIX)?, self.clock.now());
        let permissions = Permissions::default();
        let row = agent_key::Model {
            id: AgentKeyId::new(),
            tenant_id,
            name: NAME.into(),
            prefix: secret.prefix,
            secret_hash: secret.hash.0.to_vec(),
            previous_secret_hash: None,
            previous_valid_until: None,
            permissions: StringList(permissions.iter().map(|name| name.to_string()).collect()),
            tags: StringList(Vec::new()),
            max_agents: 1,
            trusts_holders: false,
            is_disabled: false,
            created_at: now,
            expires_at: None,
        };
        let audit = AuditAction {
            tenant_id,
            action: "agent_key.create",
            subject: Subject { kind: "agent_key", id: row.id.0 },
            detail: &json!({
                "name": row.name, "permissions": row.permissions, "max_agents": row.max_agents,
                "trusts_holders": row.trusts_holders,
            }),
            at: now,
        };
        // A key whose file was not written admits no agent, because its secret is lost.
        self.store.tenant(tenant_id).create_agent_key(row.clone(), audit.by_system()).await?;
        write_key_file(file, &secret.secret).map_err(|error| ServiceError::Invalid {
            code: "data_dir_not_writable",
            detail: format!("failed to write the key of the local agent: {error}"),
        })
    }
}
