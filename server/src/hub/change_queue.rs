//! Ids of changed commands and jobs, for the change processor.
//!
//! It holds only ids, because the reader queries the current state. Repeated changes of one command
//! count once.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::{CommandId, JobId};

/// Most ids of each kind. Further ids are dropped, and `has_overflowed` is set.
const MAX_WAITING: usize = 65_536;

/// Ids of changes that were not processed yet. For one reader.
#[derive(Debug)]
pub struct ChangeQueue {
    waiting: Mutex<ChangedIds>,
    notify: Notify,
}

/// Ids that changed since the last [`ChangeQueue::take`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedIds {
    pub commands: HashSet<CommandId>,
    /// Jobs that changed, or of which an execution ended.
    pub jobs: HashSet<JobId>,
    /// Ids were dropped: every open job must be read again.
    pub has_overflowed: bool,
}

impl Default for ChangeQueue {
    /// Starts as overflowed, because changes before this server started were not recorded.
    fn default() -> Self {
        let waiting = ChangedIds { has_overflowed: true, ..ChangedIds::default() };
        Self { waiting: Mutex::new(waiting), notify: Notify::new() }
    }
}

impl ChangeQueue {
    pub fn add_command(&self, id: CommandId) {
        self.add(|waiting| insert(&mut waiting.commands, id));
    }

    pub fn add_job(&self, id: JobId) {
        self.add(|waiting| insert(&mut waiting.jobs, id));
    }

    /// Adds ids that could not be processed.
    pub fn requeue(&self, changed: ChangedIds) {
        self.add(|waiting| {
            let fits = changed.commands.into_iter().all(|id| insert(&mut waiting.commands, id))
                && changed.jobs.into_iter().all(|id| insert(&mut waiting.jobs, id));
            fits && !changed.has_overflowed
        });
    }

    /// Waits for changes, and takes all of them.
    pub async fn take(&self) -> ChangedIds {
        loop {
            let taken = std::mem::take(&mut *self.lock());
            if taken != ChangedIds::default() {
                return taken;
            }
            self.notify.notified().await;
        }
    }

    /// `add` returns false if ids were dropped.
    fn add(&self, add: impl FnOnce(&mut ChangedIds) -> bool) {
        let mut waiting = self.lock();
        let is_first = *waiting == ChangedIds::default();
        if !add(&mut waiting) {
            waiting.has_overflowed = true;
        }
        drop(waiting);
        if is_first {
            self.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, ChangedIds> {
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
    async fn queue_starts_as_overflowed_so_that_all_open_jobs_are_read() {
        let queue = ChangeQueue::default();
        assert!(queue.take().await.has_overflowed);
    }

    #[tokio::test]
    async fn repeated_changes_of_one_command_count_once() {
        let queue = ChangeQueue::default();
        queue.take().await;
        let (command, job) = (CommandId::new(), JobId::new());
        queue.add_command(command);
        queue.add_command(command);
        queue.add_job(job);
        let taken = queue.take().await;
        assert_eq!(taken.commands, HashSet::from([command]));
        assert_eq!(taken.jobs, HashSet::from([job]));
        assert!(!taken.has_overflowed);
    }

    #[tokio::test]
    async fn ids_beyond_the_limit_are_dropped_and_the_queue_is_overflowed() {
        let queue = ChangeQueue::default();
        queue.take().await;
        for _ in 0..MAX_WAITING + 10 {
            queue.add_command(CommandId::new());
        }
        let taken = queue.take().await;
        assert_eq!(taken.commands.len(), MAX_WAITING);
        assert!(taken.has_overflowed);
        queue.requeue(taken.clone());
        assert_eq!(queue.take().await, taken, "requeued ids are returned again");
    }

    #[tokio::test]
    async fn waiting_reader_is_woken_by_a_change() {
        let queue = std::sync::Arc::new(ChangeQueue::default());
        queue.take().await;
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.take().await }
        });
        tokio::task::yield_now().await;
        let job = JobId::new();
        queue.add_job(job);
        assert_eq!(waiting.await.expect("woken").jobs, HashSet::from([job]));
    }
}
