//! Enrolment tickets: they show that this server has issued an id to a key pair.
//!
//! A server that was restored from a backup does not know the agents that enrolled after it. Each of
//! them presents its ticket and keeps its id. Without a valid ticket an agent cannot choose its id.

use muster_protocol::identity::{AgentPublicKey, SignedMessage};

use crate::domain::ids::{AgentId, TenantId};
use crate::domain::secret_box::SecretBox;

/// What tickets are issued for.
const CONTEXT: &str = "muster enrolment ticket 1";

/// The ticket of an agent. The same for the same agent, as long as the master key stays.
pub(super) fn issue(
    secret_box: &SecretBox,
    tenant_id: TenantId,
    agent_id: AgentId,
    public_key: &AgentPublicKey,
) -> String {
    secret_box.issue_ticket(&content(tenant_id, agent_id, public_key))
}

/// True if this server has issued the id to the key pair.
pub(super) fn is_valid(
    secret_box: &SecretBox,
    tenant_id: TenantId,
    agent_id: AgentId,
    public_key: &AgentPublicKey,
    ticket: &str,
) -> bool {
    secret_box.is_ticket_for(&content(tenant_id, agent_id, public_key), ticket)
}

fn content(tenant_id: TenantId, agent_id: AgentId, public_key: &AgentPublicKey) -> SignedMessage {
    SignedMessage::new(CONTEXT)
        .field(tenant_id.0.as_bytes())
        .field(agent_id.0.as_bytes())
        .field(public_key.as_bytes())
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use uuid::Uuid;

    use super::*;
    use crate::domain::operations::master_key::MasterKey;

    #[test]
    fn a_ticket_is_valid_for_its_tenant_its_agent_its_key_pair_and_its_master_key_only() {
        let secret_box = |byte: u8| {
            let key = MasterKey::from_base64(&BASE64.encode(&[byte; 32])).expect("a key");
            SecretBox::new(&key).expect("a box")
        };
        let tenant = |id| TenantId(Uuid::from_u128(id));
        let agent = |id| AgentId(Uuid::from_u128(id));
        let key = |byte| AgentPublicKey::from_bytes([byte; 32]);
        let ticket = issue(&secret_box(1), tenant(1), agent(1), &key(1));
        assert!(is_valid(&secret_box(1), tenant(1), agent(1), &key(1), &ticket));
        assert!(!is_valid(&secret_box(1), tenant(2), agent(1), &key(1), &ticket));
        assert!(!is_valid(&secret_box(1), tenant(1), agent(2), &key(1), &ticket));
        assert!(!is_valid(&secret_box(1), tenant(1), agent(1), &key(2), &ticket));
        assert!(!is_valid(&secret_box(2), tenant(1), agent(1), &key(1), &ticket));
        for forged in ["", "AAAA", "not a ticket"] {
            assert!(!is_valid(&secret_box(1), tenant(1), agent(1), &key(1), forged));
        }
    }
}
