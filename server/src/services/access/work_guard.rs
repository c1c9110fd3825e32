//! The one place that decides whether a caller may start work: every path to the agents asks it, and so
//! does the explanation of a refusal.
//!
//! It checks what the key may reach. Scopes are checked before, and the rules of the hosts after it. The
//! writer checks target and scripts again in the transaction that marks a command as sent.

use crate::domain::commands::work::{LimitBreach, WorkKind, check_limits};
use crate::domain::fleet::target::Target;
use crate::domain::fleet::target::facts::Facts;
use crate::domain::ids::AgentId;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::Store;

/// Most agents that a refusal names.
const SHOWN: usize = 3;

/// Decides about work. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::services) struct WorkGuard {
    pub(in crate::services) store: Store,
}

impl WorkGuard {
    /// Checks the limits of the caller's key. `agents`: all of the request.
    ///
    /// # Errors
    /// 403 `outside_key_target`, `script_not_in_key` or `fan_out_exceeded`.
    pub async fn check(
        &self,
        caller: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
    ) -> Result<()> {
        let limits = &caller.principal.limits;
        if limits.is_empty() {
            return Ok(());
        }
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let target = Target::Ids(agents.iter().copied().collect());
        let known = tenant.resolve(&target, |_| false).await?.agents;
        let tagged: Vec<(AgentId, &[String])> =
            known.iter().map(|facts| (facts.id, facts.tags.as_slice())).collect();
        check_limits(limits, kind, &tagged).map_err(|breach| refusal(caller, kind, breach, &known))
    }
}

/// Refuses what limits can't be checked for, because its agents change later.
///
/// # Errors
/// 403 `key_has_limits`.
pub(in crate::services) fn require_unlimited(caller: &Caller, what: &str) -> Result<()> {
    if caller.principal.limits.is_empty() {
        return Ok(());
    }
    Err(ServiceError::Forbidden {
        code: "key_has_limits",
        detail: format!(
            "the key `{}` has limits, and {what} later; use a key without limits",
            caller.principal.name
        ),
    })
}

fn refusal(
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
