//! Which indexes are walked for a filter.

use strum::IntoEnumIterator as _;
use uuid::Uuid;

use super::scan::{Stretch, Walk};
use crate::domain::commands::command_state::CommandState;
use crate::store::StoreError;

/// Walks that together meet everything that is wanted, and the id at which they end.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub walks: Vec<Walk<'a>>,
    /// Everything from here on is seen; `None` if that is all there is.
    pub floor: Option<Uuid>,
}

impl<'a> Stretch<'a> {
    /// Takes the first of the ways that gets to the end, else the one that gets furthest. All take
    /// as many steps: the further one gets, the less it meets that is not wanted.
    pub(super) async fn choose(&self) -> Result<Choice<'a>, StoreError> {
        let mut best: Option<Choice<'a>> = None;
        for walks in self.ways().await? {
            let mut floor = None;
            for walk in &walks {
                // Of walks that go side by side the highest floor counts.
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
        // There always is the last of the ways.
        Ok(best.unwrap_or(Choice { walks: Vec::new(), floor: None }))
    }

    /// Every way to meet what is wanted, the most promising first.
    pub(super) async fn ways(&self) -> Result<Vec<Vec<Walk<'a>>>, StoreError> {
        let filter = self.filter;
        let mut ways = Vec::new();
        if let Some(id) = filter.job_id {
            let states = CommandState::iter();
            let asked =
                |state: &CommandState| filter.states.is_empty() || filter.states.contains(state);
            ways.push(states.filter(asked).map(|state| Walk::OfJob(id, state)).collect());
        }
        if let Some(id) = filter.agent_id {
            ways.push(vec![Walk::Unfiled, Walk::FiledOfAgent(id)]);
        }
        if let Some(script) = &filter.script {
            ways.push(vec![Walk::Unfiled, Walk::FiledOfScript(script)]);
        }
        ways.extend(self.by_state().await?);
        ways.push(vec![Walk::Unfiled, Walk::Filed]);
        Ok(ways)
    }

    /// `None` where success is asked for, which most commands end in.
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
