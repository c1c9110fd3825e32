//! Where things lie in the state directory. Ids become names only through here.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::storage::{StorageError, add_permissions, ensure_private_directory};

/// The state directory.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory and the folders in it, 0700.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        ensure_private_directory(path)?;
        // Shims are given the path and change their own directory: it has to be absolute.
        let path = path.canonicalize().map_err(StorageError::io("open", path))?;
        let state = Self(path);
        state.ensure_ledger()?;
        ensure_private_directory(&state.scripts())?;
        Ok(state)
    }

    /// Lets other users reach the scripts, and nothing else: they may pass through the directory
    /// and read the scripts folder. What else lies here is each for itself closed to them.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn grant_script_access(&self) -> Result<(), StorageError> {
        add_permissions(self.path(), 0o011)?;
        add_permissions(&self.scripts(), 0o055)
    }

    /// The directory at this path as it is; nothing is made.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory as it is, for somebody who only looks; `None` if it is not there.
    pub fn existing(path: &Path) -> Option<Self> {
        path.canonicalize().ok().filter(|path| path.is_dir()).map(Self)
    }

    /// Makes the folders of the ledger, which are moved away as a whole when it is set aside.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn ensure_ledger(&self) -> Result<(), StorageError> {
        ensure_private_directory(&self.executions())?;
        ensure_private_directory(&self.settled())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }
    pub fn machine_seed(&self) -> PathBuf {
        self.0.join("machine_seed.json")
    }
    pub fn key(&self) -> PathBuf {
        self.0.join("key.json")
    }
    pub fn manifest(&self) -> PathBuf {
        self.0.join("script_manifest.json")
    }
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy.json")
    }
    /// There has been a policy.
    pub fn policy_seen(&self) -> PathBuf {
        self.0.join("policy.seen")
    }
    pub fn scripts(&self) -> PathBuf {
        self.0.join("scripts")
    }
    /// How this agent stands with its server.
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }
    /// What its supervisor does, written by that.
    pub fn supervisor(&self) -> PathBuf {
        self.0.join("supervisor.json")
    }
    /// The version that is wished for, for the supervisor to read.
    pub fn update_request(&self) -> PathBuf {
        self.0.join(muster_protocol::release::UPDATE_REQUEST_FILE)
    }
    /// What came of it, written by the supervisor.
    pub fn update_result(&self) -> PathBuf {
        self.0.join(muster_protocol::release::UPDATE_RESULT_FILE)
    }
    /// What the host's owner asks this agent to become.
    pub fn owner_update_request(&self) -> PathBuf {
        self.0.join("owner_update_request.json")
    }
    /// Why it does not.
    pub fn owner_update_refusal(&self) -> PathBuf {
        self.0.join("owner_update_refusal.json")
    }
    /// Held by whoever asks, until there is a verdict.
    pub fn owner_update_lock(&self) -> PathBuf {
        self.0.join("owner_update.lock")
    }
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger.json")
    }
    pub fn executions(&self) -> PathBuf {
        self.0.join("executions")
    }
    pub fn settled(&self) -> PathBuf {
        self.0.join("settled")
    }
    pub fn set_aside(&self, id: Uuid) -> PathBuf {
        self.0.join(format!("set-aside-{}", id.hyphenated()))
    }
    pub fn settled_record(&self, command_id: Uuid) -> PathBuf {
        self.settled().join(command_id.hyphenated().to_string())
    }
    pub fn execution(&self, command_id: Uuid) -> ExecutionDir {
        ExecutionDir(self.executions().join(command_id.hyphenated().to_string()))
    }
}

/// The name of the socket on which shims wake the agent.
pub const NOTIFICATION_SOCKET: &str = "wake.sock";

/// The folder of one command.
#[derive(Debug, Clone)]
pub struct ExecutionDir(PathBuf);

impl ExecutionDir {
    /// The folder at this path, as a shim is told it.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }
    /// The id that names the folder; `None` if it is no folder of a command.
    pub fn command_id(&self) -> Option<Uuid> {
        id_of_name(self.0.file_name()?.to_str()?)
    }
    /// The state directory that holds the folder.
    pub fn state(&self) -> Option<&Path> {
        self.0.parent()?.parent()
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub fn command(&self) -> PathBuf {
        self.0.join("command.json")
    }
    /// The values of the parameters, apart from the rest because they may be secret.
    pub fn parameters(&self) -> PathBuf {
        self.0.join("parameters.json")
    }
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    pub fn control(&self) -> PathBuf {
        self.0.join("control")
    }
    pub fn cancel(&self) -> PathBuf {
        self.0.join("cancel")
    }
    pub fn started(&self) -> PathBuf {
        self.0.join("started")
    }
    pub fn output(&self) -> PathBuf {
        self.0.join("output")
    }
    pub fn exit(&self) -> PathBuf {
        self.0.join("exit")
    }
    pub fn settled(&self) -> PathBuf {
        self.0.join("settled")
    }
    pub fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
}

/// Reads an id back from a file's name; only the one spelling that is ever written counts.
pub fn id_of_name(name: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(name).ok()?;
    (id.hyphenated().to_string() == name).then_some(id)
}
