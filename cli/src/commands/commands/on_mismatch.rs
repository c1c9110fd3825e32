//! `--on-mismatch`: what to do about hosts that would refuse.

use clap::ValueEnum;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnMismatch {
    /// Refuse the run before anything is sent
    Refuse,
    /// Send it, and let each host decide
    Send,
    /// Leave out the hosts that would refuse; on many agents
    Skip,
}

impl OnMismatch {
    /// Adds the field of a request; nothing for the default.
    pub fn add_to(self, body: &mut Value) {
        match self {
            Self::Refuse => {}
            Self::Send => body["on_mismatch"] = "send".into(),
            Self::Skip => body["on_mismatch"] = "skip".into(),
        }
    }
}
