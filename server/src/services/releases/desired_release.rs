//! Answers which version an agent should run.

use muster_protocol::release::{Platform, Version};

use super::Releases;
use super::catalog::{OpenRelease, platform_of};
use crate::domain::ids::AgentId;
use crate::hub::KeyGrant;
use crate::services::error::{Result, ServiceError};
use crate::services::fleet::group_membership::GroupMembership;
use crate::store::entities::fleet::agent;

impl Releases {
    /// The desired version of the agent's group. Without a group, or for an agent of another key,
    /// the newest release for the platform. Releases are public, so only the key itself is checked.
    ///
    /// # Errors
    /// 409 `no_release` if that release is not published, or has no programs for the platform.
    pub async fn desired_version(
        &self,
        grant: &KeyGrant,
        agent_id: Option<AgentId>,
        platform: Option<Platform>,
    ) -> Result<Version> {
        let agent = self.agent_of_key(grant, agent_id).await?;
        let platform = platform
            .or_else(|| agent.as_ref().and_then(|agent| platform_of(&agent.os, &agent.arch)));
        let desired = match &agent {
            Some(agent) => {
                let membership = GroupMembership { store: self.store.clone() };
                let group = membership.group_of(grant.tenant_id, agent.id).await?;
                group.and_then(|row| row.desired_version)
            }
            None => None,
        };
        let release = match &desired {
            Some(desired) => self.published(desired).await?.ok_or_else(|| {
                no_release(format!(
                    "release {desired}, the desired version of this agent's group, is not published or was withdrawn"
                ))
            })?,
            None => self.catalog.newest().await?.ok_or_else(|| {
                no_release("no release is published; publish one with `muster release publish`".into())
            })?,
        };
        let version = release.descriptor.version.clone();
        match release.is_for(platform) {
            true => Ok(version),
            false => {
                Err(no_release(format!("release {version} has no programs for this platform")))
            }
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
