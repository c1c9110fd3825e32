//! What a host needs to become an agent. Public, because it contains no secrets.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use muster_protocol::release::{Platform, Program};

use crate::adapters::program_files::ProgramFiles;
use crate::adapters::release_files::ReleaseFiles;
use crate::services::error::{Result, ServiceError};
use crate::services::releases::catalog::{OpenRelease, ReleaseCatalog};

/// Use cases of installation. Hosts install the newest release. If there is none for their
/// platform, they install the programs from the install directory.
#[derive(Clone, Debug)]
pub struct Installation {
    pub(in crate::services) files: Arc<ProgramFiles>,
    pub(in crate::services) releases: Arc<ReleaseFiles>,
    pub(in crate::services) catalog: ReleaseCatalog,
}

const UNKNOWN: ServiceError = ServiceError::NotFound("program for that platform");

impl Installation {
    /// The file of a program for a platform; both are given by name.
    pub async fn program(&self, platform: &str, name: &str) -> Result<PathBuf> {
        let platform = Platform::parse(platform).ok_or(UNKNOWN)?;
        let program = Program::named(name).ok_or(UNKNOWN)?;
        match self.newest(platform).await? {
            Some(release) => Ok(self.releases.path(&release.descriptor.version, platform, program)),
            None => self.files.find(platform, program).ok_or(UNKNOWN),
        }
    }

    /// The checksums of a platform's programs, in the format of `sha256sum -c`.
    pub async fn sums(&self, platform: &str) -> Result<String> {
        let platform = Platform::parse(platform).ok_or(UNKNOWN)?;
        let line = |(program, sum): (Program, String)| format!("{sum}  {}\n", program.file_name());
        if let Some(release) = self.newest(platform).await? {
            let files = release.descriptor.files(platform).unwrap_or_default().iter();
            return Ok(files.map(|file| line((file.name, file.sha256.clone()))).collect());
        }
        let files = Arc::clone(&self.files);
        let read = tokio::task::spawn_blocking(move || files.sums(platform)).await;
        let sums = match read {
            Ok(Ok(sums)) if sums.is_empty() => return Err(UNKNOWN),
            Ok(Ok(sums)) => sums,
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no sums");
                return Err(UNREADABLE);
            }
            Err(_) => return Err(UNREADABLE),
        };
        Ok(sums.into_iter().map(line).collect())
    }

    /// The platforms that can be installed.
    pub async fn platforms(&self) -> Result<BTreeSet<Platform>> {
        let released = self.catalog.newest().await?;
        let released = released.into_iter().flat_map(|release| release.descriptor.targets);
        Ok(released.map(|(platform, _)| platform).chain(self.files.platforms()).collect())
    }

    async fn newest(&self, platform: Platform) -> Result<Option<OpenRelease>> {
        Ok(self.catalog.newest().await?.filter(|release| release.is_for(Some(platform))))
    }
}

const UNREADABLE: ServiceError = ServiceError::Busy {
    code: "program_unreadable",
    detail: "the server can't read its programs; see its log",
};
