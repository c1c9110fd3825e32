//! Readers that wait for something new of one command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::CommandId;

/// With how many subscriptions share it.
type Map = Mutex<HashMap<CommandId, (Arc<Notify>, usize)>>;

/// As many entries as requests wait, no more.
#[derive(Debug, Default)]
pub struct Watches(Arc<Map>);

/// A reader's wish to be woken. Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    command_id: CommandId,
    notify: Arc<Notify>,
    map: Arc<Map>,
}

impl Watches {
    pub fn subscribe(&self, command_id: CommandId) -> Subscription {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (notify, subscriptions) = map.entry(command_id).or_default();
        *subscriptions += 1;
        let notify = Arc::clone(notify);
        Subscription { command_id, notify, map: Arc::clone(&self.0) }
    }

    pub fn changed(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, _)) = map.get(&command_id) {
            notify.notify_waiters();
        }
    }
}

impl Subscription {
    /// Waits for a change. Enable it before reading, so that no change falls between.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
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
