//! Taking a ledger up: what an agent before this one has left, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::recovery::{self, Recovery};
use super::{Entry, Head, Ledger, Phase, files};
use crate::layout::{StateDir, id_of_name};
use crate::storage::{self, StorageError};

impl Ledger {
    /// Opens the ledger, or makes one. Says for each command without a receipt what follows.
    ///
    /// # Errors
    /// [`StorageError`] if the head is damaged, the disk refuses, or a trace is there that can't be
    /// read: to begin without it could break a promise.
    pub fn open(state: &StateDir) -> Result<(Self, Vec<(Uuid, Recovery)>), StorageError> {
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
            swept_later: BTreeSet::new(),
        };
        files::forget_parameters(state);
        let recoveries = ledger.read_jobs()?;
        Ok((ledger, recoveries))
    }

    fn read_jobs(&mut self) -> Result<Vec<(Uuid, Recovery)>, StorageError> {
        let jobs = self.state.jobs();
        let mut recoveries = Vec::new();
        for name in names_in(&jobs)? {
            let Some(command_id) = id_of_name(&name) else { continue };
            let job = self.state.job(command_id);
            let is_receipted = storage::exists(&self.state.settled_record(command_id))?;
            let (evidence, command) = files::gather(&job)?;
            // Of receipted ones too: the head is written behind them, when they are swept.
            if let Some(command) = &command {
                self.head.acceptance_count =
                    self.head.acceptance_count.max(command.acceptance_count);
            }
            if is_receipted {
                self.swept_later.insert(command_id);
                continue;
            }
            let recovery = recovery::judge(evidence);
            let phase = match recovery {
                Recovery::Discard => {
                    files::remove_job(&job);
                    continue;
                }
                Recovery::Report => Phase::Settled,
                Recovery::Reattach | Recovery::Lose => Phase::Running,
                Recovery::Start | Recovery::Cancel | Recovery::Expire => Phase::Waiting,
            };
            let entry = match &command {
                Some(command) => Entry::of(command, phase),
                None => Entry { phase, ..Entry::settled() },
            };
            self.entries.insert(command_id, entry);
            recoveries.push((command_id, recovery));
        }
        // First accepted, first started.
        recoveries.sort_by_key(|(id, _)| self.entries.get(id).map(|entry| entry.order));
        self.sweep();
        Ok(recoveries)
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
    use crate::ledger::NewCommand;
    use crate::ledger::record::ParameterRecord;
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
        }]);
        assert!(matches!(outcomes[..], [(_, Ok(1))]), "{outcomes:?}");
        command_id
    }

    #[test]
    fn a_trace_that_cannot_be_looked_at_stops_the_agent_and_costs_no_promise() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let job = state.job(accepted(&state));
        // Nothing that can be locked: as good as a system that is out of open files.
        fs::create_dir(job.lock()).expect("created");
        assert!(matches!(Ledger::open(&state), Err(StorageError::Io { .. })));
        fs::remove_dir(job.lock()).expect("removed");
        fs::create_dir(job.settled()).expect("created");
        assert!(matches!(Ledger::open(&state), Err(StorageError::Io { .. })));
        fs::remove_dir(job.settled()).expect("removed");
        let (_, recoveries) = Ledger::open(&state).expect("opened");
        assert_eq!(recoveries, [(Uuid::from_u128(7), Recovery::Start)]);
    }

    #[test]
    fn an_answer_of_a_later_version_is_not_taken_for_none() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let job = state.job(accepted(&state));
        let json = br#"{"version":2}"#;
        let seal = hex::encode(ring::digest::digest(&ring::digest::SHA256, json));
        fs::write(job.settled(), [json.as_slice(), b"\n", seal.as_bytes()].concat())
            .expect("written");
        let opened = Ledger::open(&state);
        assert!(matches!(opened, Err(StorageError::Version { version: 2, .. })), "{opened:?}");
        assert!(job.command().exists());
    }

    #[test]
    fn a_ledger_that_is_set_aside_holds_no_values_of_parameters() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let state = StateDir::create(folder.path()).expect("state directory");
        let command_id = accepted(&state);
        assert!(state.job(command_id).parameters().exists());
        Ledger::set_aside(&state).expect("set aside");
        let aside = files::all_aside(state.path());
        let job = aside[0].1.join("jobs").join(command_id.hyphenated().to_string());
        assert!(job.join("command.json").exists());
        assert!(!job.join("parameters.json").exists());
    }
}
