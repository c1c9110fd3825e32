//! Which version an agent should run, asked for from beside it.

use muster_protocol::release::{Platform, Version};

use super::Releases;
use super::catalog::{OpenRelease, platform_of};
use crate::domain::ids::AgentId;
use crate::hub::KeyGrant;
use crate::services::error::{Result, ServiceError};
use crate::services::fleet::group_membership::GroupMembership;
use crate::store::entities::fleet::agent;

impl Releases {
    /// The version that the agent's group wants; without a group, or an agent of this key, the newest
    /// one for the platform. What is asked for is public: no more than the key is looked at.
    ///
    /// # Errors
    /// 409 `no_release` if that is not published, or has nothing for the platform.
    pub async fn wanted(
        &self,
        grant: &KeyGrant,
        agent_id: Option<AgentId>,
        platform: Option<Platform>,
    ) -> Result<Version> {
        let agent = self.agent_of_key(grant, agent_id).await?;
        let platform = platform
            .or_else(|| agent.as_ref().and_then(|agent| platform_of(&agent.os, &agent.arch)));
        let wanted = match &agent {
            Some(agent) => {
                let book = GroupMembership { store: self.store.clone() };
                book.group_of(grant.tenant_id, agent.id).await?.and_then(|row| row.desired_version)
            }
            None => None,
        };
        let release = match &wanted {
            Some(wanted) => self.published(wanted).await?.ok_or_else(|| {
                no_release(format!(
                    "release {wanted}, which this agent's group wants, is not published, or was withdrawn"
                ))
            })?,
            None => self.catalog.newest().await?.ok_or_else(|| {
                no_release("none is published; publish one with `muster release publish`".into())
            })?,
        };
        let version = release.manifest.version.clone();
        match release.is_for(platform) {
            true => Ok(version),
            false => Err(no_release(format!("release {version} has nothing for this platform"))),
        }
    }

    async fn agent_of_key(
        &self,
        grant: &KeyGrant,
        agent_id: Option<AgentId>,
    ) -> Result<Option<agent::Model>> {
        let Some(agent_id) = agent_id else { return Ok(None) };
        let agent = self.store.tenant(grant.tenant_id).agent(agent_id).await?;
        Ok(agent.filter(|agent| agent.key_id == grant.key_id))
    }

    async fn published(&self, version: &str) -> Result<Option<OpenRelease>> {
        let Ok(version) = version.parse() else { return Ok(None) };
        Ok(self.catalog.find(&version).await?)
    }
}

fn no_release(detail: String) -> ServiceError {
    ServiceError::Conflict { code: "no_release", detail }
}
