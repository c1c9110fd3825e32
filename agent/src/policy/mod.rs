//! The host's policy: what the server may run, and as which user. `policy.json` is read again when
//! it has changed.
//!
//! Unlike a manifest, a policy does not stay in force when its replacement is invalid: nothing may
//! be run until it is corrected.

pub mod file_fingerprint;
pub mod file_rules;
pub mod guard;
pub mod manifest;
pub mod minimum_versions;
pub mod needs_approval;
pub mod used_capsules;

use std::collections::BTreeSet;
use std::path::PathBuf;

use muster_protocol::facts::is_fact_name;
use muster_protocol::identity::AgentPublicKey;
use muster_protocol::{CommandName, object};
use serde::Deserialize;

use crate::platform::{self, Account};
use crate::policy::file_fingerprint::FileFingerprint;
use crate::policy::file_rules::FileRules;
use crate::policy::needs_approval::NeedsApproval;
use crate::storage;
use crate::storage::layout::StateDir;

/// A policy is short.
const MAX_BYTES: u64 = 64 * 1024;
/// What `withheld_facts` has for every fact.
const ALL_FACTS: &str = "*";
/// Most entries of `withheld_facts`.
const MAX_WITHHELD_FACTS: usize = 64;
/// Most publishers of a host.
const MAX_PUBLISHERS: usize = 16;

/// The policy of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    pub allow: Allow,
    /// The user that scripts run as; the agent's own user if absent.
    #[serde(default)]
    pub run_as: Option<String>,
    /// What the server may not do to the agent itself.
    #[serde(default)]
    pub forbid: BTreeSet<Forbidden>,
    /// What the server may only do with the signature of an approver; nothing if absent. An agent of a
    /// version before this field refuses the whole policy.
    #[serde(default)]
    pub needs_approval: Option<NeedsApproval>,
    /// Public keys, as `muster publisher keygen` prints them: scripts of the library run only if one of
    /// them has signed the version; without the field, any. An agent of a version before this field
    /// refuses the whole policy.
    #[serde(default)]
    pub publishers: Option<Vec<AgentPublicKey>>,
    /// Which files the server may read and write; none if absent. An agent of a version before this field
    /// refuses the whole policy.
    #[serde(default)]
    pub files: Option<FileRules>,
    /// Facts that the host does not report, each with all below it; `*` for all. An agent of a version
    /// before this field refuses the whole policy.
    #[serde(default)]
    pub withheld_facts: BTreeSet<String>,
}

/// Something that the server does to the agent itself or has it do, and that a policy can forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forbidden {
    Restart,
    Update,
    Redeploy,
    Shutdown,
    /// Replace the agent key.
    Rekey,
    /// Keep programs running: packages of kind `service`.
    Services,
}

/// What the server may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allow {
    /// Scripts in the host's manifest.
    #[default]
    Manifest,
    /// Also scripts from the server's library.
    Library,
    /// Also any program with any arguments.
    Shell,
}

/// Why scripts can't run as the configured user. The messages are shown to the person who sent the
/// command.
#[derive(Debug, thiserror::Error)]
pub enum RunAsError {
    #[error(
        "the host's policy.json sets run_as to `{0}`, but the agent is not root and can't switch users; start it as root, or remove run_as from policy.json"
    )]
    NotRoot(String),
    #[error(
        "the host's policy.json sets run_as to `{0}`, but the host has no such user; create the user, or change run_as in policy.json"
    )]
    UnknownUser(String),
    #[error("the host failed to look up the user `{name}` of its policy.json: {source}")]
    LookupFailed {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

impl Forbidden {
    /// Everything that a policy can forbid.
    pub const ALL: [Self; 6] =
        [Self::Restart, Self::Update, Self::Redeploy, Self::Shutdown, Self::Rekey, Self::Services];

    /// The name in the file and in the frame `manifest`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Redeploy => "redeploy",
            Self::Shutdown => "shutdown",
            Self::Rekey => "rekey",
            Self::Services => "services",
        }
    }

    /// The command; `None` for commands that no policy forbids.
    pub fn of(command: CommandName) -> Option<Self> {
        Self::ALL.into_iter().find(|forbidden| forbidden.as_str() == command.as_str())
    }
}

impl Policy {
    /// True if the server may not send this command.
    pub fn forbids(&self, command: CommandName) -> bool {
        Forbidden::of(command).is_some_and(|forbidden| self.forbid.contains(&forbidden))
    }

    /// True if the host reports no facts at all.
    pub fn withholds_all_facts(&self) -> bool {
        self.withheld_facts.contains(ALL_FACTS)
    }

    /// True if the host does not report the fact of this name.
    pub fn withholds(&self, fact: &str) -> bool {
        let is_below = |known: &String| {
            fact.strip_prefix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.withholds_all_facts() || self.withheld_facts.iter().any(is_below)
    }

    /// The names of everything that is forbidden.
    pub fn forbidden_names(&self) -> Vec<String> {
        self.forbid.iter().map(|forbidden| forbidden.as_str().to_owned()).collect()
    }

    /// Parses a policy.
    ///
    /// # Errors
    /// A sentence that explains what is invalid and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self =
            object::read(text).map_err(|error| format!("invalid policy.json: {error}"))?;
        if let Some(Err(problem)) = policy.needs_approval.as_ref().map(NeedsApproval::check) {
            return Err(format!("invalid policy.json: {problem}"));
        }
        if let Some(Err(problem)) = policy.files.as_ref().map(FileRules::check) {
            return Err(format!("invalid policy.json: {problem}"));
        }
        let is_valid = |name: &String| name == ALL_FACTS || is_fact_name(name);
        if policy.withheld_facts.len() > MAX_WITHHELD_FACTS
            || !policy.withheld_facts.iter().all(is_valid)
        {
            return Err(format!(
                "invalid policy.json: withheld_facts must hold at most {MAX_WITHHELD_FACTS} names of facts, or `*`"
            ));
        }
        let publishers = policy.publishers.as_ref().map_or(1, Vec::len);
        if !(1..=MAX_PUBLISHERS).contains(&publishers) {
            return Err(format!(
                "invalid policy.json: publishers must hold 1 to {MAX_PUBLISHERS} keys"
            ));
        }
        Ok(policy)
    }
}

impl Allow {
    /// The name in the file and in `register`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Library => "library",
            Self::Shell => "shell",
        }
    }
}

/// Checks whether this process may switch to another user at all. The shim looks the user up,
/// because a directory service may be slow.
///
/// # Errors
/// [`RunAsError::NotRoot`]
pub fn check_run_as(name: &str) -> Result<(), RunAsError> {
    if platform::is_root() { Ok(()) } else { Err(RunAsError::NotRoot(name.to_owned())) }
}

/// Looks up the user that scripts run as. May block.
///
/// # Errors
/// [`RunAsError`] with a message that says what to do.
pub fn account(name: &str) -> Result<Account, RunAsError> {
    check_run_as(name)?;
    match Account::named(name) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(RunAsError::UnknownUser(name.to_owned())),
        Err(source) => Err(RunAsError::LookupFailed { name: name.to_owned(), source }),
    }
}

/// The policy in force and the state of its file.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    /// A file that shows, across restarts, that there has been a policy.
    seen_marker: PathBuf,
    fingerprint: Option<FileFingerprint>,
    current: Result<Policy, String>,
}

impl PolicyFile {
    /// Reads the policy. A host that never had one gets the strictest. An invalid policy is not an
    /// error: it is rejected with its reason. So is a policy that was deleted, because scripts
    /// would then run as another user.
    pub fn open(state: &StateDir) -> Self {
        let path = state.policy();
        let fingerprint = FileFingerprint::of(&path);
        let mut file = Self {
            path,
            seen_marker: state.policy_seen(),
            fingerprint,
            current: Ok(Policy::default()),
        };
        file.read_file();
        file
    }

    /// The policy in force.
    ///
    /// # Errors
    /// A sentence that explains why there is none.
    pub fn current(&self) -> Result<&Policy, &str> {
        self.current.as_ref().map_err(String::as_str)
    }

    /// Reads the file again if it has changed. True if the policy is different now.
    pub fn reload(&mut self) -> bool {
        let fingerprint = FileFingerprint::of(&self.path);
        // A rejected file is read again: the permissions of its folder may have been corrected.
        if fingerprint == self.fingerprint && self.current.is_ok() {
            return false;
        }
        self.fingerprint = fingerprint;
        self.read_file()
    }

    fn read_file(&mut self) -> bool {
        let read = match guard::read_text(&self.path, MAX_BYTES) {
            Ok(text) => Policy::parse(&text),
            Err(error) if error.is_missing() && !self.seen_marker.exists() => Ok(Policy::default()),
            Err(error) if error.is_missing() => Err(format!(
                "policy.json was deleted; restore it, or also remove {} if this host needs no policy",
                self.seen_marker.display()
            )),
            Err(error) => Err(error.to_string()),
        };
        let read = read.map_err(|reason| {
            format!("the host's policy is invalid: {reason}; correct it on the host")
        });
        if read == self.current {
            return false;
        }
        match &read {
            Ok(policy) => {
                self.write_seen_marker();
                let (allow, run_as) = (policy.allow.as_str(), policy.run_as.as_deref());
                let forbid = policy.forbidden_names().join(" ");
                let approvers =
                    policy.needs_approval.as_ref().map_or(0, |needed| needed.approvers.len());
                let publishers = policy.publishers.as_ref().map_or(0, Vec::len);
                tracing::info!(allow, run_as, forbid, approvers, publishers, "policy read");
            }
            Err(reason) => tracing::error!("{reason}"),
        }
        self.current = read;
        true
    }
}

impl PolicyFile {
    fn write_seen_marker(&self) {
        if self.path.exists() && !self.seen_marker.exists() {
            // A subcommand may run without the right to write here.
            let _ = storage::replace_synced(&self.seen_marker, b"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_policy_forbids_life_cycle_commands_by_name_and_no_others() {
        let policy = Policy::parse(r#"{"forbid":["shutdown","restart","rekey"]}"#).expect("valid");
        let forbidden: Vec<_> =
            CommandName::ALL.into_iter().filter(|name| policy.forbids(*name)).collect();
        assert_eq!(forbidden, [CommandName::Restart, CommandName::Shutdown]);
        assert_eq!(policy.forbidden_names(), ["restart", "shutdown", "rekey"]);
        for wrong in [r#"{"forbid":["execute"]}"#, r#"{"forbid":"restart"}"#] {
            Policy::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_changed_policy_is_read_again_and_an_invalid_one_disables_all_scripts() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let mut file = PolicyFile::open(&state);
        assert_eq!(file.current(), Ok(&Policy::default()));
        assert!(!file.reload(), "nothing has changed");

        fs::write(state.policy(), r#"{"allow":"shell","run_as":"nobody"}"#).expect("written");
        assert!(file.reload());
        let policy = file.current().expect("whole").clone();
        assert_eq!((policy.allow, policy.run_as.as_deref()), (Allow::Shell, Some("nobody")));

        for (text, expected) in [
            (r#"{"alow":"shell"}"#, "`alow`"),
            (r#"{"allow":"all"}"#, "`all`"),
            ("", "line 1"),
            (r#"["shell"]"#, "not a list"),
        ] {
            fs::write(state.policy(), text).expect("written");
            assert!(file.reload());
            let reason = file.current().expect_err("broken");
            assert!(reason.contains(expected), "{reason}");
        }
        fs::write(state.policy(), "{}").expect("written");
        assert!(file.reload());
        fs::remove_file(state.policy()).expect("removed");
        assert!(file.reload());
        assert!(file.current().is_err_and(|reason| reason.contains("was deleted")));
        let mut file = PolicyFile::open(&state);
        assert!(file.current().is_err(), "a restart forgets it");
        fs::remove_file(state.policy_seen()).expect("removed");
        assert!(file.reload());
        assert_eq!(file.current(), Ok(&Policy::default()));
    }
}
