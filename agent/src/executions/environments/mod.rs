//! What scripts of the library need, installed for them: an environment of Python with the packages of a
//! `requirements.txt`, or a folder with those of a `package.json` for Node.
//!
//! ```text
//! environments/
//!   lock              held while the rest is looked at or changed, never during an installation
//!   KEY/              SHA-256 of kind, interpreter, user and requirements: scripts with the same ones share it
//!     COMMAND_ID/     one installation; it belongs to the user that the script runs as
//!     ready           a link to the installation that is complete
//!     uses/COMMAND_ID an execution that uses it
//! ```
//!
//! An installation counts from the moment when `ready` names it, so one that was killed is never used. Two
//! executions may install at the same time; the later link wins, and both installations work. What no running
//! execution uses is removed: first what was not used for the longest time.

mod package_kind;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use uuid::Uuid;

pub use self::package_kind::PackageKind;
use crate::executions::environment::package_settings;
use crate::executions::program::Program;
use crate::platform::{Account, FileLock};
use crate::storage::layout::{ExecutionDir, StateDir, id_of_name};
use crate::storage::{StorageError, add_permissions, ensure_private_directory};

/// Most environments that are kept beside those in use.
const MAX_ENVIRONMENTS: usize = 16;
/// How long an environment is kept that no script uses.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
const LOCK: &str = "lock";
const READY: &str = "ready";
const USES: &str = "uses";
const REMOVED: &str = "removed-";

/// Why an environment can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("the host has no folder for them")]
    NoFolder,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The environment of one execution.
#[derive(Debug)]
pub struct Environment {
    kind: PackageKind,
    state: StateDir,
    /// Its key's folder.
    folder: PathBuf,
    command_id: Uuid,
    requirements: String,
    interpreter: PathBuf,
}

/// Whether the packages are there.
#[derive(Debug)]
pub enum Prepared {
    Ready,
    /// This program installs them.
    Missing(Program),
}

impl Environment {
    /// Finds the environment and records that the execution uses it, so that it stays until the execution
    /// has ended.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn open(
        execution: &ExecutionDir,
        (kind, interpreter): (PackageKind, &Path),
        requirements: &str,
        account: Option<&Account>,
    ) -> Result<Self, EnvironmentError> {
        let state = StateDir::at(execution.state().ok_or(EnvironmentError::NoFolder)?);
        let command_id = execution.command_id().ok_or(EnvironmentError::NoFolder)?;
        let all = state.environments();
        ensure_private_directory(&all)?;
        // Another interpreter behind the same name is another environment.
        let interpreter = interpreter.canonicalize()?;
        let user = account.map_or("", |account| account.name.as_str());
        let key = key(kind, &interpreter, user, requirements);
        let folder = all.join(key);
        let _lock = lock(&all)?;
        ensure_private_directory(&folder)?;
        ensure_private_directory(&folder.join(USES))?;
        if account.is_some() {
            // By name only: neither folder can be listed.
            add_permissions(&all, 0o011)?;
            add_permissions(&folder, 0o011)?;
        }
        File::create(folder.join(USES).join(command_id.to_string()))?;
        let requirements = requirements.to_owned();
        Ok(Self { kind, state, folder, command_id, requirements, interpreter })
    }

    /// The interpreter that finds the packages, if it is another one.
    pub fn interpreter(&self) -> Option<PathBuf> {
        (self.kind == PackageKind::Python).then(|| self.installed())
    }

    /// The variable by which the interpreter finds the packages.
    pub fn variable(&self) -> Option<(OsString, OsString)> {
        (self.kind == PackageKind::Node).then(|| ("NODE_PATH".into(), self.installed().into()))
    }

    fn installed(&self) -> PathBuf {
        let ready = fs::read_link(self.folder.join(READY));
        let installation = ready.unwrap_or_else(|_| self.command_id.to_string().into());
        self.folder.join(installation).join(self.kind.installed())
    }

    /// Checks whether the packages are there, and prepares the installation if they are not.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn prepare(&self, account: Option<&Account>) -> Result<Prepared, EnvironmentError> {
        if self.folder.join(READY).join(self.kind.installed()).exists() {
            return Ok(Prepared::Ready);
        }
        collect(&self.state);
        let installation = self.installation();
        // A shim that was killed before it started the installation may have left it.
        let _ = fs::remove_dir_all(&installation);
        fs::DirBuilder::new().mode(0o700).create(&installation)?;
        let requirements = installation.join(self.kind.file());
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&requirements)?;
        io::Write::write_all(&mut file, self.requirements.as_bytes())?;
        if let Some(account) = account {
            account.own(&file)?;
            // Last, so that the user can't put anything in the way before.
            account.own(&File::open(&installation)?)?;
        }
        let arguments: Vec<OsString> = vec![
            "-c".into(),
            self.kind.install().into(),
            "install-packages".into(),
            self.interpreter.clone().into(),
            installation.clone().into(),
            requirements.into(),
        ];
        Ok(Prepared::Missing(Program {
            path: "/bin/sh".into(),
            name: None,
            arguments,
            folder: installation,
            variables: package_settings().collect(),
            stdin: None,
            input: None,
        }))
    }

    /// Makes the installation of this execution the one that is used.
    ///
    /// # Errors
    /// [`EnvironmentError`].
    pub fn publish(&self) -> Result<(), EnvironmentError> {
        let _lock = lock(&self.state.environments())?;
        let link = self.folder.join(format!("{READY}.new"));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(self.command_id.to_string(), &link)?;
        fs::rename(&link, self.folder.join(READY))?;
        Ok(())
    }

    /// Removes the installation of this execution, which did not succeed.
    pub fn discard(&self) {
        let _ = fs::remove_dir_all(self.installation());
    }

    fn installation(&self) -> PathBuf {
        self.folder.join(self.command_id.to_string())
    }
}

fn key(kind: PackageKind, interpreter: &Path, user: &str, requirements: &str) -> String {
    let interpreter = interpreter.as_os_str().as_encoded_bytes();
    let parts = [kind.name().as_bytes(), interpreter, user.as_bytes(), requirements.as_bytes()];
    HEXLOWER.encode(digest(&SHA256, &parts.join(&0)).as_ref())
}

/// Waits for the lock of all environments. It is never held for long.
fn lock(all: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(all.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

/// Removes the environments that were not used for a long time, and what a killed process left.
pub fn collect(state: &StateDir) {
    if !state.environments().exists() {
        return;
    }
    if let Err(error) = shrink(state, MAX_ENVIRONMENTS, KEPT_FOR) {
        tracing::warn!(%error, "failed to remove unused environments");
    }
}

fn shrink(state: &StateDir, most: usize, kept_for: Duration) -> io::Result<()> {
    let all = state.environments();
    // Renamed under the lock, so that no execution finds them any more, and removed without it.
    let mut removed = Vec::new();
    {
        let _lock = lock(&all)?;
        let mut unused = Vec::new();
        let mut used_count = 0;
        for entry in fs::read_dir(&all)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name == LOCK {
                continue;
            }
            if name.starts_with(REMOVED) {
                removed.push(path);
                continue;
            }
            if drop_ended_uses(state, &path)? {
                used_count += 1;
                continue;
            }
            for installation in abandoned_installations(&path)? {
                let gone = all.join(format!("{REMOVED}{}", Uuid::now_v7()));
                if fs::rename(&installation, &gone).is_ok() {
                    removed.push(gone);
                }
            }
            // A use that begins or is dropped changes this time.
            let used_at = fs::metadata(path.join(USES)).and_then(|uses| uses.modified());
            unused.push((used_at.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
        unused.sort_unstable();
        let excess = (unused.len() + used_count).saturating_sub(most);
        for (n, (used_at, path)) in unused.into_iter().enumerate() {
            // A clock that was set back makes none old.
            if n < excess || used_at.elapsed().unwrap_or_default() >= kept_for {
                let gone = all.join(format!("{REMOVED}{}", Uuid::now_v7()));
                fs::rename(&path, &gone)?;
                removed.push(gone);
            }
        }
    }
    for path in removed {
        // Another process may remove it too, and a script may have made it impossible: the next try follows.
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "failed to remove an unused environment");
        }
    }
    Ok(())
}

/// Forgets the uses of executions that do not run any more. True if one is left.
fn drop_ended_uses(state: &StateDir, folder: &Path) -> io::Result<bool> {
    let mut is_used = false;
    let Ok(uses) = fs::read_dir(folder.join(USES)) else { return Ok(false) };
    for entry in uses {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(id_of_name);
        // What can't be checked counts as running.
        if id.is_some_and(|id| FileLock::is_held(&state.execution(id).lock()).unwrap_or(true)) {
            is_used = true;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(is_used)
}

/// Installations that are not complete, or that another one has replaced.
fn abandoned_installations(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let ready = fs::read_link(folder.join(READY)).unwrap_or_default();
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let is_abandoned =
        |name: &OsString| name.to_str().and_then(id_of_name).is_some() && name != ready.as_os_str();
    let abandoned = entries.into_iter().filter(|entry| is_abandoned(&entry.file_name()));
    Ok(abandoned.map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        _folder: tempfile::TempDir,
        state: StateDir,
    }

    fn host() -> Host {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        Host { _folder: folder, state }
    }

    impl Host {
        fn open(&self, number: u128, requirements: &str) -> (Environment, FileLock) {
            let execution = self.state.execution(Uuid::from_u128(number));
            fs::create_dir_all(execution.path()).expect("created");
            let lock = FileLock::take(&execution.lock()).expect("locked");
            let program = (PackageKind::Python, Path::new("/bin/sh"));
            let opened = Environment::open(&execution, program, requirements, None);
            (opened.expect("opened"), lock)
        }

        fn keys(&self) -> usize {
            let entries = fs::read_dir(self.state.environments()).expect("listed");
            entries.flatten().filter(|entry| entry.file_name() != LOCK).count()
        }
    }

    fn install(environment: &Environment) {
        let prepared = environment.prepare(None).expect("prepared");
        assert!(matches!(prepared, Prepared::Missing(_)));
        fs::create_dir(environment.installation().join("bin")).expect("created");
        fs::write(environment.installation().join("bin/python"), "").expect("written");
        environment.publish().expect("published");
    }

    #[test]
    fn an_installation_is_shared_by_the_same_requirements_once_it_is_complete() {
        let host = host();
        let (first, _first) = host.open(1, "six");
        assert!(matches!(first.prepare(None), Ok(Prepared::Missing(_))));
        let (second, _second) = host.open(2, "six");
        install(&second);
        let (third, _third) = host.open(3, "six");
        assert!(matches!(third.prepare(None), Ok(Prepared::Ready)));
        assert_eq!(third.installed(), second.installation().join("bin/python"));
        let (other, _other) = host.open(4, "seven");
        assert!(matches!(other.prepare(None), Ok(Prepared::Missing(_))));
    }

    #[test]
    fn only_environments_that_no_execution_uses_are_removed() {
        let host = host();
        let (one, lock) = host.open(1, "six");
        install(&one);
        let (two, ended) = host.open(2, "seven");
        install(&two);
        shrink(&host.state, 0, KEPT_FOR).expect("shrunk");
        assert_eq!(host.keys(), 2, "both are in use");
        drop(ended);
        shrink(&host.state, 0, KEPT_FOR).expect("shrunk");
        assert_eq!(host.keys(), 1);
        assert!(one.installed().exists());
        drop(lock);
        shrink(&host.state, 9, KEPT_FOR).expect("shrunk");
        assert_eq!(host.keys(), 1, "it is young, and there is room");
        shrink(&host.state, 9, Duration::ZERO).expect("shrunk");
        assert_eq!(host.keys(), 0);
    }

    #[test]
    fn an_installation_that_was_killed_is_removed_and_never_used() {
        let host = host();
        let (killed, lock) = host.open(1, "six");
        assert!(matches!(killed.prepare(None), Ok(Prepared::Missing(_))));
        drop(lock);
        shrink(&host.state, 9, KEPT_FOR).expect("shrunk");
        assert!(!killed.installation().exists());
        let (next, _lock) = host.open(2, "six");
        assert!(matches!(next.prepare(None), Ok(Prepared::Missing(_))));
    }
}
