//! Who is connected here.
//!
//! Knows sessions, not what they mean: no database, no rules. Wake-ups carry no data, so that a
//! lost or doubled one does no harm: whoever wakes reads again what is to be done.

mod change_queue;
mod command_watchers;
mod event_feed;
mod event_log;
mod host_rules;
mod pending_replies;
mod registry;
mod session_handle;
mod wake_queue;

pub use self::change_queue::Changed;
pub use self::command_watchers::Subscription;
pub use self::event_feed::{CommandChange, CommandChanges, Events};
pub use self::event_log::{EventLog, Found, Reader as TimelineReader};
pub use self::host_rules::{HostRules, ReportedRules};
pub use self::pending_replies::{CantWait, TransientReply};
pub use self::registry::Hub;
pub use self::session_handle::{KeyGrant, Rekey, SessionHandle, SessionMessage, SessionParts};
