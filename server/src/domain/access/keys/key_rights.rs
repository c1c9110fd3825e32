//! What an API key may do: role, scopes, expiry, and limits on the work that it starts. Pure.
//!
//! A key has at most the rights of the caller who creates, changes or reveals it. That is one operation,
//! [`KeyRights::capped_by`], so that no right can be forgotten in one place and checked in another.

use std::collections::BTreeSet;

use super::key_limits::KeyLimits;
use crate::domain::access::principal::{Principal, Role, Scope};
use crate::domain::time::Timestamp;

/// Everything that a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRights {
    pub role: Role,
    pub scopes: BTreeSet<Scope>,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

impl KeyRights {
    /// The rights that a caller can pass on. A member lasts longer than its access token.
    pub fn of(principal: &Principal) -> Self {
        Self {
            role: principal.role,
            scopes: principal.scopes.clone(),
            expires_at: principal.expires_at.filter(|_| principal.api_key_id().is_some()),
            limits: principal.limits.clone(),
        }
    }

    /// The lesser of both, for each right.
    pub fn capped_by(&self, bound: &Self) -> Self {
        Self {
            role: if self.role.rank() <= bound.role.rank() { self.role } else { bound.role },
            scopes: self.scopes.intersection(&bound.scopes).copied().collect(),
            expires_at: self.expires_at.into_iter().chain(bound.expires_at).min(),
            limits: self.limits.capped_by(&bound.limits),
        }
    }

    /// True if a key with the rights `bound` may create, reveal or change one with these. Targets are
    /// compared as texts, so it is never wrongly true.
    pub fn is_within(&self, bound: &Self) -> bool {
        self.capped_by(bound) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn limits(targets: &[&str], scripts: Option<&[&str]>, max_fan_out: Option<u32>) -> KeyLimits {
        KeyLimits { targets: set(targets), scripts: scripts.map(set), max_fan_out }
    }

    fn samples() -> Vec<KeyRights> {
        let mut samples = Vec::new();
        for role in [Role::Owner, Role::Member] {
            for expires_at in [None, Some(Timestamp(1)), Some(Timestamp(2))] {
                for limits in [
                    KeyLimits::default(),
                    limits(&["tag:web"], None, None),
                    limits(&["tag:web", "tag:eu"], Some(&["deploy"]), Some(3)),
                    limits(&[], Some(&["deploy", "restart"]), Some(2)),
                    limits(&[], Some(&[]), None),
                ] {
                    samples.push(KeyRights { role, scopes: role.scopes(), expires_at, limits });
                }
            }
        }
        samples
    }

    #[test]
    fn a_cap_never_adds_a_right_and_is_the_same_in_any_order() {
        for one in samples() {
            assert!(one.is_within(&one), "{one:?}");
            for two in samples() {
                let capped = one.capped_by(&two);
                assert_eq!(capped, two.capped_by(&one));
                assert!(capped.is_within(&one) && capped.is_within(&two), "{one:?} {two:?}");
                for three in samples() {
                    let both = one.is_within(&two) && two.is_within(&three);
                    assert!(!both || one.is_within(&three), "a grandchild exceeds the first key");
                }
            }
        }
    }

    #[test]
    fn each_right_alone_can_exceed() {
        let bound = KeyRights {
            role: Role::Admin,
            scopes: BTreeSet::from([Scope::CommandsRun]),
            expires_at: Some(Timestamp(5)),
            limits: limits(&["tag:web"], Some(&["deploy"]), Some(2)),
        };
        assert!(bound.is_within(&bound));
        for exceeding in [
            KeyRights { role: Role::Owner, ..bound.clone() },
            KeyRights { scopes: BTreeSet::from([Scope::CommandsShell]), ..bound.clone() },
            KeyRights { expires_at: None, ..bound.clone() },
            KeyRights { expires_at: Some(Timestamp(6)), ..bound.clone() },
            KeyRights { limits: limits(&[], Some(&["deploy"]), Some(2)), ..bound.clone() },
            KeyRights { limits: limits(&["tag:db"], Some(&["deploy"]), Some(2)), ..bound.clone() },
            KeyRights { limits: limits(&["tag:web"], None, Some(2)), ..bound.clone() },
            KeyRights { limits: limits(&["tag:web"], Some(&["x"]), Some(2)), ..bound.clone() },
            KeyRights { limits: limits(&["tag:web"], Some(&["deploy"]), None), ..bound.clone() },
            KeyRights { limits: limits(&["tag:web"], Some(&["deploy"]), Some(3)), ..bound.clone() },
        ] {
            assert!(!exceeding.is_within(&bound), "{exceeding:?}");
        }
    }
}
