//! Which release an `update` or a `redeploy` means: settled when it is asked for, so that the command
//! says it for good.

use muster_protocol::CommandName;
use muster_protocol::release::{CAPABILITY, Version};
use serde::Deserialize;

use super::Commands;
use super::request::Checked;
use super::target::{Target, UNKNOWN};
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
    /// Puts the version into the data. What agents of the first generation do with `update` is their
    /// own affair.
    ///
    /// # Errors
    /// 409 `no_release`; 422 `invalid_field`.
    pub(super) async fn choose_release(
        &self,
        caller: &Caller,
        target: &Target,
        name: CommandName,
        checked: &mut Checked,
    ) -> Result<()> {
        if !matches!(name, CommandName::Update | CommandName::Redeploy) || !target.is_full() {
            return Ok(());
        }
        let asked = asked(name, checked)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let agent = tenant.agent(target.agent_id).await?.ok_or(UNKNOWN)?;
        if !agent.capabilities.0.iter().any(|name| name == CAPABILITY) {
            return Err(ServiceError::Conflict {
                code: "unsupported_command",
                detail: format!(
                    "this agent (version {}) has no releases; install the wanted version on its host with deploy.sh",
                    clean(&agent.version, 64)
                ),
            });
        }
        let platform = platform_of(&agent.os, &agent.arch);
        let asked = match (name, asked) {
            (CommandName::Update, None) => {
                let tenant_id = caller.principal.tenant_id;
                self.book
                    .group_of(tenant_id, target.agent_id)
                    .await?
                    .and_then(|group| group.desired_version)
            }
            (_, asked) => asked,
        };
        let release = match (name, asked) {
            (CommandName::Redeploy, _) => {
                self.published(&agent.version, "the version that this agent runs").await?
            }
            (_, Some(version)) => self.published(&version, "which is what is wanted").await?,
            (_, None) => self.newest_for(&agent.version).await?,
        };
        let version = release.manifest.version.to_string();
        if !release.is_for(platform) {
            let platform = platform.map(|platform| platform.to_string()).unwrap_or_default();
            return Err(no_release(format!(
                "release {version} has nothing for {platform}, which this agent runs on"
            )));
        }
        checked.set_data(serde_json::json!({"version": version}));
        Ok(())
    }

    /// The newest release. Who runs a newer version goes down to no other unless it is named.
    async fn newest_for(&self, own: &str) -> Result<OpenRelease> {
        let newest = self.catalog.newest().await?.ok_or_else(|| {
            no_release(
                "no release is published here: publish one with `muster release publish`".into(),
            )
        })?;
        let version = &newest.manifest.version;
        match own.parse::<Version>() {
            Ok(own) if own > *version => Err(no_release(format!(
                "this agent runs {own}, and the newest release is {version}; name a version to go down to it"
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
            no_release(format!("release {version}, {what}, is not published here, or withdrawn"))
        })
    }
}

fn asked(name: CommandName, checked: &Checked) -> Result<Option<String>> {
    let mismatch = |error: serde_json::Error| ServiceError::Invalid {
        code: "invalid_field",
        detail: format!("`data` of `{name}`: {error}"),
    };
    if name == CommandName::Redeploy {
        return Redeploy::deserialize(&checked.data).map(|_| None).map_err(mismatch);
    }
    let version = Update::deserialize(&checked.data).map_err(mismatch)?.version;
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
