//! Tags are grants: they decide which keys reach an agent, and which work on it needs an approval.

use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _};

use crate::domain::fleet::target::expression::Expression;
use crate::store::StoreError;
use crate::store::entities::access::api_key;
use crate::store::entities::commands::{approval_rule, ladder};
use crate::store::entities::fleet::agent;

/// Refuses tags with which the agent enters or leaves the target of a rule of approval or of an API key, or
/// a step of the ladder.
///
/// # Errors
/// [`StoreError::TargetChanged`] names the rule, the key or the step.
pub(super) async fn check_keeps_targets(
    transaction: &DatabaseTransaction,
    row: &agent::Model,
    tags: &[String],
) -> Result<(), StoreError> {
    let moves = |target: &str| {
        // A text that does not parse was not stored by this server; the strict reading is safe.
        let Ok(target) = target.parse::<Expression>() else { return true };
        target.matches_tags(row.id, &row.tags.0) != target.matches_tags(row.id, tags)
    };
    let rules = approval_rule::Entity::find()
        .filter(approval_rule::Column::TenantId.eq(row.tenant_id))
        .all(transaction)
        .await?;
    if let Some(rule) =
        rules.iter().find(|rule| rule.condition.0.target.as_deref().is_some_and(moves))
    {
        return Err(StoreError::TargetChanged(format!("the rule of approval `{}`", rule.name)));
    }
    let ladder = ladder::Entity::find_by_id(row.tenant_id).all(transaction).await?.pop();
    let steps = ladder.map(|ladder| ladder.steps.0.0).unwrap_or_default();
    let counts = |tag: &String| row.tags.0.contains(tag) != tags.contains(tag);
    if let Some(tag) = steps.into_iter().filter_map(|step| step.tag).find(counts) {
        return Err(StoreError::TargetChanged(format!(
            "the step of the ladder for the tag `{tag}`"
        )));
    }
    let keys = api_key::Entity::find()
        .filter(api_key::Column::TenantId.eq(row.tenant_id))
        .filter(api_key::Column::RevokedAt.is_null())
        .filter(api_key::Column::Limits.is_not_null())
        .all(transaction)
        .await?;
    match keys.iter().find(|key| key.limits().target().is_some_and(|target| moves(&target))) {
        None => Ok(()),
        Some(key) => Err(StoreError::TargetChanged(format!("the API key `{}`", key.name))),
    }
}
