//! Limits of an API key on the work that it starts. Pure: `domain::commands::work` evaluates them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Most target expressions of one key: its own and those of the keys before it.
pub const MAX_KEY_TARGETS: usize = 16;
/// Most scripts in the list of a key.
pub const MAX_KEY_SCRIPTS: usize = 256;
/// Largest number of agents that a key can be limited to.
pub const MAX_FAN_OUT: u32 = 10_000;

/// Limits on the work that a key starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// Expressions that must all match an agent. They use tags and ids only.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub targets: BTreeSet<String>,
    /// The only scripts that it may run; `None`: any, and ad-hoc and life-cycle commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scripts: Option<BTreeSet<String>>,
    /// Most agents of one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fan_out: Option<u32>,
}

impl KeyLimits {
    /// True without any limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One expression that matches where all of [`targets`](Self::targets) match; `None` without any.
    pub fn target(&self) -> Option<String> {
        match self.targets.len() {
            0 => None,
            1 => self.targets.first().cloned(),
            _ => {
                let each: Vec<_> = self.targets.iter().map(|text| format!("({text})")).collect();
                Some(each.join(" & "))
            }
        }
    }

    /// The stricter of both, for each limit.
    pub fn capped_by(&self, bound: &Self) -> Self {
        let scripts = match (&self.scripts, &bound.scripts) {
            (Some(own), Some(bound)) => Some(own.intersection(bound).cloned().collect()),
            (own, bound) => own.clone().or_else(|| bound.clone()),
        };
        Self {
            targets: self.targets.union(&bound.targets).cloned().collect(),
            scripts,
            max_fan_out: self.max_fan_out.into_iter().chain(bound.max_fan_out).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(targets: &[&str]) -> KeyLimits {
        let targets = targets.iter().map(|text| (*text).to_owned()).collect();
        KeyLimits { targets, ..KeyLimits::default() }
    }

    #[test]
    fn targets_are_shown_as_one_expression() {
        assert_eq!(limits(&[]).target(), None);
        assert_eq!(limits(&["tag:web"]).target().as_deref(), Some("tag:web"));
        let both = limits(&["tag:web", "tag:eu | tag:us"]).target();
        assert_eq!(both.as_deref(), Some("(tag:eu | tag:us) & (tag:web)"));
    }
}
