//! What follows when a machine comes with another key pair.

use muster_protocol::identity::AgentPublicKey;

use super::{AgentIdentity, Changes, OpenSession};
use crate::domain::fleet::agent::{AgentEventKind, KEY_PAIR_CHANGED};
use crate::domain::ids::AgentId;
use crate::store::entities::access::agent_key;
use crate::store::entities::fleet::{agent, agent_event};

/// Raises an alert without detail. It never replaces an alert about a key pair, which only a person
/// ends.
pub(super) fn raise(row: &mut agent::Model, alert: &str) {
    if row.alert.as_deref() != Some(KEY_PAIR_CHANGED) {
        row.alert = Some(alert.into());
        row.alert_detail = None;
    }
}

impl OpenSession {
    /// What distinguishes the agent from others of its key.
    pub(super) fn identity_of(&self, key: &agent_key::Model) -> String {
        match &self.identity {
            AgentIdentity::Full { machine_id, .. } => machine_id.clone(),
            AgentIdentity::Basic if key.trusts_holders && key.max_agents > 1 => {
                self.hostname.clone()
            }
            AgentIdentity::Basic => String::new(),
        }
    }

    /// Records the proven key of a row that was found by it, by what a person accepted, or by the
    /// claims of a holder that the key trusts.
    pub(super) fn take_key_pair(
        &self,
        row: &mut agent::Model,
        public_key: &AgentPublicKey,
        is_new: bool,
        changes: &mut Changes,
    ) {
        let proven = public_key.as_bytes().to_vec();
        // An agent that still has its key pair ends what a person had accepted for its successor.
        let accepted = row.next_fingerprint.take();
        if row.public_key.as_ref() == Some(&proven) {
            return;
        }
        row.public_key = Some(proven);
        if is_new {
            return;
        }
        let is_accepted =
            accepted.as_deref() == Some(public_key.fingerprint().as_bytes().as_slice());
        if is_accepted && row.alert.as_deref() == Some(KEY_PAIR_CHANGED) {
            row.alert = None;
            row.alert_detail = None;
        }
        changes.events.push(agent_event::Model {
            detail: Some(public_key.fingerprint().to_string()),
            ..self.event(row.id, AgentEventKind::Adopted)
        });
    }

    /// Raises the alert on an agent whose machine came with another key pair.
    pub(super) fn report_key_pair(
        &self,
        former: Option<agent::Model>,
        changes: &mut Changes,
    ) -> Option<agent::Model> {
        let mut row = former?;
        let detail = self.key_pair_detail(row.id);
        if row.alert_detail.as_ref() == Some(&detail) {
            return None;
        }
        // One event for each alert: an agent that is refused comes back every minute.
        if row.alert.as_deref() != Some(KEY_PAIR_CHANGED) {
            changes.events.push(agent_event::Model {
                detail: Some(detail.clone()),
                ..self.event(row.id, AgentEventKind::KeyPairChanged)
            });
        }
        row.alert = Some(KEY_PAIR_CHANGED.into());
        row.alert_detail = Some(detail);
        Some(row)
    }

    /// What happened, and what to do.
    pub(super) fn key_pair_detail(&self, former: AgentId) -> String {
        let public_key = self.identity.public_key();
        let fingerprint = public_key.map(|key| key.fingerprint().to_string()).unwrap_or_default();
        format!(
            "a host with the machine id of agent {former} presented another key pair, {fingerprint}; if that host was \
             reinstalled, compare this with `muster-agent status` on the host, and run `muster agents adopt \
             {former} --fingerprint {fingerprint}`; otherwise another person holds its agent key, or the machine is a copy"
        )
    }

    /// True if another host of a basic agent's key is online: a basic agent has only its key, so a
    /// key that does not trust its holders has one of them.
    pub(super) fn is_second_basic_host(
        &self,
        known: Option<&agent::Model>,
        key: &agent_key::Model,
    ) -> bool {
        let Some(row) = known.filter(|_| self.identity == AgentIdentity::Basic) else {
            return false;
        };
        let is_other = !self.hostname.is_empty() && row.hostname != self.hostname;
        row.is_online && is_other && key.max_agents > 1 && !key.trusts_holders
    }
}
