//! Who is connected here.
//!
//! Knows sessions, not what they mean: no database, no rules. Wake-ups carry no data, so that a
//! lost or doubled one does no harm: whoever wakes reads again what is to be done.

mod changes;
mod events;
mod host_rules;
mod registry;
mod session_handle;
mod timeline;
mod waiters;
mod wakes;
mod watches;

pub use self::changes::Changed;
pub use self::events::{CommandChange, CommandChanges, Events};
pub use self::host_rules::{HostRules, ReportedRules};
pub use self::registry::Hub;
pub use self::session_handle::{KeyGrant, Rekey, SessionHandle, SessionParts, ToSession};
pub use self::timeline::{Found, Reader as TimelineReader, Timeline};
pub use self::waiters::{CantWait, TransientAnswer};
pub use self::watches::Subscription;
