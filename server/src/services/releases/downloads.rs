//! The files that hosts download. Public, because they are not secret and hosts only trust
//! signatures.

use std::path::PathBuf;

use muster_protocol::release::{KeyChange, Platform, Program, Version};

use super::{Releases, UNKNOWN};
use crate::services::error::{Result, ServiceError};

impl Releases {
    /// The manifest, byte for byte.
    pub async fn manifest(&self, version: &Version) -> Result<String> {
        Ok(self.catalog.find(version).await?.ok_or(UNKNOWN)?.row.manifest)
    }

    /// The signature.
    pub async fn signature(&self, version: &Version) -> Result<String> {
        Ok(self.catalog.find(version).await?.ok_or(UNKNOWN)?.row.signature)
    }

    /// Key changes, oldest first.
    pub async fn statements(&self) -> Result<Vec<KeyChange>> {
        self.key_changes().await
    }

    /// The file of a program.
    pub async fn program(
        &self,
        version: &Version,
        platform: Platform,
        program: Program,
    ) -> Result<PathBuf> {
        let release = self.catalog.find(version).await?.ok_or(UNKNOWN)?;
        match release.is_for(Some(platform)) {
            true => Ok(self.files.path(version, platform, program)),
            false => Err(ServiceError::NotFound("program for that platform")),
        }
    }
}
