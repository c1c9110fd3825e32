//! Notifies requests that wait for changes of one command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::CommandId;

/// The notifiers of each watched command, and how many watches share them.
type Map = Mutex<HashMap<CommandId, (Arc<Notifiers>, usize)>>;

/// Two of them, so that progress does not wake requests that wait for the end.
#[derive(Debug, Default)]
struct Notifiers {
    change: Notify,
    end: Notify,
}

/// Has entries only for commands that are being watched.
#[derive(Debug, Default)]
pub struct CommandWatchers(Arc<Map>);

/// A watch on one command. It ends when dropped.
#[derive(Debug)]
pub struct CommandWatch {
    command_id: CommandId,
    notifiers: Arc<Notifiers>,
    map: Arc<Map>,
}

impl CommandWatchers {
    pub fn subscribe(&self, command_id: CommandId) -> CommandWatch {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (notifiers, watch_count) = map.entry(command_id).or_default();
        *watch_count += 1;
        let notifiers = Arc::clone(notifiers);
        CommandWatch { command_id, notifiers, map: Arc::clone(&self.0) }
    }

    /// Notifies of a change that is not the end of the command.
    pub fn notify_progress(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notifiers, _)) = map.get(&command_id) {
            notifiers.change.notify_waiters();
        }
    }

    /// Notifies of a change that may be the end of the command.
    pub fn notify_maybe_ended(&self, command_id: CommandId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notifiers, _)) = map.get(&command_id) {
            notifiers.change.notify_waiters();
            notifiers.end.notify_waiters();
        }
    }
}

impl CommandWatch {
    /// Waits for a change. Enable it before reading the database, or a change may be missed.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notifiers.change.notified()
    }

    /// Waits for a change that may be the end. Enable it before reading, as above.
    pub fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.notifiers.end.notified()
    }
}

impl Drop for CommandWatch {
    fn drop(&mut self) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, watch_count)) = map.get_mut(&self.command_id) {
            *watch_count -= 1;
            if *watch_count == 0 {
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
    fn progress_does_not_wake_a_request_that_waits_for_the_end() {
        let (watchers, id) = (CommandWatchers::default(), CommandId::new());
        let watch = watchers.subscribe(id);
        let (mut changed, mut ended) = (Box::pin(watch.changed()), Box::pin(watch.ended()));
        changed.as_mut().enable();
        ended.as_mut().enable();
        watchers.notify_progress(id);
        assert!(changed.as_mut().now_or_never().is_some());
        assert!(ended.as_mut().now_or_never().is_none());
        watchers.notify_maybe_ended(id);
        assert!(ended.now_or_never().is_some());
    }
}
