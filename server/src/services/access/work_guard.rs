//! The one place that decides whether a caller may start work: every path to the agents asks it, and so
//! does the explanation of a refusal.
//!
//! It checks what the key may reach. Scopes are checked before, and the rules of the hosts after it. The
//! writer checks target and scripts again in the transaction that marks a command as sent.

mod refusals;
mod storage_quotas;

use std::borrow::Borrow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use self::refusals::{blocked, no_wait, refusal, require_reach};
use self::storage_quotas::StorageQuotas;
use crate::domain::commands::approval::{ApprovalRule, DEFAULT_APPROVAL_WAIT_MS};
use crate::domain::commands::ladder::{Confirmation, Ladder, LadderDemand, LadderStep};
use crate::domain::commands::work::{WorkKind, check_limits};
use crate::domain::fleet::target::Target;
use crate::domain::fleet::target::facts::{FactNames, Facts};
use crate::domain::ids::{AgentId, TenantId};
use crate::domain::schedules::calendar::{Calendar, CalendarBlock, CalendarRecord, Start};
use crate::domain::time::Timestamp;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::{Store, StoreError};

/// Tenants whose rules of approval are cached.
const CACHED_TENANTS: u64 = 4_096;
/// How long they are cached. A change invalidates them at once.
const TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// Decides about work. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct WorkGuard {
    store: Store,
    rules: Cache<TenantId, Arc<TenantRules>>,
    quotas: StorageQuotas,
    /// Counts changes. Rules that were read before a change are not cached after it.
    revision: Arc<AtomicU64>,
}

/// The rules of approval, the ladder and the calendars of a tenant.
#[derive(Debug)]
struct TenantRules {
    approval: Vec<ApprovalRule>,
    ladder: Ladder,
    calendars: Vec<Calendar>,
}

/// What work needs before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::services) struct Demands {
    /// Why the ladder refuses it.
    pub refusal: Option<String>,
    /// Why its number of agents must be repeated.
    pub confirmation: Option<String>,
    pub approval: Option<NeededApproval>,
}

/// Whether allowed work may start now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(in crate::services) enum Clearance {
    Free,
    NeedsApproval(NeededApproval),
}

/// The approval that work waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services) struct NeededApproval {
    /// Names of the rules that ask for it.
    pub rules: Vec<String>,
    /// How long it waits: the shortest time of these rules.
    pub wait_ms: u64,
}

/// The first calendar that holds back work on these agents.
fn first_block(
    calendars: &[Calendar],
    start: Start,
    agents: &[impl Borrow<Facts>],
    now: Timestamp,
) -> Option<CalendarBlock> {
    let concerns = |calendar: &&Calendar| {
        calendar
            .target()
            .is_none_or(|target| agents.iter().any(|facts| target.matches(facts.borrow())))
    };
    calendars.iter().filter(concerns).find_map(|calendar| calendar.block(start, now))
}

impl WorkGuard {
    pub fn new(store: Store) -> Self {
        let rules =
            Cache::builder().max_capacity(CACHED_TENANTS).time_to_live(TIME_TO_LIVE).build();
        let quotas = StorageQuotas::new(store.clone());
        Self { store, rules, quotas, revision: Arc::default() }
    }

    /// Checks new work: the limits of the caller's key, then the ladder, then the rules of approval.
    /// `confirmation`: the number of agents that the caller expects.
    ///
    /// # Errors
    /// As [`Self::check_limits`]; 403 `refused_by_ladder`; 409 `agent_count_unconfirmed`, `storage_quota_reached`.
    pub async fn check(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
        confirmation: Option<Confirmation>,
    ) -> Result<Clearance> {
        let clearance = self.check_planned(caller, kind, agents, confirmation).await?;
        self.quotas.check(caller.principal.tenant_id, kind).await?;
        Ok(clearance)
    }

    /// The same for work that starts later: the storage quota counts when it does.
    ///
    /// # Errors
    /// As [`Self::check`], without `storage_quota_reached`.
    pub async fn check_planned(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
        confirmation: Option<Confirmation>,
    ) -> Result<Clearance> {
        self.check_limits(caller, kind, agents).await?;
        let demands = self.demands(caller, kind, agents).await?;
        require_reach(&demands, agents.len(), confirmation)?;
        Ok(demands.approval.map_or(Clearance::Free, Clearance::NeedsApproval))
    }

    /// What the ladder and the rules of approval ask for. They concern new work; what was started before
    /// a rule was made continues.
    pub async fn demands(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
    ) -> Result<Demands> {
        let rules = self.rules(caller.principal.tenant_id).await?;
        if rules.approval.is_empty() && rules.ladder.0.is_empty() {
            return Ok(Demands::default());
        }
        let known = self.facts(caller, agents, &FactNames::new()).await?;
        let tagged = tagged(&known);
        let matching: Vec<&ApprovalRule> =
            rules.approval.iter().filter(|rule| rule.condition.matches(kind, &tagged)).collect();
        let mut names: Vec<String> = matching.iter().map(|rule| rule.name.clone()).collect();
        let mut wait_ms = matching.iter().map(|rule| rule.wait_ms).min();
        let mut demands = Demands::default();
        if let Some(step) = rules.ladder.step(kind, &tagged) {
            let why = format!("the ladder of this tenant for {step}");
            match step.demand {
                LadderDemand::Refuse => demands.refusal = Some(why),
                LadderDemand::Confirm => demands.confirmation = Some(why),
                LadderDemand::Approve => {
                    names.push(format!("ladder: {step}"));
                    wait_ms.get_or_insert(DEFAULT_APPROVAL_WAIT_MS);
                }
            }
        }
        demands.approval = wait_ms.map(|wait_ms| NeededApproval { rules: names, wait_ms });
        Ok(demands)
    }

    /// Checks that the calendars of the tenant let work on these agents start now. `schedule`: whose due
    /// time it is, if it is one.
    ///
    /// # Errors
    /// 409 `frozen` or `outside_window`.
    pub async fn check_calendars(
        &self,
        caller: &Caller,
        start: Start,
        agents: &[AgentId],
        now: Timestamp,
    ) -> Result<()> {
        let rules = self.rules(caller.principal.tenant_id).await?;
        let needs_facts = |calendar: &Calendar| {
            calendar.target().is_some() && calendar.block(start, now).is_some()
        };
        let known = match rules.calendars.iter().any(needs_facts) {
            true => {
                let targets = rules.calendars.iter().filter_map(Calendar::target);
                let names = targets.flat_map(Target::fact_names).collect();
                self.facts(caller, agents, &names).await?
            }
            false => Vec::new(),
        };
        first_block(&rules.calendars, start, &known, now)
            .map_or(Ok(()), |block| Err(blocked(&block)))
    }

    /// Why the calendars of a tenant do not let the updates of a group start now.
    pub async fn calendar_block(
        &self,
        tenant_id: TenantId,
        agents: &[&Facts],
        now: Timestamp,
    ) -> Result<Option<CalendarBlock>> {
        let rules = self.rules(tenant_id).await?;
        let targets = rules.calendars.iter().filter_map(Calendar::target);
        let names: FactNames = targets.flat_map(Target::fact_names).collect();
        if names.is_empty() {
            return Ok(first_block(&rules.calendars, Start::Work, agents, now));
        }
        // A group knows only the facts that groups name.
        let online: HashSet<AgentId> =
            agents.iter().filter(|facts| facts.is_online).map(|facts| facts.id).collect();
        let ids = agents.iter().map(|facts| facts.id);
        let tenant = self.store.tenant(tenant_id);
        let known = tenant.known_agents(ids, &names, |id| online.contains(&id)).await?;
        Ok(first_block(&rules.calendars, Start::Work, &known, now))
    }

    /// The calendars that hold back alerts now: for the agents of a target, or, with `None`, for all.
    pub async fn alert_holds(
        &self,
        tenant_id: TenantId,
        now: Timestamp,
    ) -> Result<Vec<Option<Target>>> {
        let rules = self.rules(tenant_id).await?;
        let holding = rules.calendars.iter().filter(|calendar| calendar.holds_alerts(now));
        Ok(holding.map(|calendar| calendar.target().cloned()).collect())
    }

    /// The rules of approval that concern this kind of work on some agents.
    pub async fn rules_about(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
    ) -> Result<Vec<ApprovalRule>> {
        Ok(self.rules_of(caller.principal.tenant_id, kind).await?)
    }

    /// The same for work that no caller asks for now.
    pub async fn rules_of(
        &self,
        tenant_id: TenantId,
        kind: WorkKind<'_>,
    ) -> std::result::Result<Vec<ApprovalRule>, StoreError> {
        let rules = self.rules(tenant_id).await?;
        let rules = rules.approval.iter();
        Ok(rules.filter(|rule| rule.condition.concerns(kind)).cloned().collect())
    }

    /// The steps of the ladder that concern this kind of work on some agents.
    pub async fn steps_about(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
    ) -> Result<Vec<LadderStep>> {
        let rules = self.rules(caller.principal.tenant_id).await?;
        Ok(rules.ladder.steps_about(kind).cloned().collect())
    }

    /// Refuses updates that can't wait for an approval, because their agents are chosen later.
    ///
    /// # Errors
    /// 403 `approval_needed` if a rule asks for the approval of life-cycle commands.
    pub async fn require_free_life_cycle(&self, caller: &Caller) -> Result<()> {
        let rules = self.rules(caller.principal.tenant_id).await?;
        match rules.approval.iter().find(|rule| rule.condition.concerns_life_cycle()) {
            None => Ok(()),
            Some(rule) => Err(no_wait(&format!("the rule `{}`", rule.name))),
        }
    }

    /// Checks the agents that a group has now, before it updates them.
    ///
    /// # Errors
    /// 403 `approval_needed` or `refused_by_ladder`; 409 `agent_count_unconfirmed`.
    pub async fn check_group(
        &self,
        caller: &Caller,
        agents: &[AgentId],
        confirmation: Option<Confirmation>,
    ) -> Result<()> {
        let demands = self.demands(caller, WorkKind::LifeCycle, agents).await?;
        require_reach(&demands, agents.len(), confirmation)?;
        match demands.approval {
            None => Ok(()),
            Some(needed) => Err(no_wait(&format!("the rule `{}`", needed.rules.join("`, `")))),
        }
    }

    /// Rules of a tenant were changed.
    pub fn forget_rules(&self, tenant_id: TenantId) {
        self.revision.fetch_add(1, Ordering::SeqCst);
        self.rules.invalidate(&tenant_id);
    }

    async fn rules(
        &self,
        tenant_id: TenantId,
    ) -> std::result::Result<Arc<TenantRules>, StoreError> {
        if let Some(known) = self.rules.get(&tenant_id) {
            return Ok(known);
        }
        let read_at = self.revision.load(Ordering::SeqCst);
        let tenant = self.store.tenant(tenant_id);
        let rows = tenant.approval_rules().await?;
        let approval = rows.into_iter().map(ApprovalRule::from).collect();
        let records = tenant.calendars().await?.into_iter().map(CalendarRecord::from);
        let calendars = records.filter_map(|record| {
            let id = record.id;
            let known = Calendar::new(&record);
            // It was checked before it was stored; only a newer version stores what this one can't read.
            known
                .inspect_err(
                    |error| tracing::warn!(calendar = %id, %error, "can't read a calendar"),
                )
                .ok()
        });
        let calendars = calendars.collect();
        let known = Arc::new(TenantRules { approval, ladder: tenant.ladder().await?, calendars });
        self.rules.insert(tenant_id, Arc::clone(&known));
        if self.revision.load(Ordering::SeqCst) != read_at {
            self.rules.invalidate(&tenant_id);
        }
        Ok(known)
    }

    /// `names`: the facts of hosts that calendars name. Limits and rules of approval see none.
    async fn facts(
        &self,
        caller: &Caller,
        agents: &[AgentId],
        names: &FactNames,
    ) -> Result<Vec<Facts>> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        Ok(tenant.known_agents(agents.iter().copied(), names, |_| false).await?)
    }

    /// Checks the limits of the caller's key. `agents`: all of the request.
    ///
    /// # Errors
    /// 403 `outside_key_target`, `script_not_in_key` or `fan_out_exceeded`.
    pub async fn check_limits(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
    ) -> Result<()> {
        let limits = &caller.principal.limits;
        if limits.is_empty() {
            return Ok(());
        }
        let known = self.facts(caller, agents, &FactNames::new()).await?;
        check_limits(limits, kind, &tagged(&known))
            .map_err(|breach| refusal(caller, kind, breach, &known))
    }
}

fn tagged(known: &[Facts]) -> Vec<(AgentId, &[String])> {
    known.iter().map(|facts| (facts.id, facts.tags.as_slice())).collect()
}

/// Refuses what limits can't be checked for: its agents change later, or it changes what the limits of
/// others mean. `what`: why, as a sentence.
///
/// # Errors
/// 403 `key_has_limits`.
pub(in crate::services) fn require_unlimited(caller: &Caller, what: &str) -> Result<()> {
    if caller.principal.limits.is_empty() {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "key_has_limits",
        detail: format!(
            "the key `{}` has limits, and {what}; use a key without limits",
            caller.principal.name
        ),
    })
}
