//! Loads the ledger that the previous agent process left, and decides what to do about each
//! command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use uuid::Uuid;

use super::recovery::{self, RecoveryAction};
use super::{Entry, Head, Ledger, Phase, files};
use crate::executions::{packages, secret_files};
use crate::storage::layout::{StateDir, id_of_name};
use crate::storage::{self, StorageError};

impl Ledger {
    /// Opens the ledger or creates it. Returns the action for each command without a receipt.
    ///
    /// # Errors
    /// [`StorageError`] if the head is damaged, the disk fails, or a file exists that can't be
    /// read: starting without it could break a promise.
    pub fn open(state: &StateDir) -> Result<(Self, Vec<(Uuid, RecoveryAction)>), StorageError> {
        state.ensure_ledger()?;
        let head = match storage::read_sealed(&state.ledger())? {
            Some(head) => head,
            None => {
                let head =
                    Head { ledger_id: Uuid::new_v4(), acceptance_count: 0, highest_epoch: 0 };
                storage::replace_synced(&state.ledger(), &storage::seal(&head))?;
                head
            }
        };
        let mut ledger = Self {
            state: state.clone(),
            head,
            entries: BTreeMap::new(),
            sweep_queue: BTreeSet::new(),
            discardable: VecDeque::new(),
            receipted_count: 0,
        };
        files::delete_parameters(state);
        let recoveries = ledger.read_executions()?;
        let is_running = |id| ledger.entry(id).is_some_and(|entry| entry.phase == Phase::Running);
        secret_files::remove_stale(state, is_running);
        packages::remove_stale(state, is_running);
        Ok((ledger, recoveries))
    }

    fn read_executions(&mut self) -> Result<Vec<(Uuid, RecoveryAction)>, StorageError> {
        let executions = self.state.executions();
        let mut recoveries = Vec::new();
        let mut discardable = Vec::new();
        for name in names_in(&executions)? {
            let Some(command_id) = id_of_name(&name) else { continue };
            let execution = self.state.execution(command_id);
            let is_receipted = storage::exists(&self.state.settled_record(command_id))?;
            let (on_disk, command) = files::read_on_disk_state(&execution)?;
            // Receipted commands count too: the head is written only when they are swept.
            if let Some(command) = &command {
                self.head.acceptance_count =
                    self.head.acceptance_count.max(command.acceptance_count);
            }
            if is_receipted {
                self.sweep_queue.insert(command_id);
                continue;
            }
            let recovery = recovery::decide(on_disk);
            let phase = match recovery {
                RecoveryAction::Discard => {
                    files::remove_execution(&execution);
                    continue;
                }
                RecoveryAction::Report => Phase::Settled,
                RecoveryAction::Reattach | RecoveryAction::Lose => Phase::Running,
                RecoveryAction::Start | RecoveryAction::Cancel | RecoveryAction::Expire => {
                    Phase::Waiting
                }
            };
            let entry = match &command {
                Some(command) => Entry::of(command, phase),
                None => self.read_answered(command_id, phase)?,
            };
            if entry.is_discardable {
                let settled = fs::metadata(execution.settled());
                let at = settled.and_then(|settled| settled.modified());
                discardable.push((at.unwrap_or(SystemTime::UNIX_EPOCH), command_id));
            }
            self.entries.insert(command_id, entry);
            recoveries.push((command_id, recovery));
        }
        // Executions start in the order in which they were accepted.
        recoveries.sort_by_key(|(id, _)| self.entries.get(id).map(|entry| entry.order));
        discardable.sort();
        self.discardable = discardable.into_iter().map(|(_, command_id)| command_id).collect();
        self.sweep();
        Ok(recoveries)
    }

    /// The entry of a command without a command record.
    fn read_answered(&self, command_id: Uuid, phase: Phase) -> Result<Entry, StorageError> {
        let settlement = files::read_settlement(&self.state.execution(command_id))?;
        let entry = match settlement {
            Some(settlement) => Entry::answered(&settlement.response(command_id)),
            None => Entry::settled(),
        };
        Ok(Entry { phase, ..entry })
    }
}

fn names_in(path: &Path) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(StorageError::io("list", path))? {
        let entry = entry.map_err(StorageError::io("list", path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executions::ledger::NewCommand;
    use crate::executions::ledger::record::ParameterRecord;
    use data_encoding::HEXLOWER;
    use muster_protocol::CommandName;
    use muster_protocol::parameter::Parameters;

    fn accepted(state: &StateDir) -> Uuid {
        let command_id = Uuid::from_u128(7);
        let (mut ledger, _) = Ledger::open(state).expect("opened");
        let outcomes = ledger.accept(vec![NewCommand {
            command_id,
            command: CommandName::Execute,
            start_by: None,
            launch: None,
            parameters: ParameterRecord {
                secret_parameters: Parameters::from([("SECRET".into(), "value".into())]).into(),
                ..ParameterRecord::default()
            },
            files: Vec::new(),
            minimums: Vec::new(),
            request_id: None,
            task: None,
        }]);
        assert!(matches!(outcomes[..], [(_, Ok(1))]), "{outcomes:?}");
        command_id
    }

    #[test]
    fn an_unreadable_execution_file_stops_the_agent_and_loses_no_command() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let execution = state.execution(accepted(&state));
        // A folder can't be locked, which has the same effect as a system without free file
        // descriptors.
        fs::create_dir(execution.lock()).expect("created");
        assert!(matches!(Ledger::open(&state), Err(StorageError::Io { .. })));
        fs::remove_dir(execution.lock()).expect("removed");
        fs::create_dir(execution.settled()).expect("created");
        assert!(matches!(Ledger::open(&state), Err(StorageError::Io { .. })));
        fs::remove_dir(execution.settled()).expect("removed");
        let (_, recoveries) = Ledger::open(&state).expect("opened");
        assert_eq!(recoveries, [(Uuid::from_u128(7), RecoveryAction::Start)]);
    }

    #[test]
    fn a_result_of_a_later_version_does_not_count_as_missing() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let execution = state.execution(accepted(&state));
        let json = br#"{"version":2}"#;
        let seal = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, json).as_ref());
        fs::write(execution.settled(), [json.as_slice(), b"\n", seal.as_bytes()].concat())
            .expect("written");
        let opened = Ledger::open(&state);
        assert!(matches!(opened, Err(StorageError::Version { version: 2, .. })), "{opened:?}");
        assert!(execution.command().exists());
    }

    #[test]
    fn no_new_identity_deletes_a_result_that_was_set_aside() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let keep = |days: u64| std::time::Duration::from_secs(days * 24 * 3600);
        for kept in 1..=8 {
            let execution = state.execution(accepted(&state));
            fs::write(execution.started(), "").expect("written");
            Ledger::check_space_aside(&state, 8, u64::MAX).expect("room");
            Ledger::set_aside(&state).expect("set aside");
            // Ledgers without results need no room and push none out.
            for _ in 0..4 {
                Ledger::set_aside(&state).expect("set aside");
            }
            let with_results = files::set_aside_with_results(state.path(), keep(30));
            assert_eq!(with_results.len(), kept);
            assert!(files::set_aside_folders(state.path()).len() <= kept + 3);
        }
        Ledger::check_space_aside(&state, 8, u64::MAX).expect("there is no result to lose");
        let execution = state.execution(accepted(&state));
        fs::write(execution.started(), "").expect("written");
        let refused = Ledger::check_space_aside(&state, 8, u64::MAX).expect_err("too many");
        let refused = muster_protocol::error_chain(&refused);
        assert!(refused.contains("8 former ones"), "{refused}");
        assert!(refused.contains("muster-agent discard-results"), "{refused}");
        // Empty files take space too: 8 folders with 4 folders each.
        let many = usize::MAX;
        Ledger::check_space_aside(&state, many, 64 * 4096).expect("little space");
        Ledger::check_space_aside(&state, many, 8 * 4096).expect_err("too much space");
        // Old results make room.
        assert_eq!(
            files::set_aside_with_results(state.path(), keep(0)),
            Vec::<std::path::PathBuf>::new()
        );
        // So does the owner, who loses no result of the present identity.
        let discarded = Ledger::discard_set_aside(&state).expect("discarded");
        assert!(discarded.identities >= 8 && discarded.bytes > 0, "{discarded:?}");
        assert_eq!(files::set_aside_folders(state.path()), []);
        Ledger::check_space_aside(&state, 8, u64::MAX).expect("room");
        assert!(execution.started().exists());
    }

    #[test]
    fn a_ledger_that_is_set_aside_contains_no_parameter_values() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let command_id = accepted(&state);
        assert!(state.execution(command_id).parameters().exists());
        Ledger::set_aside(&state).expect("set aside");
        let aside = files::set_aside_folders(state.path());
        let execution = aside[0].1.join("executions").join(command_id.hyphenated().to_string());
        assert!(execution.join("command.json").exists());
        assert!(!execution.join("parameters.json").exists());
    }
}
