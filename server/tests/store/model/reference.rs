//! The model: a table of commands and one of agents, and what each operation does to them, told
//! once more in other words than the server's.

use std::collections::{BTreeMap, BTreeSet};

use muster_protocol::frame::{InventoryState, Outcome, Receipt};
use muster_server::domain::commands::command_state::{CommandState, EndReason};

use super::step::AGENTS;
use CommandState::{Cancelled, Delivered, Lost, Queued, Rejected, Running};

/// A command as it should be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelRow {
    pub agent: usize,
    pub state: Option<CommandState>,
    pub reason: Option<EndReason>,
    pub is_cancel_requested: bool,
    /// The outcome that was reported, and whether it came too late.
    pub report: Option<(CommandState, bool)>,
    pub output_bytes: u64,
}

/// An agent as it should be stored.
#[derive(Debug, Clone)]
pub struct ModelHost {
    pub epoch: i64,
    pub ledger: u128,
    pub count: u64,
    pub is_online: bool,
}

/// What a caller should learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Stale,
    /// An operation that is refused and has changed nothing.
    Refused,
    Submitted {
        delivered: bool,
    },
    /// The number of the command that the key made before.
    Repeated(usize),
    KeyReused,
    Delivered(BTreeSet<usize>),
    Output(u64),
    Settled {
        receipt: Receipt,
        was_open: bool,
    },
    Reconciled(ExpectedReconciliation),
    Opened(i64),
    Cancelled {
        is_sent: bool,
    },
    Unknown,
}

/// The expected answer to an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedReconciliation {
    pub dispositions: BTreeMap<usize, Result<u64, Receipt>>,
    pub cancels: BTreeSet<usize>,
    pub open: BTreeSet<usize>,
    pub moved: BTreeSet<usize>,
}

#[derive(Debug)]
pub struct Reference {
    pub rows: BTreeMap<usize, ModelRow>,
    pub hosts: [ModelHost; AGENTS],
    pub keys: BTreeMap<u8, (u8, usize)>,
}

impl ModelRow {
    fn state(&self) -> CommandState {
        self.state.unwrap_or(Queued)
    }

    fn is_over(&self) -> bool {
        self.state().is_terminal()
    }

    fn end(&mut self, state: CommandState, reason: EndReason) {
        (self.state, self.reason) = (Some(state), Some(reason));
    }
}

impl Reference {
    pub fn submit(
        &mut self,
        command: usize,
        agent: usize,
        epoch: Option<i64>,
        key: Option<(u8, u8)>,
    ) -> Answer {
        if let Some((key, hash)) = key
            && let Some((known, made)) = self.keys.get(&key)
        {
            return if *known == hash { Answer::Repeated(*made) } else { Answer::KeyReused };
        }
        if let Some((key, hash)) = key {
            self.keys.insert(key, (hash, command));
        }
        let host = &self.hosts[agent];
        // To a session that has ended, nothing is sent.
        let delivered = host.is_online && epoch == Some(host.epoch);
        let state = Some(if delivered { Delivered } else { Queued });
        self.rows.insert(command, ModelRow { agent, state, ..ModelRow::default() });
        Answer::Submitted { delivered }
    }

    pub fn deliver(&mut self, commands: &[usize]) -> Answer {
        let mut delivered = BTreeSet::new();
        for command in commands {
            if let Some(row) = self.rows.get_mut(command)
                && row.state() == Queued
            {
                row.state = Some(Delivered);
                delivered.insert(*command);
            }
        }
        Answer::Delivered(delivered)
    }

    pub fn start(&mut self, agent: usize, command: usize) -> Answer {
        if let Some(row) = self.rows.get_mut(&command).filter(|row| row.agent == agent)
            && matches!(row.state(), Queued | Delivered)
        {
            row.state = Some(Running);
        }
        Answer::Done
    }

    pub fn output(&mut self, command: usize, offset: u64, length: u64) -> Answer {
        let Some(row) = self.rows.get_mut(&command).filter(|row| row.output_bytes == offset) else {
            return Answer::Refused;
        };
        row.output_bytes += length;
        Answer::Output(row.output_bytes)
    }

    pub fn settle(&mut self, agent: usize, command: usize, outcome: Outcome) -> Answer {
        let Some(row) = self.rows.get_mut(&command).filter(|row| row.agent == agent) else {
            return Answer::Settled { receipt: Receipt::UnknownCommand, was_open: false };
        };
        let was_open = !row.is_over();
        if was_open {
            row.state = Some(outcome.into());
        }
        let (_, is_late) = *row.report.get_or_insert((outcome.into(), !was_open));
        let receipt = if is_late { Receipt::Late } else { Receipt::Recorded };
        Answer::Settled { receipt, was_open }
    }

    pub fn reconcile(&mut self, agent: usize, listed: &[(usize, InventoryState)]) -> Answer {
        let listed: BTreeMap<_, _> = listed.iter().copied().collect();
        let mut told = ExpectedReconciliation::default();
        for (command, row) in self.rows.iter_mut().filter(|(_, row)| row.agent == agent) {
            let Some(said) = listed.get(command) else {
                match row.state() {
                    Delivered if row.is_cancel_requested => {
                        row.end(Cancelled, EndReason::CancelledInQueue);
                    }
                    Delivered => row.state = Some(Queued),
                    Running => row.end(Lost, EndReason::MissingFromInventory),
                    _ => continue,
                }
                told.moved.insert(*command);
                continue;
            };
            if let Some((_, is_late)) = row.report {
                let receipt = if is_late { Receipt::Late } else { Receipt::Recorded };
                told.dispositions.insert(*command, Err(receipt));
                continue;
            }
            let next = match (row.state(), said) {
                (Queued | Delivered, InventoryState::Running) => Running,
                (Queued, _) => Delivered,
                (state, _) => state,
            };
            if next != row.state() {
                row.state = Some(next);
                told.moved.insert(*command);
            }
            told.dispositions.insert(*command, Ok(row.output_bytes));
            if !row.is_over() {
                told.open.insert(*command);
            }
            if row.is_cancel_requested {
                told.cancels.insert(*command);
            }
        }
        for command in listed.keys() {
            told.dispositions.entry(*command).or_insert(Err(Receipt::UnknownCommand));
        }
        Answer::Reconciled(told)
    }

    pub fn open(&mut self, agent: usize, ledger: u128, count: u64) -> Answer {
        let host = &mut self.hosts[agent];
        let is_known = host.ledger == ledger && count >= host.count;
        *host = ModelHost { epoch: host.epoch + 1, ledger, count, is_online: true };
        let epoch = host.epoch;
        for row in self.rows.values_mut().filter(|row| row.agent == agent && !is_known) {
            if matches!(row.state(), Delivered | Running) {
                row.end(Lost, EndReason::LedgerReplaced);
            }
        }
        Answer::Opened(epoch)
    }

    pub fn cancel(&mut self, command: usize) -> Answer {
        let Some(row) = self.rows.get_mut(&command) else { return Answer::Unknown };
        if row.is_over() {
            return Answer::Cancelled { is_sent: false };
        }
        row.is_cancel_requested = true;
        let is_sent = row.state() != Queued;
        if !is_sent {
            row.end(Cancelled, EndReason::CancelledInQueue);
        }
        Answer::Cancelled { is_sent }
    }

    pub fn refuse(&mut self, commands: &[usize]) -> Answer {
        for command in commands {
            if let Some(row) = self.rows.get_mut(command)
                && row.state() == Queued
            {
                row.end(Rejected, EndReason::PermissionRevoked);
            }
        }
        Answer::Done
    }
}
