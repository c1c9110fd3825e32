//! How the generation of a group is carried out: turn by turn, each decided anew from what is stored, so that
//! the server may end at any moment.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::timeout;

use super::waves::Updates;
use super::{Groups, is_fit, pace};
use crate::domain::ids::{GroupId, TenantId};
use crate::domain::releases::group::attempt::BUSY;
use crate::domain::releases::group::plan::{Next, next};
use crate::domain::releases::group::{GroupState, Member, Progress, UpdateState, Wave};
use crate::domain::time::Timestamp;
use crate::services::error::chain;
use crate::services::fleet::group_membership::GroupMember;
use crate::store::StoreError;
use crate::store::entities::releases::group;

/// Between two turns while something is under way.
const SOON: Duration = Duration::from_millis(500);
/// Between two turns while nothing is.
const SLOWLY: Duration = Duration::from_secs(30);

/// Before a group is tried again that could not be looked after.
const AFTER_FAILURE_MS: u64 = 5_000;

/// How a turn has left things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something is under way.
    Busy,
    /// There is nothing to do before something changes, or that instant has come.
    Quiet { until: Option<Timestamp> },
}

/// The agents of each group, by tenant: read once a turn.
type Fleets = HashMap<TenantId, HashMap<GroupId, Vec<GroupMember>>>;

impl Groups {
    /// Waits until another turn makes sense after one that has left things so, and took so long: at most
    /// a tenth of the time goes into looking at large fleets.
    pub async fn wait(&self, after: Turn, took: Duration) {
        let mut arrivals = self.hub.subscribe_connects();
        let soon = SOON.max(took.saturating_mul(9));
        let pause = match after {
            Turn::Busy => soon,
            Turn::Quiet { until: None } => SLOWLY,
            Turn::Quiet { until: Some(until) } => {
                SLOWLY.min(Duration::from_millis(until.ms_since(self.clock.now())))
            }
        };
        let change = async {
            tokio::select! {
                () = self.changed.notified() => {}
                // Whoever comes may have to be of another version.
                _ = arrivals.changed(), if after != Turn::Busy => tokio::time::sleep(soon).await,
            }
        };
        // Either is a reason for another turn.
        let _ = timeout(pause.max(soon), change).await;
    }

    /// Does what is next for every group. One that can't be looked after holds no other up.
    ///
    /// # Errors
    /// [`StoreError`] if the groups can't be read; the next turn tries again.
    pub async fn reconcile_all(&self) -> Result<Turn, StoreError> {
        let mut turn = Turn::Quiet { until: None };
        let mut fleets = Fleets::new();
        for row in self.store.system().groups_under_way().await? {
            let group_id = row.id;
            let taken = self.reconcile_one(row, &mut fleets).await;
            turn = turn.and(taken.unwrap_or_else(|error| {
                let error = chain(&error);
                tracing::warn!(%group_id, error, "failed to look after a group; it is tried again");
                Turn::Quiet { until: Some(self.clock.now().plus_ms(AFTER_FAILURE_MS)) }
            }));
        }
        Ok(turn)
    }

    async fn reconcile_one(
        &self,
        row: group::Model,
        fleets: &mut Fleets,
    ) -> Result<Turn, StoreError> {
        let tenant = self.store.tenant(row.tenant_id);
        let updates = tenant.group_updates(row.id).await?;
        let updates = updates.into_iter().filter(|update| update.generation == row.generation);
        let mut updates: Updates = updates.map(|update| (update.agent_id, update)).collect();
        let Some(wanted) = row.desired_version.clone() else { return Ok(Turn::NOTHING) };
        if row.state != GroupState::Active {
            // Nobody else is asked. What those say that were asked counts all the same.
            return self.finish(row, &mut updates).await;
        }
        if let Entry::Vacant(entry) = fleets.entry(row.tenant_id) {
            let is_online = |id| self.hub.is_connected(id);
            entry.insert(self.book.members(row.tenant_id, is_online).await?);
        }
        let members = fleets.get(&row.tenant_id).and_then(|groups| groups.get(&row.id));
        self.carry(row, &wanted, members.map_or(&[], Vec::as_slice), updates).await
    }

    /// Takes what is told of a group that asks nobody.
    async fn finish(&self, row: group::Model, updates: &mut Updates) -> Result<Turn, StoreError> {
        let settled = self.settle(&row, updates, &BTreeSet::new(), self.clock.now()).await?;
        let is_under_way = updates.values().any(|update| update.state == UpdateState::Updating);
        if !settled.is_empty() {
            let wave = row.wave;
            self.store.tenant(row.tenant_id).advance_group(row, wave, settled).await?;
        }
        Ok(if is_under_way { Turn::Busy } else { Turn::NOTHING })
    }

    async fn carry(
        &self,
        mut row: group::Model,
        wanted: &str,
        members: &[GroupMember],
        mut updates: Updates,
    ) -> Result<Turn, StoreError> {
        let now = self.clock.now();
        let tenant = self.store.tenant(row.tenant_id);
        let there = members.iter().filter(|member| member.facts.version == wanted);
        let there = there.map(|member| member.facts.id).collect();
        let settled = self.settle(&row, &mut updates, &there, now).await?;
        if !settled.is_empty() && !tenant.advance_group(row.clone(), row.wave, settled).await? {
            return Ok(Turn::Busy);
        }
        let release = self.desired_release(wanted).await?;
        let members: Vec<_> = members
            .iter()
            .filter(|member| is_fit(&member.facts, release.as_ref()))
            .map(|member| of_group(member, wanted, &updates))
            .collect();
        loop {
            let wave = Wave { number: row.wave, is_well: row.wave <= row.healthy_wave };
            return match next(pace(&row), wave, &members, now) {
                Next::Rest { until } => Ok(Turn::Quiet { until }),
                Next::Wait => Ok(Turn::Busy),
                Next::Halt(reason) => self.halt(row, reason, now).await,
                Next::Well if tenant.end_group_wave(row.clone()).await? => {
                    row.healthy_wave = row.wave;
                    continue;
                }
                Next::Well => Ok(Turn::Busy),
                Next::Wave(_) if release.is_none() => self.halt(row, withdrawn(wanted), now).await,
                Next::Wave(chosen) => self.begin(row, wanted, chosen, &updates, now).await,
            };
        }
    }
}

fn withdrawn(wanted: &str) -> String {
    format!(
        "release {wanted} is withdrawn; ask for another version, or publish it again and resume"
    )
}

impl Turn {
    /// Nothing is to do before something changes.
    pub(super) const NOTHING: Self = Self::Quiet { until: None };

    /// What is left to do after both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Quiet { until: one }, Self::Quiet { until: another }) => {
                Self::Quiet { until: one.into_iter().chain(another).min() }
            }
            _ => Self::Busy,
        }
    }
}

fn of_group(member: &GroupMember, wanted: &str, updates: &Updates) -> Member {
    let facts = &member.facts;
    Member {
        id: facts.id,
        is_online: facts.is_online,
        connected_at: member.connected_at,
        is_there: facts.version == wanted,
        progress: updates.get(&facts.id).map(|update| Progress {
            wave: update.wave,
            state: update.state,
            is_busy: update.code.as_deref() == Some(BUSY),
            due_at: update.due_at,
            changed_at: update.changed_at,
        }),
    }
}
