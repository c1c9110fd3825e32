//! Checks of rules. A check is stored only if the rule is as it was read, so that of several servers, or of
//! a check and a change by a person, one counts.

use std::collections::{HashMap, HashSet};

use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use crate::domain::fleet::records::TelemetryRecord;
use crate::domain::fleet::target::facts::{FactNames, Facts};
use crate::domain::ids::{AgentId, AlertId, AlertRuleId, TenantId};
use crate::domain::integrations::alert::{AlertEndReason, AlertMetric};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::entities::fleet::{agent, telemetry_sample};
use crate::store::entities::integrations::{alert, alert_rule, alert_state};
use crate::store::queries::access::tenants::tenant_deletion::closed_tenants;
use crate::store::queries::{SystemScope, TenantScope};
use crate::store::writer::add_events;

/// Rows of one statement.
const ROWS: usize = 50;
/// Resolved alerts of a rule that are kept: the newest. Retention by time removes them too.
const MAX_RESOLVED_ALERTS: u64 = 2_000;
/// A check that was planned for later than this is due, because the clock was set back: checks follow each
/// other within a minute.
const MAX_CHECK_AHEAD_MS: u64 = 120_000;

/// What a rule has opened, and what is on the way.
#[derive(Debug, Clone, Default)]
pub struct AlertSubjects {
    /// Since when it holds that changes a subject.
    pub since: HashMap<Uuid, Timestamp>,
    /// Open alerts by their subject.
    pub open: HashMap<Uuid, AlertId>,
}

/// An alert to open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenedAlert {
    pub subject_id: Uuid,
    pub agent_id: Option<AgentId>,
    pub value: f64,
}

/// The result of a check.
#[derive(Debug, Clone)]
pub struct AlertCheck {
    /// As it was read.
    pub rule: alert_rule::Model,
    pub now: Timestamp,
    pub check_at: Timestamp,
    /// Subjects whose time to the next change is other than before, and since when it runs.
    pub since: Vec<(Uuid, Option<Timestamp>)>,
    pub opened: Vec<OpenedAlert>,
    pub resolved: Vec<(AlertId, AlertEndReason)>,
}

impl SystemScope {
    /// Tenants with rules to check now, the one whose rule waits longest first. `changed_at`: agents
    /// connected or disconnected then, so also all rules that count them and were checked before.
    pub async fn tenants_with_due_alert_rules(
        &self,
        now: Timestamp,
        changed_at: Option<Timestamp>,
    ) -> Result<Vec<TenantId>, StoreError> {
        let query = alert_rule::Entity::find()
            .select_only()
            .column(alert_rule::Column::TenantId)
            .filter(is_due(now, changed_at))
            .filter(alert_rule::Column::TenantId.not_in_subquery(closed_tenants()))
            .group_by(alert_rule::Column::TenantId)
            .order_by_asc(alert_rule::Column::CheckAt.min())
            .order_by_asc(alert_rule::Column::TenantId);
        Ok(query.into_tuple().all(&self.reader).await?)
    }

    /// When the next rule is checked; `None` without an enabled rule.
    pub async fn next_alert_check(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(alert_rule::Entity::find()
            .select_only()
            .column(alert_rule::Column::CheckAt)
            .filter(alert_rule::Column::CheckAt.is_not_null())
            .filter(alert_rule::Column::TenantId.not_in_subquery(closed_tenants()))
            .order_by_asc(alert_rule::Column::CheckAt)
            .limit(1)
            .into_tuple()
            .one(&self.reader)
            .await?)
    }

    /// Stores a check with the events of what it opened and resolved, and returns these alerts; `None` if
    /// the rule was checked or changed since it was read.
    pub async fn store_alert_check(
        &self,
        check: AlertCheck,
    ) -> Result<Option<Vec<alert::Model>>, StoreError> {
        self.writer
            .change(move |transaction| {
                let check = check.clone();
                Box::pin(async move { store(transaction, check).await })
            })
            .await
    }
}

/// Rules to check at an instant, as in [`SystemScope::tenants_with_due_alert_rules`].
fn is_due(now: Timestamp, changed_at: Option<Timestamp>) -> Condition {
    // A check that is so far ahead was planned before the clock was set back.
    let is_due = Condition::any()
        .add(alert_rule::Column::CheckAt.lte(now))
        .add(alert_rule::Column::CheckAt.gt(now.plus_ms(MAX_CHECK_AHEAD_MS)));
    let Some(changed_at) = changed_at else { return is_due };
    let counts_agents = Condition::all()
        .add(alert_rule::Column::CheckAt.is_not_null())
        .add(alert_rule::Column::CheckedAt.lt(changed_at))
        .add(alert_rule::Column::Metric.eq(AlertMetric::AgentsOnline));
    is_due.add(counts_agents)
}

impl TenantScope {
    /// Rules of the tenant to check now, the earliest first. `changed_at` as in
    /// [`SystemScope::tenants_with_due_alert_rules`].
    pub async fn due_alert_rules(
        &self,
        now: Timestamp,
        changed_at: Option<Timestamp>,
        limit: u64,
    ) -> Result<Vec<alert_rule::Model>, StoreError> {
        let query = alert_rule::Entity::find()
            .filter(alert_rule::Column::TenantId.eq(self.tenant_id))
            .filter(is_due(now, changed_at))
            .order_by_asc(alert_rule::Column::CheckAt)
            .order_by_asc(alert_rule::Column::Id)
            .limit(limit);
        Ok(query.all(&self.reader).await?)
    }

    /// All agents, with whether they are online as the database knows it: other servers have sessions too.
    /// `names`: the facts that the targets of the rules name.
    pub async fn alert_agents(&self, names: &FactNames) -> Result<Vec<Facts>, StoreError> {
        let online: Vec<AgentId> = agent::Entity::find()
            .select_only()
            .column(agent::Column::Id)
            .filter(agent::Column::TenantId.eq(self.tenant_id))
            .filter(agent::Column::IsOnline.eq(true))
            .filter(agent::Column::DeletedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        let online: HashSet<AgentId> = online.into_iter().collect();
        let agents = self.all_agents(names, |id| online.contains(&id)).await?;
        Ok(agents.into_iter().map(|(facts, _)| facts).collect())
    }

    /// The newest sample of each of these agents of the tenant since an instant.
    pub async fn newest_telemetry(
        &self,
        agents: &[AgentId],
        since: Timestamp,
    ) -> Result<HashMap<AgentId, TelemetryRecord>, StoreError> {
        let mut newest = HashMap::new();
        for ids in agents.chunks(ROWS) {
            let samples = telemetry_sample::Entity::find()
                .filter(telemetry_sample::Column::AgentId.is_in(ids.iter().copied()))
                .filter(telemetry_sample::Column::At.gte(since))
                .order_by_asc(telemetry_sample::Column::At)
                .all(&self.reader)
                .await?;
            let samples = samples.into_iter();
            newest.extend(samples.map(|row| (row.agent_id, TelemetryRecord::from(row))));
        }
        Ok(newest)
    }

    /// What a rule has opened, and what is on the way.
    pub async fn alert_subjects(&self, id: AlertRuleId) -> Result<AlertSubjects, StoreError> {
        let states = alert_state::Entity::find()
            .filter(alert_state::Column::RuleId.eq(id))
            .filter(alert_state::Column::TenantId.eq(self.tenant_id))
            .all(&self.reader)
            .await?;
        let open: Vec<(Uuid, AlertId)> = alert::Entity::find()
            .select_only()
            .column(alert::Column::SubjectId)
            .column(alert::Column::Id)
            .filter(alert::Column::RuleId.eq(id))
            .filter(alert::Column::TenantId.eq(self.tenant_id))
            .filter(alert::Column::ResolvedAt.is_null())
            .into_tuple()
            .all(&self.reader)
            .await?;
        Ok(AlertSubjects {
            since: states.into_iter().map(|row| (row.subject_id, row.since)).collect(),
            open: open.into_iter().collect(),
        })
    }
}

async fn store(
    transaction: &DatabaseTransaction,
    check: AlertCheck,
) -> Result<Option<Vec<alert::Model>>, StoreError> {
    let (rule, now) = (check.rule, check.now);
    let checked = alert_rule::Entity::update_many()
        .col_expr(alert_rule::Column::CheckedAt, Expr::value(now.0))
        .col_expr(alert_rule::Column::CheckAt, Expr::value(check.check_at.0))
        .filter(alert_rule::Column::Id.eq(rule.id))
        .filter(alert_rule::Column::ChangedAt.eq(rule.changed_at))
        .filter(alert_rule::Column::CheckedAt.eq(rule.checked_at))
        .filter(alert_rule::Column::CheckAt.is_not_null())
        .exec(transaction)
        .await?;
    if checked.rows_affected == 0 {
        return Ok(None);
    }
    for changed in check.since.chunks(ROWS) {
        alert_state::Entity::delete_many()
            .filter(alert_state::Column::RuleId.eq(rule.id))
            .filter(alert_state::Column::SubjectId.is_in(changed.iter().map(|(id, _)| *id)))
            .exec(transaction)
            .await?;
        let rows: Vec<_> = changed
            .iter()
            .filter_map(|(subject_id, since)| {
                let (rule_id, tenant_id) = (rule.id, rule.tenant_id);
                let row = |since| alert_state::Model {
                    rule_id,
                    subject_id: *subject_id,
                    tenant_id,
                    since,
                };
                since.map(|since| row(since).into_active_model())
            })
            .collect();
        if !rows.is_empty() {
            alert_state::Entity::insert_many(rows).exec_without_returning(transaction).await?;
        }
    }
    let mut changed: Vec<_> = check.opened.iter().map(|new| opened(&rule, *new, now)).collect();
    for rows in changed.chunks(ROWS) {
        let rows = rows.iter().cloned().map(alert::Model::into_active_model);
        alert::Entity::insert_many(rows).exec_without_returning(transaction).await?;
    }
    add_events(changed.iter().map(alert::Model::event));
    let opened_count = changed.len();
    for (id, reason) in check.resolved {
        let open = alert::Entity::find_by_id(id).filter(alert::Column::RuleId.eq(rule.id));
        if let Some(row) = open.all(transaction).await?.pop() {
            changed.extend(resolve(transaction, row, reason, now).await?);
        }
    }
    if changed.len() > opened_count {
        drop_oldest_resolved(transaction, rule.id).await?;
    }
    Ok(Some(changed))
}

/// Deletes the resolved alerts of a rule above the limit. Each check resolves a bounded number, so this
/// deletes few.
pub(super) async fn drop_oldest_resolved(
    transaction: &DatabaseTransaction,
    id: AlertRuleId,
) -> Result<(), StoreError> {
    let resolved = Condition::all()
        .add(alert::Column::RuleId.eq(id))
        .add(alert::Column::ResolvedAt.is_not_null());
    let newest_dropped: Option<AlertId> = alert::Entity::find()
        .select_only()
        .column(alert::Column::Id)
        .filter(resolved.clone())
        .order_by_desc(alert::Column::Id)
        .offset(MAX_RESOLVED_ALERTS)
        .limit(1)
        .into_tuple()
        .one(transaction)
        .await?;
    if let Some(newest_dropped) = newest_dropped {
        alert::Entity::delete_many()
            .filter(resolved.add(alert::Column::Id.lte(newest_dropped)))
            .exec(transaction)
            .await?;
    }
    Ok(())
}

fn opened(rule: &alert_rule::Model, new: OpenedAlert, now: Timestamp) -> alert::Model {
    alert::Model {
        id: AlertId::new(),
        tenant_id: rule.tenant_id,
        rule_id: rule.id,
        rule_name: rule.name.clone(),
        subject_id: new.subject_id,
        agent_id: new.agent_id,
        metric: rule.metric,
        threshold: rule.threshold,
        value: new.value,
        opened_at: now,
        resolved_at: None,
        end_reason: None,
    }
}

/// Resolves an alert with its event, and returns it; `None` if it is resolved.
pub(super) async fn resolve(
    transaction: &DatabaseTransaction,
    mut row: alert::Model,
    reason: AlertEndReason,
    now: Timestamp,
) -> Result<Option<alert::Model>, StoreError> {
    let resolved = alert::Entity::update_many()
        .col_expr(alert::Column::ResolvedAt, Expr::value(now.0))
        .col_expr(alert::Column::EndReason, Expr::value(reason))
        .filter(alert::Column::Id.eq(row.id))
        .filter(alert::Column::ResolvedAt.is_null())
        .exec(transaction)
        .await?;
    if resolved.rows_affected == 0 {
        return Ok(None);
    }
    row.resolved_at = Some(now);
    row.end_reason = Some(reason);
    add_events([row.event()]);
    Ok(Some(row))
}
