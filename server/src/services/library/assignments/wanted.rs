//! Sends the agents what is assigned to them. One worker does it, so that an older list never follows a
//! newer one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use muster_protocol::CommandName;
use muster_protocol::package::{AssignedItem, AssignedScript, MAX_AGENT_ASSIGNMENTS};

use super::hold::may_run;
use super::{Assignments, target_of};
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::Target;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::{AgentId, AssignmentId, TenantId};
use crate::domain::library::assignment_records::{AssignedContent, AssignedKind, WantedAssignment};
use crate::hub::{SessionHandle, SessionMessage};
use crate::store::StoreError;

/// Most agents that ask for their assignments and are answered together.
const AGENTS_AT_ONCE: usize = 1_000;
/// Longest time until an agent whose tags or facts have changed gets its assignments.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Whose assignments are sent.
#[derive(Debug)]
pub enum Recipients {
    /// Agents that have just connected, or whose hosts report other facts.
    Connected(Vec<AgentId>),
    /// All whose assignments may have changed.
    All,
}

impl Assignments {
    /// Waits until assignments have to be sent.
    pub async fn next_recipients(&self) -> Recipients {
        tokio::select! {
            agents = self.hub.next_assignment_requests(AGENTS_AT_ONCE) => {
                Recipients::Connected(agents)
            }
            () = self.changed.notified() => Recipients::All,
            () = tokio::time::sleep(LONGEST_SLEEP) => Recipients::All,
        }
    }

    /// Sends the assignments of these agents. A session drops a list that it has sent already.
    ///
    /// # Errors
    /// [`StoreError`]; the next round sends what is missing.
    pub async fn send(&self, recipients: &Recipients) -> Result<(), StoreError> {
        let sessions: Vec<Arc<SessionHandle>> = match recipients {
            Recipients::Connected(agents) => {
                agents.iter().filter_map(|id| self.hub.session(*id)).collect()
            }
            Recipients::All => {
                let tenants = self.store.system().tenants_with_assignments().await?;
                let tenants: BTreeSet<TenantId> = tenants.into_iter().collect();
                let may_differ = |session: &Arc<SessionHandle>| {
                    tenants.contains(&session.tenant_id) || session.has_assignments()
                };
                self.hub.sessions().into_iter().filter(may_differ).collect()
            }
        };
        let mut by_tenant: HashMap<TenantId, Vec<Arc<SessionHandle>>> = HashMap::new();
        for session in sessions.into_iter().filter(|session| session.takes_assignments()) {
            by_tenant.entry(session.tenant_id).or_default().push(session);
        }
        for (tenant_id, sessions) in by_tenant {
            self.send_in_tenant(tenant_id, sessions).await?;
        }
        Ok(())
    }

    async fn send_in_tenant(
        &self,
        tenant_id: TenantId,
        sessions: Vec<Arc<SessionHandle>>,
    ) -> Result<(), StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let wanted = tenant.wanted_assignments(self.clock.now()).await?;
        let wanted: Vec<(Target, WantedAssignment)> = wanted
            .into_iter()
            .filter_map(|wanted| Some((target_of(&wanted.row).ok()?, wanted)))
            .collect();
        let known: HashMap<AgentId, Facts> = match wanted.is_empty() {
            true => HashMap::new(),
            false => {
                let names = wanted.iter().flat_map(|(target, _)| target.fact_names()).collect();
                let ids = sessions.iter().map(|session| session.agent_id);
                let is_online = |id| self.hub.is_connected(id);
                let known = tenant.known_agents(ids, &names, is_online).await?;
                known.into_iter().map(|facts| (facts.id, facts)).collect()
            }
        };
        let controls = match wanted.iter().any(|(_, wanted)| is_service(wanted)) {
            true => tenant.service_controls(&known.keys().copied().collect::<Vec<_>>()).await?,
            false => HashMap::new(),
        };
        let holds = self.held(tenant_id, &wanted, &known).await?;
        for session in sessions {
            let is_permitted = session.grant().permissions.allows(CommandName::Execute);
            let facts = known.get(&session.agent_id).filter(|_| is_permitted);
            let matching = wanted
                .iter()
                .filter(|(target, wanted)| {
                    facts.is_some_and(|facts| {
                        target.matches(facts) && !holds.contains(&(wanted.row.id, facts.id))
                    })
                })
                .filter(|(_, wanted)| !is_script(wanted) || session.takes_assigned_scripts())
                .filter_map(|(_, wanted)| Some((wanted, wanted.content_for(session.agent_id)?)))
                .take(MAX_AGENT_ASSIGNMENTS);
            let control = |id| controls.get(&(id, session.agent_id)).copied().unwrap_or_default();
            let items: Vec<_> = matching
                .map(|(wanted, content)| AssignedItem {
                    control: is_service(wanted).then(|| control(wanted.row.id)),
                    ..assigned(wanted, content)
                })
                .collect();
            session.set_has_assignments(!items.is_empty());
            // The mailbox of one agent must not hold up the others; the next round sends it again.
            session.send_if_free(SessionMessage::Assignments(items.into()));
        }
        Ok(())
    }
}

impl Assignments {
    /// The agents that do not get an assignment although they are of its target.
    async fn held(
        &self,
        tenant_id: TenantId,
        wanted: &[(Target, WantedAssignment)],
        known: &HashMap<AgentId, Facts>,
    ) -> Result<HashSet<(AssignmentId, AgentId)>, StoreError> {
        let tenant = self.store.tenant(tenant_id);
        let mut held = HashSet::new();
        for (target, WantedAssignment { row, maker, .. }) in wanted {
            let agents: Vec<&Facts> =
                known.values().filter(|facts| target.matches(facts)).collect();
            let is_limited = maker.as_ref().is_some_and(|it| it.limits.max_fan_out.is_some());
            let kind_name = row.script();
            let rules = self.guard.rules_of(tenant_id, WorkKind::Script(&kind_name)).await?;
            // Only these count the agents of the whole target, connected or not.
            let count = match is_limited || !rules.is_empty() {
                true => tenant.resolve(target, |id| self.hub.is_connected(id)).await?.agents.len(),
                false => agents.len(),
            };
            if let Some(maker) = maker {
                let outside = agents.iter().filter(|facts| !may_run(maker, row, facts, count));
                held.extend(outside.map(|facts| (row.id, facts.id)));
            }
            let by_rules = self.rule_holds(row, &agents, count).await?;
            held.extend(by_rules.into_keys().map(|agent_id| (row.id, agent_id)));
        }
        Ok(held)
    }
}

fn assigned(wanted: &WantedAssignment, content: &AssignedContent) -> AssignedItem {
    AssignedItem {
        assignment_id: wanted.row.id.0,
        name: wanted.row.content_name.clone(),
        package: content.pin.clone(),
        document: content.document.clone(),
        signatures: content.signatures.clone(),
        parameters: wanted.row.parameters(),
        control: None,
        script: wanted
            .row
            .schedule()
            .zip(content.body_bytes)
            .map(|(schedule, body_bytes)| AssignedScript { schedule, body_bytes }),
    }
}

fn is_script(wanted: &WantedAssignment) -> bool {
    wanted.row.kind == AssignedKind::Script
}

fn is_service(wanted: &WantedAssignment) -> bool {
    wanted.row.kind == AssignedKind::Service
}
