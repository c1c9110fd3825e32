//! What a host needs to become an agent. Open to everybody: it holds no secrets.

use std::path::PathBuf;
use std::sync::Arc;

use muster_protocol::release::{Platform, Program};

use super::error::{Result, ServiceError};
use crate::adapters::program_files::ProgramFiles;

/// Use cases of installing.
#[derive(Clone, Debug)]
pub struct Installation {
    pub(super) files: Arc<ProgramFiles>,
}

const UNKNOWN: ServiceError = ServiceError::NotFound("program for that platform");

impl Installation {
    /// The file of a program for a platform, both by name.
    pub fn program(&self, platform: &str, name: &str) -> Result<PathBuf> {
        let platform = Platform::parse(platform).ok_or(UNKNOWN)?;
        let program = Program::named(name).ok_or(UNKNOWN)?;
        self.files.find(platform, program).ok_or(UNKNOWN)
    }

    /// The sums of a platform's programs, in the form that `sha256sum -c` reads.
    pub async fn sums(&self, platform: &str) -> Result<String> {
        let platform = Platform::parse(platform).ok_or(UNKNOWN)?;
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
        let line = |(program, sum): (Program, String)| format!("{sum}  {}\n", program.file_name());
        Ok(sums.into_iter().map(line).collect())
    }

    /// The platforms that can be installed.
    pub fn platforms(&self) -> Vec<Platform> {
        self.files.platforms()
    }
}

const UNREADABLE: ServiceError = ServiceError::Busy {
    code: "program_unreadable",
    detail: "the server can't read its programs; its log says why",
};
