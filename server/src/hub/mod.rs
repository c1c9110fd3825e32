//! Live sessions, and notifications between the parts of this process.
//!
//! The hub does not know the database or any rule. A wake-up carries no data: its receiver reads the
//! database again, so a lost or repeated wake-up does no harm.

mod change_queue;
mod event_feed;
mod event_log;
mod pending_replies;
mod recent_rekeys;
mod registry;
mod session_handle;
mod wake_queue;

pub use self::change_queue::ChangedIds;
pub use self::event_feed::{CommandChange, CommandChanges, EventFeed};
pub use self::event_log::{EventBatch, EventCursor, EventLog};
pub use self::pending_replies::{ReplyError, TransientReply};
pub use self::registry::{CommandWatch, Hub};
pub use self::session_handle::{
    HostRules, KeyGrant, Rekey, ReportedRules, SessionHandle, SessionMessage, SessionParams,
};
