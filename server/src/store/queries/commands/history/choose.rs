//! Chooses the indexes to walk for a filter.

use strum::IntoEnumIterator as _;
use uuid::Uuid;

use super::scan::{Stretch, Walk};
use crate::domain::commands::command_state::CommandState;
use crate::store::StoreError;

/// Walks that together find every matching command, and the id at which they stop.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub walks: Vec<Walk<'a>>,
    /// The walks covered all ids from this one on; `None` if they covered everything.
    pub floor: Option<Uuid>,
}

impl<'a> Stretch<'a> {
    /// Chooses the first plan that reaches the end, or else the one that reaches furthest back. All
    /// plans take the same number of steps, so the one that reaches furthest meets the fewest other
    /// commands.
    pub(super) async fn choose(&self) -> Result<Choice<'a>, StoreError> {
        let mut best: Option<Choice<'a>> = None;
        for walks in self.plans().await? {
            let mut floor = None;
            for walk in &walks {
                // Several walks together are complete only down to the highest floor.
                floor = floor.max(self.floor(walk).await?);
            }
            let choice = Choice { walks, floor };
            if floor.is_none() {
                return Ok(choice);
            }
            if best.as_ref().is_none_or(|best| floor < best.floor) {
                best = Some(choice);
            }
        }
        // Never empty: the last plan always exists.
        Ok(best.unwrap_or(Choice { walks: Vec::new(), floor: None }))
    }

    /// Every plan that finds the matching commands, the most promising first.
    pub(super) async fn plans(&self) -> Result<Vec<Vec<Walk<'a>>>, StoreError> {
        let filter = self.filter;
        let mut plans = Vec::new();
        if let Some(id) = filter.job_id {
            let states = CommandState::iter();
            let asked =
                |state: &CommandState| filter.states.is_empty() || filter.states.contains(state);
            plans.push(states.filter(asked).map(|state| Walk::OfJob(id, state)).collect());
        }
        if let Some(id) = filter.agent_id {
            plans.push(vec![Walk::Unindexed, Walk::IndexedOfAgent(id)]);
        }
        if let Some(script) = &filter.script {
            plans.push(vec![Walk::Unindexed, Walk::IndexedOfScript(script)]);
        }
        plans.extend(self.by_state().await?);
        plans.push(vec![Walk::Unindexed, Walk::Indexed]);
        Ok(plans)
    }

    /// `None` if the filter includes `succeeded`, because most commands are in that state.
    async fn by_state(&self) -> Result<Option<Vec<Walk<'a>>>, StoreError> {
        let states = &self.filter.states;
        if states.is_empty() || states.contains(&CommandState::Succeeded) {
            return Ok(None);
        }
        let mut walks: Vec<Walk<'a>> = CommandState::iter()
            .filter(|state| state.is_terminal() && states.contains(state))
            .map(Walk::Unsuccessful)
            .collect();
        if states.iter().any(|state| !state.is_terminal()) {
            if self.is_much_open(self.filter.agent_id).await? {
                return Ok(None);
            }
            walks.push(Walk::Open { of: self.filter.agent_id, most: self.effort.open });
        }
        Ok(Some(walks))
    }
}
