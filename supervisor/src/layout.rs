//! The paths of the agent's and the supervisor's programs.
//!
//! Knows the file system layout, not processes. Evaluated before every start, because an update
//! changes `versions/current` in between.

use std::io;
use std::path::{Path, PathBuf};

use muster_protocol::release::Version;

/// Why the layout is unknown.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The system did not report the path.
    #[error("failed to find the supervisor's own directory")]
    OwnDirectory(#[source] io::Error),
}

/// The places of the agent's program, in order of preference.
#[derive(Debug, Clone)]
pub struct Layout {
    agent_override: Option<PathBuf>,
    install_dir: Option<PathBuf>,
    own_dir: PathBuf,
}

impl Layout {
    /// `agent_override` takes precedence; `install_dir` contains `versions/`.
    ///
    /// # Errors
    /// [`LayoutError::OwnDirectory`] if the path of this program is unknown.
    pub fn new(
        agent_override: Option<PathBuf>,
        install_dir: Option<PathBuf>,
    ) -> Result<Self, LayoutError> {
        let own = std::env::current_exe().map_err(LayoutError::OwnDirectory)?;
        let own_dir = own.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { agent_override, install_dir, own_dir })
    }

    /// True if this supervisor is one of the installed versions, so that another version can
    /// replace it.
    pub fn is_own_version(&self) -> bool {
        let versions = self.install_dir.as_ref().map(|dir| dir.join("versions"));
        let versions = versions.and_then(|versions| versions.canonicalize().ok());
        versions.is_some_and(|versions| self.own_dir.starts_with(versions))
    }

    /// The directory of this supervisor.
    pub fn own_dir(&self) -> &Path {
        &self.own_dir
    }

    /// True if this supervisor belongs to this installed version.
    pub fn is_version(&self, version: &Version) -> bool {
        let folder = self.install_dir.as_ref().map(|dir| dir.join("versions"));
        let folder = folder.map(|versions| versions.join(version.to_string()));
        let folder = folder.and_then(|folder| folder.canonicalize().ok());
        folder.is_some_and(|folder| self.own_dir.starts_with(folder))
    }

    /// The supervisor of the current version; without versions, this supervisor.
    pub fn current_supervisor(&self) -> PathBuf {
        let name = format!("muster-supervisor{}", std::env::consts::EXE_SUFFIX);
        let current = self.install_dir.as_ref().map(|dir| dir.join("versions/current/bin"));
        current.unwrap_or_else(|| self.own_dir.clone()).join(name)
    }

    /// The agent's program to start now. It may be missing; then starting it fails.
    pub fn agent_binary(&self) -> PathBuf {
        if let Some(path) = &self.agent_override {
            return path.clone();
        }
        let name = format!("muster-agent{}", std::env::consts::EXE_SUFFIX);
        self.install_dir
            .as_ref()
            .map(|dir| dir.join("versions/current/bin").join(&name))
            .filter(|path| path.exists())
            .unwrap_or_else(|| self.own_dir.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn layout(install_dir: Option<&Path>) -> Layout {
        Layout {
            agent_override: None,
            install_dir: install_dir.map(Path::to_owned),
            own_dir: PathBuf::from("/opt/muster/bin"),
        }
    }

    #[test]
    fn without_an_install_directory_the_agent_beside_the_supervisor_is_used() {
        assert_eq!(layout(None).agent_binary(), Path::new("/opt/muster/bin/muster-agent"));
    }

    #[test]
    fn current_version_is_preferred_once_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let layout = layout(Some(dir.path()));
        assert_eq!(layout.agent_binary(), Path::new("/opt/muster/bin/muster-agent"));

        let bin = dir.path().join("versions/current/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("muster-agent"), "").unwrap();
        assert_eq!(layout.agent_binary(), bin.join("muster-agent"));
    }

    #[test]
    fn agent_override_takes_precedence() {
        let mut layout = layout(None);
        layout.agent_override = Some("/elsewhere/agent".into());
        assert_eq!(layout.agent_binary(), Path::new("/elsewhere/agent"));
    }
}
