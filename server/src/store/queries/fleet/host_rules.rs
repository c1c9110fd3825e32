//! The last reported rules of offline agents' hosts: what they let the server request.

use std::collections::HashSet;

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, JoinType, QueryFilter as _, QuerySelect as _, RelationDef,
};

use crate::domain::fleet::agent::AgentLevel;
use crate::domain::fleet::forbidden_commands::ForbiddenCommands;
use crate::domain::fleet::reported_manifest::ManifestDigest;
use crate::domain::ids::AgentId;
use crate::store::StoreError;
use crate::store::entities::access::agent_key;
use crate::store::entities::fleet::{agent, agent_manifest};
use crate::store::queries::TenantScope;

/// Ids in one statement.
const IDS_AT_ONCE: usize = 500;

/// One full agent, and the stored rules of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRules {
    pub agent_id: AgentId,
    pub policy: Option<String>,
    pub manifest: Option<ManifestDigest>,
    pub forbidden: ForbiddenCommands,
}

/// Agent, policy, digest of the manifest, and forbidden commands.
type RulesRow = (AgentId, Option<String>, Option<Vec<u8>>, Option<String>);

impl TenantScope {
    /// The rules of these agents' hosts. Basic agents have none.
    pub async fn host_rules(&self, ids: &[AgentId]) -> Result<Vec<StoredRules>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_AT_ONCE) {
            let rows: Vec<RulesRow> = agent::Entity::find()
                .select_only()
                .columns([agent::Column::Id, agent::Column::Policy])
                .column(agent_manifest::Column::Digest)
                .column(agent_manifest::Column::ForbiddenCommands)
                .join(JoinType::LeftJoin, to_manifests())
                .filter(agent::Column::Id.is_in(ids.iter().copied()))
                .filter(agent::Column::TenantId.eq(self.tenant_id))
                .filter(agent::Column::DeletedAt.is_null())
                .filter(agent::Column::Level.eq(AgentLevel::Full))
                .into_tuple()
                .all(&self.reader)
                .await?;
            found.extend(rows.into_iter().map(|(agent_id, policy, digest, forbidden)| {
                StoredRules {
                    agent_id,
                    policy,
                    manifest: digest.as_deref().and_then(ManifestDigest::stored),
                    forbidden: ForbiddenCommands::stored(forbidden.as_deref()),
                }
            }));
        }
        Ok(found)
    }

    /// Those of these agents whose key was deleted.
    pub async fn agents_without_key(
        &self,
        ids: &[AgentId],
    ) -> Result<HashSet<AgentId>, StoreError> {
        let mut found = HashSet::new();
        for ids in ids.chunks(IDS_AT_ONCE) {
            let keys = Query::select()
                .expr(Expr::val(1))
                .from(agent_key::Entity)
                .and_where(
                    Expr::col((agent_key::Entity, agent_key::Column::Id))
                        .equals((agent::Entity, agent::Column::KeyId)),
                )
                .to_owned();
            let gone: Vec<AgentId> = agent::Entity::find()
                .select_only()
                .column(agent::Column::Id)
                .filter(agent::Column::Id.is_in(ids.iter().copied()))
                .filter(agent::Column::TenantId.eq(self.tenant_id))
                .filter(Expr::not_exists(keys))
                .into_tuple()
                .all(&self.reader)
                .await?;
            found.extend(gone);
        }
        Ok(found)
    }
}

fn to_manifests() -> RelationDef {
    agent::Entity::belongs_to(agent_manifest::Entity)
        .from(agent::Column::Id)
        .to(agent_manifest::Column::AgentId)
        .into()
}
