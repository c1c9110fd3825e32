//! Limits that a caller requests for a key, and how they combine with those that bind them.

use std::collections::BTreeSet;

use muster_protocol::library::is_runnable_name;

use crate::domain::access::keys::key_limits::{
    KeyLimits, MAX_FAN_OUT, MAX_KEY_SCRIPTS, MAX_KEY_TARGETS,
};
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::target::TargetError;
use crate::domain::fleet::target::expression::Expression;
use crate::services::error::{Result, ServiceError};

/// Limits as requested. `None`: those that bind the key anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedLimits {
    /// An expression of tags and ids.
    pub target: Option<String>,
    pub scripts: Option<Vec<String>>,
    pub max_fan_out: Option<u32>,
}

impl RequestedLimits {
    /// The limits of a key that these bounds apply to. A target is added to those of the bounds;
    /// scripts and fan-out must be within them.
    ///
    /// # Errors
    /// 422 names the field; 403 `limit_not_held` for more than the bounds.
    pub fn within(self, bounds: &KeyLimits) -> Result<KeyLimits> {
        let mut limits = bounds.clone();
        if let Some(target) = self.target {
            check_target(&target)?;
            limits.targets.insert(target);
            if limits.targets.len() > MAX_KEY_TARGETS {
                return Err(ServiceError::invalid_field(
                    "target",
                    "can't be added: this key and those before it have 16 targets already",
                ));
            }
        }
        if let Some(scripts) = self.scripts {
            let scripts = check_scripts(scripts)?;
            let bound = bounds.scripts.as_ref();
            if let Some(script) = scripts.iter().find(|name| !is_listed(bound, name)) {
                return Err(not_held(format!(
                    "the list of scripts of your own key, or of the key that created this one, does not have `{script}`"
                )));
            }
            limits.scripts = Some(scripts);
        }
        if let Some(count) = self.max_fan_out {
            if !(1..=MAX_FAN_OUT).contains(&count) {
                let bounds = 1..=u64::from(MAX_FAN_OUT);
                return Err(ServiceError::out_of_range("max_fan_out", count.into(), bounds));
            }
            if let Some(most) = bounds.max_fan_out.filter(|most| count > *most) {
                return Err(not_held(format!(
                    "your own key, or the key that created this one, reaches at most {most} agents at once"
                )));
            }
            limits.max_fan_out = Some(count);
        }
        Ok(limits)
    }
}

fn is_listed(bound: Option<&BTreeSet<String>>, name: &str) -> bool {
    bound.is_none_or(|bound| bound.contains(name))
}

fn not_held(reason: String) -> ServiceError {
    ServiceError::Forbidden {
        code: "limit_not_held",
        detail: format!("{reason}; a key can't have wider limits than the key that created it"),
    }
}

/// A target of a limit uses what the server knows for sure: a host could report anything else.
pub(in crate::services) fn check_target(text: &str) -> Result<()> {
    let expression: Expression = text.parse().map_err(|error| {
        let error = TargetError::Expression(error);
        ServiceError::invalid_field("target", &error.to_string())
    })?;
    if expression.needs_facts() {
        return Err(ServiceError::invalid_field(
            "target",
            "must use only `tag:` and `id:`, because hosts report everything else themselves",
        ));
    }
    Ok(())
}

fn check_scripts(scripts: Vec<String>) -> Result<BTreeSet<String>> {
    let scripts: BTreeSet<String> = scripts.into_iter().collect();
    if scripts.len() > MAX_KEY_SCRIPTS {
        let error =
            FieldError::with_limit("scripts", FieldErrorCode::TooMany, MAX_KEY_SCRIPTS as u64);
        let detail = format!("`scripts` has more than {MAX_KEY_SCRIPTS} names");
        return Err(ServiceError::InvalidField { detail, error });
    }
    match scripts.iter().all(|name| is_runnable_name(name)) {
        true => Ok(scripts),
        false => Err(ServiceError::invalid_field(
            "scripts",
            "must be names of scripts: 1 to 128 of letters, digits, `.`, `_`, `-`, no dot at the start",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> KeyLimits {
        KeyLimits {
            targets: BTreeSet::from(["tag:web".to_owned()]),
            scripts: Some(BTreeSet::from(["deploy".to_owned(), "status".to_owned()])),
            max_fan_out: Some(5),
        }
    }

    #[test]
    fn without_a_request_the_bounds_apply() {
        assert_eq!(RequestedLimits::default().within(&bounds()).expect("allowed"), bounds());
    }

    #[test]
    fn a_target_only_narrows_and_lists_and_numbers_stay_within() {
        let requested = RequestedLimits {
            target: Some("tag:eu".into()),
            scripts: Some(vec!["deploy".into()]),
            max_fan_out: Some(1),
        };
        let limits = requested.within(&bounds()).expect("allowed");
        assert_eq!(limits.target().as_deref(), Some("(tag:eu) & (tag:web)"));
        assert_eq!(limits.capped_by(&bounds()), limits);
        for wider in [
            RequestedLimits { scripts: Some(vec!["other".into()]), ..Default::default() },
            RequestedLimits { max_fan_out: Some(6), ..Default::default() },
        ] {
            let refused = wider.within(&bounds());
            assert!(
                matches!(refused, Err(ServiceError::Forbidden { code: "limit_not_held", .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn targets_that_hosts_could_choose_and_other_nonsense_are_refused() {
        let none = KeyLimits::default();
        for target in ["os:linux", "tag:web & name:web-*", "status:online", "tag:", "("] {
            let requested = RequestedLimits { target: Some(target.into()), ..Default::default() };
            assert!(requested.within(&none).is_err(), "{target}");
        }
        for scripts in [vec!["../x".to_owned()], vec![String::new()]] {
            let requested = RequestedLimits { scripts: Some(scripts), ..Default::default() };
            assert!(requested.within(&none).is_err());
        }
        for count in [0, MAX_FAN_OUT + 1] {
            let requested = RequestedLimits { max_fan_out: Some(count), ..Default::default() };
            assert!(requested.within(&none).is_err(), "{count}");
        }
    }
}
