//! Why work is refused: what a caller reads.

use crate::domain::commands::ladder::Confirmation;
use crate::domain::commands::work::{LimitBreach, WorkKind};
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::target::facts::Facts;
use crate::domain::schedules::calendar::{CalendarBlock, EntryKind};
use crate::services::access::caller::Caller;
use crate::services::access::work_guard::Demands;
use crate::services::error::{Result, ServiceError};

/// Most agents that a refusal names.
const SHOWN: usize = 3;

/// Checks what the ladder asks for, and the number that the caller expects.
pub(super) fn require_reach(
    demands: &Demands,
    agents: usize,
    confirmation: Option<Confirmation>,
) -> Result<()> {
    if let Some(why) = &demands.refusal {
        return Err(ServiceError::Forbidden {
            code: "refused_by_ladder",
            detail: format!(
                "this reaches {agents} agents, and {why} refuses it; use a smaller target, or ask an owner to change the ladder"
            ),
        });
    }
    let (code, why) = match (confirmation, &demands.confirmation) {
        (Some(confirmation), _) if confirmation.covers(agents) => return Ok(()),
        (None, None) => return Ok(()),
        (Some(_), _) => (FieldErrorCode::Invalid, "which is not the number that was confirmed"),
        (None, Some(why)) => (FieldErrorCode::Required, why.as_str()),
    };
    let asks = if code == FieldErrorCode::Required { " asks to confirm that" } else { "" };
    Err(ServiceError::Unconfirmed {
        detail: format!(
            "this reaches {agents} agents, {}{why}{asks}; check the target, and repeat the request with `confirm_agent_count` {agents}",
            if asks.is_empty() { "" } else { "and " }
        ),
        error: FieldError::with_limit("confirm_agent_count", code, agents as u64),
    })
}

pub(super) fn no_wait(rule: &str) -> ServiceError {
    ServiceError::Forbidden {
        code: "approval_needed",
        detail: format!(
            "{rule} asks for the approval of updates, and a group can't wait for it; update agents with a command each, or ask an owner to change the rule"
        ),
    }
}

pub(super) fn blocked(block: &CalendarBlock) -> ServiceError {
    let detail = format!("{block}; wait, or override it with a reason");
    match block.kind {
        EntryKind::Window => ServiceError::Conflict { code: "outside_window", detail },
        EntryKind::Freeze | EntryKind::Exclusion => {
            ServiceError::Conflict { code: "frozen", detail }
        }
    }
}

pub(super) fn refusal(
    caller: &Caller,
    kind: WorkKind<'_>,
    breach: LimitBreach,
    known: &[Facts],
) -> ServiceError {
    let key = &caller.principal.name;
    let (code, detail) = match breach {
        LimitBreach::Target { target, outside } => {
            let named = known.iter().filter(|facts| outside.contains(&facts.id)).take(SHOWN);
            let named: Vec<_> = named.map(|facts| facts.name.as_str()).collect();
            let others = outside.len() - named.len();
            let more = if others == 0 { String::new() } else { format!(" and {others} more") };
            (
                "outside_key_target",
                format!(
                    "the key `{key}` may only work on agents that match `{target}`, and {}{more} do not; choose other agents, or use a key with a wider target",
                    named.join(", ")
                ),
            )
        }
        LimitBreach::Script => {
            let what = match kind {
                WorkKind::Script(script) => format!("`{script}` is not one of them"),
                WorkKind::AdHoc => "this is an ad-hoc command".to_owned(),
                WorkKind::Steps(_) => {
                    let scripts = caller.principal.limits.scripts.as_ref();
                    let is_known = |name: &str| scripts.is_some_and(|known| known.contains(name));
                    let mut parts = kind.parts();
                    match parts.find(|part| !part.is_some_and(is_known)).flatten() {
                        Some(script) => format!("`{script}` of its steps is not one of them"),
                        None => "one of its steps is an ad-hoc command".to_owned(),
                    }
                }
                _ => "this is a life-cycle command".to_owned(),
            };
            (
                "script_not_in_key",
                format!(
                    "the key `{key}` runs only the scripts in its list, and {what}; add it to the list, or use another key"
                ),
            )
        }
        LimitBreach::FanOut { agents, most } => (
            "fan_out_exceeded",
            format!(
                "the key `{key}` may reach at most {most} agents with one request, and this one has {agents}; use a smaller target, or a key with a larger fan-out"
            ),
        ),
    };
    ServiceError::Forbidden { code, detail }
}
