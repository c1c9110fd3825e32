//! Commands that changed, for whoever wants to know of all of them.
//!
//! Holds ids and nothing else: whoever takes them reads what became of them. A thousand changes of
//! one command before anybody looks are one.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::{CommandId, JobId};

/// Ids of each kind that may wait. Beyond it, they are forgotten and the set says so.
const MAX_WAITING: usize = 65_536;

/// What waits to be looked at. For one reader.
#[derive(Debug)]
pub struct Changes {
    waiting: Mutex<Changed>,
    notify: Notify,
}

/// What changed since somebody last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    pub commands: HashSet<CommandId>,
    /// Jobs of which an execution has ended, or that were changed themselves.
    pub jobs: HashSet<JobId>,
    /// There was more: whatever is open has to be read again.
    pub has_overflowed: bool,
}

impl Default for Changes {
    /// What changed before this server began nobody noted.
    fn default() -> Self {
        let waiting = Changed { has_overflowed: true, ..Changed::default() };
        Self { waiting: Mutex::new(waiting), notify: Notify::new() }
    }
}

impl Changes {
    pub fn add_command(&self, id: CommandId) {
        self.add(|waiting| insert(&mut waiting.commands, id));
    }

    pub fn add_job(&self, id: JobId) {
        self.add(|waiting| insert(&mut waiting.jobs, id));
    }

    /// Gives back what could not be looked at.
    pub fn add_again(&self, changed: Changed) {
        self.add(|waiting| {
            let fits = changed.commands.into_iter().all(|id| insert(&mut waiting.commands, id))
                && changed.jobs.into_iter().all(|id| insert(&mut waiting.jobs, id));
            fits && !changed.has_overflowed
        });
    }

    /// Waits until there is something, and takes all of it.
    pub async fn take(&self) -> Changed {
        loop {
            let taken = std::mem::take(&mut *self.lock());
            if taken != Changed::default() {
                return taken;
            }
            self.notify.notified().await;
        }
    }

    /// `add` tells whether everything fitted.
    fn add(&self, add: impl FnOnce(&mut Changed) -> bool) {
        let mut waiting = self.lock();
        let is_first = *waiting == Changed::default();
        if !add(&mut waiting) {
            waiting.has_overflowed = true;
        }
        drop(waiting);
        if is_first {
            self.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<Id: std::hash::Hash + Eq>(ids: &mut HashSet<Id>, id: Id) -> bool {
    let fits = ids.len() < MAX_WAITING || ids.contains(&id);
    if fits {
        ids.insert(id);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_changed_before_the_start_has_to_be_read() {
        let changes = Changes::default();
        assert!(changes.take().await.has_overflowed);
    }

    #[tokio::test]
    async fn many_changes_of_one_command_are_one() {
        let changes = Changes::default();
        changes.take().await;
        let (command, job) = (CommandId::new(), JobId::new());
        changes.add_command(command);
        changes.add_command(command);
        changes.add_job(job);
        let taken = changes.take().await;
        assert_eq!(taken.commands, HashSet::from([command]));
        assert_eq!(taken.jobs, HashSet::from([job]));
        assert!(!taken.has_overflowed);
    }

    #[tokio::test]
    async fn beyond_the_bound_ids_are_forgotten_and_the_set_says_so() {
        let changes = Changes::default();
        changes.take().await;
        for _ in 0..MAX_WAITING + 10 {
            changes.add_command(CommandId::new());
        }
        let taken = changes.take().await;
        assert_eq!(taken.commands.len(), MAX_WAITING);
        assert!(taken.has_overflowed);
        changes.add_again(taken.clone());
        assert_eq!(changes.take().await, taken, "what is given back is there again");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let changes = std::sync::Arc::new(Changes::default());
        changes.take().await;
        let waiting = tokio::spawn({
            let changes = std::sync::Arc::clone(&changes);
            async move { changes.take().await }
        });
        tokio::task::yield_now().await;
        let job = JobId::new();
        changes.add_job(job);
        assert_eq!(waiting.await.expect("woken").jobs, HashSet::from([job]));
    }
}
