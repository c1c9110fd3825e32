//! Readers that wait for something new of one command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::CommandId;

/// With how many subscriptions share it.
type Map = Mutex<HashMap<CommandId, (Arc<Bells>, usize)>>;

/// Whoever waits for an end is not woken by what comes before it.
#[derive(Debug, Default)]
struct Bells {
    change: Notify,
    end: Notify,
}

/// As many entries as requests wait, no more.
#[derive(Debug, Default)]
pub struct CommandWatchers(Arc<Map>);

/// A reader's wish to be woken. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    command_id: CommandId,
    bells: Arc<Bells>,
    map: Arc<Map>,
}

impl CommandWatchers {
    pub fn subscribe(&self, command_id: CommandId) -> Subscription {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (bells, subscriptions) = map.entry(command_id).or_default();
        *subscriptions += 1;
        let bells = Arc::clone(bells);
        Subscription { command_id, bells, map: Arc::clone(&self.0) }
    }

    /// Something is new, and it is not the command's end.
    pub fn notify_progress(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bells, _)) = map.get(&command_id) {
            bells.change.notify_waiters();
        }
    }

    /// Something is new, and it may be the command's end.
    pub fn changed(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bells, _)) = map.get(&command_id) {
            bells.change.notify_waiters();
            bells.end.notify_waiters();
        }
    }
}

impl Subscription {
    /// Waits for a change. Enable it before reading, so that no change falls between.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.bells.change.notified()
    }

    /// Waits for what may be the command's end. To be enabled before reading, as the other.
    pub fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.bells.end.notified()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, subscriptions)) = map.get_mut(&self.command_id) {
            *subscriptions -= 1;
            if *subscriptions == 0 {
                map.remove(&self.command_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_waits_for_an_end_is_not_woken_by_what_comes_before_it() {
        let (watches, id) = (CommandWatchers::default(), CommandId::new());
        let watch = watches.subscribe(id);
        let (mut changed, mut ended) = (Box::pin(watch.changed()), Box::pin(watch.ended()));
        changed.as_mut().enable();
        ended.as_mut().enable();
        watches.notify_progress(id);
        assert!(changed.as_mut().now_or_never().is_some());
        assert!(ended.as_mut().now_or_never().is_none());
        watches.changed(id);
        assert!(ended.now_or_never().is_some());
    }
}
