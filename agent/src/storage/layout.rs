//! Paths in the state directory. Ids become file names only here.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::storage::{StorageError, add_permissions, ensure_private_directory};

/// The state directory.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Creates the directory and the folders in it, with mode 0700.
    ///
    /// # Errors
    /// The system's error.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        ensure_private_directory(path)?;
        // Shims get the path and change their own directory, so it must be absolute.
        let path = path.canonicalize().map_err(StorageError::io("open", path))?;
        let state = Self(path);
        state.ensure_ledger()?;
        ensure_private_directory(&state.scripts())?;
        ensure_private_directory(&state.custom_facts())?;
        Ok(state)
    }

    /// Gives other users access to the scripts and the custom facts only: they may traverse the directory
    /// and read these folders. Everything else has its own closed mode.
    ///
    /// # Errors
    /// The system's error.
    pub fn grant_script_access(&self) -> Result<(), StorageError> {
        add_permissions(self.path(), 0o011)?;
        add_permissions(&self.scripts(), 0o055)?;
        add_permissions(&self.custom_facts(), 0o055)
    }

    /// The directory at this path; nothing is created.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory for callers that only read; `None` if it does not exist.
    pub fn existing(path: &Path) -> Option<Self> {
        path.canonicalize().ok().filter(|path| path.is_dir()).map(Self)
    }

    /// Creates the ledger's folders, which are moved as a whole when the ledger is set aside.
    ///
    /// # Errors
    /// The system's error.
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
    /// The private key that proves this agent's identity.
    pub fn key_pair(&self) -> PathBuf {
        self.0.join("key_pair.json")
    }
    /// The certificate of the key pair.
    pub fn client_certificate(&self) -> PathBuf {
        self.0.join("client_certificate.json")
    }
    /// The authorities that the server has replaced those of the CA file with.
    pub fn authorities(&self) -> PathBuf {
        self.0.join("authorities.json")
    }
    pub fn key(&self) -> PathBuf {
        self.0.join("key.json")
    }
    pub fn manifest(&self) -> PathBuf {
        self.0.join("script_manifest.json")
    }
    /// Shows that there has been a manifest.
    pub fn manifest_seen(&self) -> PathBuf {
        self.0.join("manifest.seen")
    }
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy.json")
    }
    /// Shows that there has been a policy.
    pub fn policy_seen(&self) -> PathBuf {
        self.0.join("policy.seen")
    }
    /// The approval capsules that were used.
    pub fn used_capsules(&self) -> PathBuf {
        self.0.join("used_capsules")
    }
    /// The oldest versions of library scripts that run.
    pub fn minimum_versions(&self) -> PathBuf {
        self.0.join("minimum_versions")
    }

    /// The lowest ranks of packages.
    pub fn minimum_packages(&self) -> PathBuf {
        self.0.join("minimum_packages")
    }
    /// Bodies of library scripts.
    pub fn library(&self) -> PathBuf {
        self.0.join(LIBRARY)
    }
    /// Archives of packages, by their SHA-256.
    pub fn package_archives(&self) -> PathBuf {
        self.0.join("package_archives")
    }
    /// The unpacked packages of executions.
    pub fn packages(&self) -> PathBuf {
        self.0.join(PACKAGES)
    }
    /// The packages that the server wants on this host.
    pub fn assignments(&self) -> PathBuf {
        self.0.join("assignments.json")
    }
    /// The last due times of tasks, by the id of their assignment.
    pub fn task_cursors(&self) -> PathBuf {
        self.0.join("task_cursors")
    }
    pub fn task_cursor(&self, assignment_id: Uuid) -> PathBuf {
        self.task_cursors().join(assignment_id.hyphenated().to_string())
    }
    /// What is known about services, by the id of their assignment.
    pub fn services(&self) -> PathBuf {
        self.0.join("services")
    }
    pub fn service(&self, assignment_id: Uuid) -> PathBuf {
        self.services().join(assignment_id.hyphenated().to_string())
    }
    /// What scripts of the library need, installed.
    pub fn environments(&self) -> PathBuf {
        self.0.join("environments")
    }
    pub fn scripts(&self) -> PathBuf {
        self.0.join("scripts")
    }
    /// Files and programs of the host's owner that report facts.
    pub fn custom_facts(&self) -> PathBuf {
        self.0.join("facts.d")
    }
    /// The agent's connection state.
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }
    /// What the server asked for lately.
    pub fn requests(&self) -> [PathBuf; 3] {
        ["requests.log", "requests-refused.log", "requests-life-cycle.log"]
            .map(|name| self.0.join(name))
    }
    /// The supervisor's state, written by the supervisor.
    pub fn supervisor(&self) -> PathBuf {
        self.0.join("supervisor.json")
    }
    /// The requested version, read by the supervisor.
    pub fn update_request(&self) -> PathBuf {
        self.0.join(muster_protocol::release::UPDATE_REQUEST_FILE)
    }
    /// The result of the request, written by the supervisor.
    pub fn update_result(&self) -> PathBuf {
        self.0.join(muster_protocol::release::UPDATE_RESULT_FILE)
    }
    /// The update request of the host's owner.
    pub fn owner_update_request(&self) -> PathBuf {
        self.0.join("owner_update_request.json")
    }
    /// Why the owner's request was refused.
    pub fn owner_update_refusal(&self) -> PathBuf {
        self.0.join("owner_update_refusal.json")
    }
    /// Held by the owner's requester until there is a result.
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
    /// Secret parameters of running executions, for scripts that receive them as files.
    pub fn secrets(&self) -> PathBuf {
        self.0.join(SECRETS)
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

/// Name of the folder for secret files.
const SECRETS: &str = "secrets";

/// Name of the folder for the unpacked packages of executions.
const PACKAGES: &str = "packages";

/// Name of the folder for bodies of library scripts.
pub const LIBRARY: &str = "library";

/// Name of the socket on which shims notify the agent.
pub const NOTIFICATION_SOCKET: &str = "wake.sock";

/// The folder of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionDir(PathBuf);

impl ExecutionDir {
    /// The folder at this path, as passed to a shim.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }
    /// The id that names the folder; `None` if the name is not an id.
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
    /// The folder with the secret files of the execution. It is outside the execution's own folder,
    /// which the user that scripts run as can't enter.
    pub fn secrets(&self) -> Option<PathBuf> {
        Some(self.state()?.join(SECRETS).join(self.0.file_name()?))
    }
    /// The unpacked package of the execution. It is outside the execution's own folder, which the user that
    /// scripts run as can't enter.
    pub fn package(&self) -> Option<PathBuf> {
        Some(self.state()?.join(PACKAGES).join(self.0.file_name()?))
    }
    /// The archive of a package: a second link to the file in the cache.
    pub fn archive(&self) -> PathBuf {
        self.0.join("archive")
    }
    /// The body of a library script: a second link to the file in the cache. Steps may have several.
    pub fn body(&self, number: usize) -> PathBuf {
        match number {
            0 => self.0.join("body"),
            number => self.0.join(format!("body-{number}")),
        }
    }
    /// The parameter values, apart from the rest because they may be secret.
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
    /// How far the steps are.
    pub fn steps(&self) -> PathBuf {
        self.0.join("steps")
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
    /// The health of a service, and whether its limits hold.
    pub fn status(&self) -> PathBuf {
        self.0.join("status")
    }
    pub fn log(&self) -> PathBuf {
        self.0.join("shim.log")
    }
}

/// Reads an id from a file name; only the spelling that the agent writes is accepted.
pub fn id_of_name(name: &str) -> Option<Uuid> {
    let id = Uuid::parse_str(name).ok()?;
    (id.hyphenated().to_string() == name).then_some(id)
}
