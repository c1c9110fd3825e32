//! Delivers queued commands to agents that have free slots.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use muster_protocol::library::TriggerCall;

use super::delivery::{CommandDelivery, Reservation};
use crate::domain::commands::command_state::EndReason;
use crate::domain::commands::trigger::Trigger;
use crate::domain::ids::{AgentId, CommandId, PrincipalId};
use crate::domain::schedules::trigger_call::PinnedCall;
use crate::domain::time::{Clock, Timestamp};
use crate::hub::{Hub, SessionHandle};
use crate::services::library::Library;
use crate::services::library::content::{Contents, keys_of};
use crate::store::entities::commands::command;
use crate::store::writer::MarkDelivered;
use crate::store::{Store, StoreError};

/// Most commands that one call delivers.
const COMMANDS_PER_CALL: u64 = 1_000;

/// Delivers queued commands.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    pub(in crate::services) store: Store,
    pub(in crate::services) hub: Arc<Hub>,
    pub(in crate::services) clock: Clock,
    pub(in crate::services) delivery: CommandDelivery,
    pub(in crate::services) library: Library,
}

type Calls = HashMap<CommandId, TriggerCall>;
type ReadySessions = HashMap<AgentId, Arc<SessionHandle>>;

/// Queued commands, sorted by what happens to them now.
#[derive(Default)]
struct Selection {
    reserved: HashMap<AgentId, Vec<Reservation>>,
    /// Commands that cannot be sent any more.
    refused: HashMap<EndReason, Vec<(CommandId, AgentId)>>,
    /// Agents with commands that got no slot.
    starved: HashSet<AgentId>,
    /// How many commands were read, by agent.
    read_counts: HashMap<AgentId, u64>,
}

/// Commands that must not be sent because of who requested them.
struct Excluded {
    invalid_requesters: BTreeSet<PrincipalId>,
    outside_limits: BTreeSet<CommandId>,
}

impl Excluded {
    fn reason(&self, row: &command::Model) -> Option<EndReason> {
        if self.invalid_requesters.contains(&row.requested_by) {
            return Some(EndReason::ApiKeyInvalid);
        }
        self.outside_limits.contains(&row.id).then_some(EndReason::OutsideKeyLimits)
    }
}

impl Dispatcher {
    /// Delivers to some agents the queued commands for which they have free slots.
    ///
    /// # Errors
    /// [`StoreError`]. No frame is sent for a command that is not committed as `delivered`.
    pub async fn deliver(&self, agents: &[AgentId]) -> Result<(), StoreError> {
        let sessions: ReadySessions = agents
            .iter()
            .filter_map(|id| self.hub.session(*id))
            .filter(|session| session.free_slots() > 0)
            .map(|session| (session.agent_id, session))
            .collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = sessions.keys().copied().collect();
        let max_free = sessions.values().map(|session| session.free_slots()).max().unwrap_or(0);
        let max_free = max_free as u64;
        // From now on new commands are queued, behind the ones that are read here.
        sessions.values().for_each(|session| session.set_backlog(true));
        let due_at = self.clock.now();
        // Before the read: a holder that ends later wakes the agent, and one that has ended is not read.
        for agent_id in self.store.system().agents_with_queued_locks(&ids).await? {
            sessions[&agent_id].wake_at_next_free_slot();
        }
        // One more than the most free slots shows whether an agent has commands left over.
        let rows =
            self.store.system().deliverable(&ids, due_at, max_free + 1, COMMANDS_PER_CALL).await?;
        let requesters = rows.iter().map(|row| row.requested_by).collect();
        let invalid_requesters = match rows.is_empty() {
            true => BTreeSet::new(),
            false => self.store.system().invalid_requesters(requesters, due_at).await?,
        };
        let outside_limits = match rows.is_empty() {
            true => BTreeSet::new(),
            false => self.store.system().outside_limits(&rows).await?,
        };
        let keys =
            rows.iter().flat_map(|row| keys_of(row.tenant_id, row.script.as_deref(), &row.data));
        let contents = self.library.contents(keys.collect()).await?;
        let calls = self.calls(&rows).await?;
        let excluded = Excluded { invalid_requesters, outside_limits };
        // Read again: `delivered_at` must not precede `created_at` of a command that was just read.
        let now = self.clock.now();
        let is_truncated = rows.len() as u64 == COMMANDS_PER_CALL;
        let selection = self.select(&sessions, rows, &excluded, (&contents, &calls));
        for session in sessions.values() {
            let agent_id = session.agent_id;
            let read_count = selection.read_counts.get(&agent_id).copied().unwrap_or(0);
            if is_truncated || read_count > max_free {
                // More commands may be queued than were read, and slots may become free meanwhile.
                self.hub.wake(agent_id);
            } else if !selection.starved.contains(&agent_id) {
                session.set_backlog(false);
            }
        }
        let commits = selection.reserved.into_iter().map(async |(agent_id, reservations)| {
            let operation = MarkDelivered {
                agent_id,
                epoch: sessions[&agent_id].epoch,
                command_ids: reservations.iter().map(Reservation::command_id).collect(),
                now,
            };
            let reserved_count = reservations.len();
            let delivered = self.delivery.commit(operation, reservations, now).await?;
            if delivered.len() < reserved_count {
                // A key or an agent was changed since the read: the next read ends such commands.
                self.hub.wake(agent_id);
            }
            Ok(())
        });
        // Polled together, so that the writer commits them in one transaction.
        let failure = join_all(commits).await.into_iter().filter_map(Result::err);
        // The session that replaced a stale one asks for its commands itself.
        let failure = failure.filter(|error| !matches!(error, StoreError::StaleEpoch)).last();
        for (reason, refused) in selection.refused {
            self.refuse(refused, reason, now).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// What the calls of schedules start from, as it is now.
    async fn calls(&self, rows: &[command::Model]) -> Result<Calls, StoreError> {
        let mut calls = Calls::new();
        for row in rows.iter().filter(|row| row.trigger == Trigger::Schedule) {
            let Some(pinned) = PinnedCall::of_data(&row.data) else { continue };
            let system = self.store.system();
            let state = system.trigger_state(pinned.schedule_id, row.agent_id).await?;
            let empty = TriggerCall::without_schedule();
            let (data_version, data) = match state {
                Some(state) => (state.data_version.unsigned_abs(), state.data),
                // The schedule was deleted: the trigger still decides.
                None => (empty.data_version, empty.data),
            };
            let (is_first, is_forced) = (data_version == 0, pinned.is_forced);
            calls.insert(row.id, TriggerCall { data_version, data, is_first, is_forced });
        }
        Ok(calls)
    }

    /// Acquires slots before the commit, so that no other delivery uses them.
    fn select(
        &self,
        sessions: &ReadySessions,
        rows: Vec<command::Model>,
        excluded: &Excluded,
        (contents, calls): (&Contents, &Calls),
    ) -> Selection {
        let mut selection = Selection::default();
        for row in rows {
            let (id, agent_id) = (row.id, row.agent_id);
            *selection.read_counts.entry(agent_id).or_default() += 1;
            if let Some(reason) = excluded.reason(&row) {
                selection.refused.entry(reason).or_default().push((id, agent_id));
                continue;
            }
            let keys = keys_of(row.tenant_id, row.script.as_deref(), &row.data);
            let contents = keys.iter().filter_map(|key| contents.get(key)).cloned().collect();
            let call = calls.get(&id).cloned();
            match self.delivery.reserve_queued(&sessions[&agent_id], row, (contents, call)) {
                Ok(Some(reservation)) => {
                    selection.reserved.entry(agent_id).or_default().push(reservation);
                }
                Ok(None) => {
                    selection.starved.insert(agent_id);
                }
                Err(reason) => {
                    selection.refused.entry(reason).or_default().push((id, agent_id));
                }
            }
        }
        selection
    }

    /// Ends commands that could be sent when they were submitted and cannot be sent any more.
    async fn refuse(
        &self,
        refused: Vec<(CommandId, AgentId)>,
        reason: EndReason,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (command_id, _) in self.store.system().refuse_queued(refused, reason, now).await? {
            self.hub.notify_maybe_ended(command_id);
        }
        Ok(())
    }
}
