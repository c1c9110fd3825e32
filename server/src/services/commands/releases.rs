//! Chooses the release for `update` and `redeploy` when the command is submitted, so that its data
//! names a fixed version.

use muster_protocol::CommandName;
use muster_protocol::release::{CAPABILITY, Version};
use serde::Deserialize;

use super::Commands;
use super::request::ValidatedCommand;
use super::target_agent::{TargetAgent, UNKNOWN_AGENT};
use crate::domain::name::clean;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::services::releases::catalog::{OpenRelease, platform_of};

/// `data` of an `update`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    version: Option<String>,
}

/// `data` of a `redeploy`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeploy {}

impl Commands {
    /// Puts the version into the data of an `update` or `redeploy`. For basic agents the data stays
    /// as it was sent.
    ///
    /// # Errors
    /// 409 `no_release`; 422 `invalid_field`.
    pub(super) async fn choose_release(
        &self,
        caller: &Caller,
        target: &TargetAgent,
        name: CommandName,
        validated: &mut ValidatedCommand,
    ) -> Result<()> {
        if !matches!(name, CommandName::Update | CommandName::Redeploy) || !target.is_full() {
            return Ok(());
        }
        let requested = requested_version(name, validated)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let agent = tenant.agent(target.agent_id).await?.ok_or(UNKNOWN_AGENT)?;
        if !agent.capabilities.0.iter().any(|name| name == CAPABILITY) {
            return Err(ServiceError::Conflict {
                code: "unsupported_command",
                detail: format!(
                    "this agent (version {}) does not support releases; install the version on its host with deploy.sh",
                    clean(&agent.version, 64)
                ),
            });
        }
        let platform = platform_of(&agent.os, &agent.arch);
        let requested = match (name, requested) {
            (CommandName::Update, None) => {
                let tenant_id = caller.principal.tenant_id;
                self.membership
                    .group_of(tenant_id, target.agent_id)
                    .await?
                    .and_then(|group| group.desired_version)
            }
            (_, requested) => requested,
        };
        let release = match (name, requested) {
            (CommandName::Redeploy, _) => {
                self.published(&agent.version, "the version of this agent").await?
            }
            (_, Some(version)) => self.published(&version, "which is requested").await?,
            (_, None) => self.newest_for(&agent.version).await?,
        };
        let version = release.descriptor.version.to_string();
        if !release.is_for(platform) {
            let platform = platform.map(|platform| platform.to_string()).unwrap_or_default();
            return Err(no_release(format!(
                "release {version} has no program for {platform}, the platform of this agent"
            )));
        }
        validated.set_data(serde_json::json!({"version": version}));
        Ok(())
    }

    /// The newest release. An agent with a newer version is downgraded only to a named version.
    async fn newest_for(&self, own: &str) -> Result<OpenRelease> {
        let newest = self.catalog.newest().await?.ok_or_else(|| {
            no_release(
                "no release is published here; publish one with `muster release publish`".into(),
            )
        })?;
        let version = &newest.descriptor.version;
        match own.parse::<Version>() {
            Ok(own) if own > *version => Err(no_release(format!(
                "this agent runs {own}, and the newest release is {version}; name a version to downgrade"
            ))),
            _ => Ok(newest),
        }
    }

    async fn published(&self, version: &str, what: &str) -> Result<OpenRelease> {
        let found = match version.parse::<Version>() {
            Ok(version) => self.catalog.find(&version).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| {
            let version = clean(version, 64);
            no_release(format!("release {version}, {what}, is not published here or was withdrawn"))
        })
    }
}

fn requested_version(name: CommandName, validated: &ValidatedCommand) -> Result<Option<String>> {
    let mismatch = |error: serde_json::Error| ServiceError::Invalid {
        code: "invalid_field",
        detail: format!("`data` of `{name}`: {error}"),
    };
    if name == CommandName::Redeploy {
        return Redeploy::deserialize(&validated.data).map(|_| None).map_err(mismatch);
    }
    let version = Update::deserialize(&validated.data).map_err(mismatch)?.version;
    match version.as_deref().map(str::parse::<Version>) {
        Some(Err(_)) => Err(ServiceError::invalid_field(
            "data.version",
            "must be a version such as 0.2.0, or be left out for the newest",
        )),
        _ => Ok(version),
    }
}

fn no_release(detail: String) -> ServiceError {
    ServiceError::Conflict { code: "no_release", detail }
}
