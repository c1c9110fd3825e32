//! Explains whether a key or a member may do something: it asks the functions that decide, in their order,
//! and reports what each of them says. It has no rules of its own.

mod operation;

use muster_protocol::parameter::secret_parameters::SecretParameters;

use self::operation::{ExplainedOperation, read};
use super::Commands;
use super::jobs::submission::resolve_target;
use super::preflight::PreflightRequest;
use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::{Principal, PrincipalKind, Role, Scope};
use crate::domain::commands::approval::ApprovalRule;
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, ApiKeyId, MemberId, PrincipalId};
use crate::services::access::authentication::of_api_key;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::member;
use crate::store::queries::ApiKeyMatch;

/// Most agents whose keys, policies and versions are asked; the preflight asks all of them.
const MAX_ASKED: usize = 100;
const UNKNOWN: ServiceError = ServiceError::NotFound("API key or member");

/// What to explain.
#[derive(Debug, Clone)]
pub struct AccessQuestion {
    /// A key or a member; `None`: the caller.
    pub principal: Option<PrincipalId>,
    /// A scope, a command, `shell`, or `run:SCRIPT`.
    pub operation: String,
    pub target: Option<TargetSpec>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAnswer {
    /// `validity`, `second_factor`, `scope`, `limits`, `ladder`, `approval` or `agent`.
    pub rule: &'static str,
    pub outcome: RuleOutcome,
    /// The code of the refusal.
    pub code: Option<&'static str>,
    /// What was checked, or what is missing.
    pub detail: String,
}

/// The outcome of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOutcome {
    Allowed,
    /// It starts once the request repeats the number of its agents.
    NeedsConfirmation,
    NeedsApproval,
    Refused,
    /// It depends on the agents, and the question names none.
    Depends,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct AccessExplanation {
    pub principal: Principal,
    pub operation: String,
    /// In the order in which a request is checked, up to the first scope that is missing. After another
    /// refusal the others are explained too.
    pub answers: Vec<RuleAnswer>,
    /// Agents that the target matches.
    pub agent_count: usize,
}

impl AccessExplanation {
    /// The worst of all outcomes.
    pub fn outcome(&self) -> RuleOutcome {
        let is = |outcome| self.answers.iter().any(|answer| answer.outcome == outcome);
        match () {
            () if is(RuleOutcome::Refused) => RuleOutcome::Refused,
            () if is(RuleOutcome::NeedsApproval) => RuleOutcome::NeedsApproval,
            () if is(RuleOutcome::Depends) => RuleOutcome::Depends,
            () if is(RuleOutcome::NeedsConfirmation) => RuleOutcome::NeedsConfirmation,
            () => RuleOutcome::Allowed,
        }
    }
}

impl Commands {
    /// Explains the answer that a request of a principal would get. All callers may ask about themselves, and
    /// with `api_keys:read` about others.
    ///
    /// # Errors
    /// 403 with a target without `agents:read`; 404 for a principal of another tenant; 422 for an unknown
    /// operation or an invalid target.
    pub async fn explain(
        &self,
        caller: &Caller,
        question: AccessQuestion,
    ) -> Result<AccessExplanation> {
        let (mut answers, subject) = match question.principal {
            Some(id) if id != caller.principal.id => {
                caller.require(Scope::ApiKeysRead)?;
                self.find_subject(caller, id).await?
            }
            _ => (vec![allowed("validity", "the caller is valid")], caller.clone()),
        };
        let operation = read(&question.operation)?;
        let agents = match question.target {
            // What matches a target, and what its hosts take, is about agents.
            Some(spec) => {
                caller.require(Scope::AgentsRead)?;
                let target = Target::try_from(spec)?;
                match resolve_target(&self.store, &self.hub, caller, &target).await {
                    found @ (Ok(_) | Err(ServiceError::Invalid { .. })) => Some(found),
                    Err(error) => return Err(error),
                }
            }
            None => None,
        };
        let mut has_scopes = true;
        for scope in operation.scopes() {
            let has = format!("it has the scope `{scope}`");
            answers.push(answer("scope", subject.require(scope), &has));
            has_scopes = subject.principal.may(scope);
            if !has_scopes {
                break;
            }
        }
        let agent_count = agents.as_ref().and_then(|found| found.as_ref().ok()).map_or(0, Vec::len);
        match (operation.kind().filter(|_| has_scopes), operation.command(), agents) {
            (Some(kind), Some(name), None) => {
                answers.extend(self.explain_without_agents(caller, &subject, kind).await?);
                answers
                    .push(depends("agent", &format!("each of their hosts decides about `{name}`")));
            }
            (Some(kind), Some(_), Some(Ok(agents))) => {
                answers.extend(self.explain_work(caller, &subject, kind, &agents).await?);
                answers.extend(self.explain_agents(caller, &operation, &agents).await?);
            }
            (Some(_), Some(_), Some(Err(error))) => answers.push(answer("agent", Err(error), "")),
            _ => {}
        }
        let principal = (*subject.principal).clone();
        let operation = question.operation;
        Ok(AccessExplanation { principal, operation, answers, agent_count })
    }

    async fn explain_work(
        &self,
        caller: &Caller,
        subject: &Caller,
        kind: WorkKind<'_>,
        agents: &[AgentId],
    ) -> Result<Vec<RuleAnswer>> {
        let limits = self.guard.check_limits(subject, kind, agents).await;
        let limits = answer("limits", refusals_only(limits)?, "no limit of the key refuses it");
        let demands = self.guard.demands(subject, kind, agents).await?;
        let ladder = match (demands.refusal, demands.confirmation) {
            (Some(why), _) => RuleAnswer {
                rule: "ladder",
                outcome: RuleOutcome::Refused,
                code: Some("refused_by_ladder"),
                detail: format!("{why} refuses it"),
            },
            (None, Some(why)) => RuleAnswer {
                rule: "ladder",
                outcome: RuleOutcome::NeedsConfirmation,
                code: Some("agent_count_unconfirmed"),
                detail: format!("{why} asks to confirm that it reaches {} agents", agents.len()),
            },
            (None, None) => allowed("ladder", "the ladder asks for no confirmation"),
        };
        let approval = match demands.approval {
            None => allowed("approval", "no rule asks for an approval"),
            Some(needed) => RuleAnswer {
                rule: "approval",
                outcome: RuleOutcome::NeedsApproval,
                code: None,
                detail: match caller.principal.may(Scope::CommandsRead) {
                    true => format!(
                        "it waits until another person approves it, because of {}",
                        needed.rules.join(", ")
                    ),
                    false => "it waits until another person approves it".to_owned(),
                },
            },
        };
        Ok(vec![limits, ladder, approval])
    }

    /// What is known about the limits, the ladder and the rules of approval without agents.
    async fn explain_without_agents(
        &self,
        caller: &Caller,
        subject: &Caller,
        kind: WorkKind<'_>,
    ) -> Result<Vec<RuleAnswer>> {
        let mut answers = self.explain_work(caller, subject, kind, &[]).await?;
        let limits = &subject.principal.limits;
        let most =
            limits.max_fan_out.map(|most| format!("the key may reach at most {most} agents"));
        let target = limits.target();
        let target = target.map(|target| format!("the key may only work on `{target}`"));
        let rules = self.guard.rules_about(subject, kind).await?;
        let may_read = caller.principal.may(Scope::CommandsRead);
        let asks = |rule: &ApprovalRule| {
            if !may_read {
                return "a rule asks for an approval of some".to_owned();
            }
            let target = rule.condition.target.iter().map(ToString::to_string);
            let above = rule.condition.fan_out_above;
            let above = above.map(|most| format!("more than {most} agents"));
            let what: Vec<_> = target.chain(above).collect();
            format!("{} asks for {}", rule.name, what.join(" and "))
        };
        let mut rules: Vec<_> = rules.iter().map(asks).collect();
        rules.dedup();
        let steps = self.guard.steps_about(subject, kind).await?;
        let steps: Vec<_> = steps.iter().map(|step| format!("it has a step for {step}")).collect();
        let limits: Vec<_> = target.into_iter().chain(most).collect();
        for answer in &mut answers {
            let conditions = match answer.rule {
                "approval" => &rules,
                "ladder" => &steps,
                _ => &limits,
            };
            if answer.outcome == RuleOutcome::Allowed && !conditions.is_empty() {
                *answer = depends(answer.rule, &conditions.join("; "));
            }
        }
        Ok(answers)
    }

    /// The permissions of the agents' keys, the policies of their hosts, what they support, and the
    /// preflight of an `execute`, as for `muster run`.
    async fn explain_agents(
        &self,
        caller: &Caller,
        operation: &ExplainedOperation<'_>,
        agents: &[AgentId],
    ) -> Result<Vec<RuleAnswer>> {
        let Some(name) = operation.command() else { return Ok(Vec::new()) };
        let mut refusal = None;
        let mut refused_count = 0;
        for agent_id in agents.iter().take(MAX_ASKED) {
            let target = self.find_target(caller, *agent_id).await?;
            if let Err(error) = target.check(name) {
                refused_count += 1;
                refusal.get_or_insert(error);
            }
        }
        let asked = agents.len().min(MAX_ASKED);
        if let Some(error) = refusal {
            let first = answer("agent", Err(error), "");
            let detail = format!("{refused_count} of {}: {}", agent_count(asked), first.detail);
            return Ok(vec![RuleAnswer { detail, ..first }]);
        }
        if let Some(executable) = operation.executable() {
            let (tenant_id, secrets) = (caller.principal.tenant_id, SecretParameters::default());
            let hosts = self.preflight.hosts(tenant_id, agents).await?;
            let request =
                PreflightRequest { executable: &executable, secrets: &secrets, has_stdin: false };
            match self.preflight.check(tenant_id, hosts, agents.len(), request).await {
                Ok(()) => {}
                Err(error @ (ServiceError::Invalid { .. } | ServiceError::Conflict { .. })) => {
                    return Ok(vec![answer("agent", Err(error), "")]);
                }
                Err(error) => return Err(error),
            }
        }
        let detail = format!(
            "{} would take it by the last report; each host decides again when it gets the command",
            agent_count(agents.len())
        );
        Ok(vec![allowed("agent", &detail)])
    }

    /// Another member of the tenant, as authentication would make it.
    async fn find_subject(
        &self,
        caller: &Caller,
        id: PrincipalId,
    ) -> Result<(Vec<RuleAnswer>, Caller)> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let mut factor = None;
        let (principal, ended) = match tenant.api_key_with_revoked(ApiKeyId(id.0)).await? {
            Some(row) => {
                let now = self.clock.now();
                let ended = match (row.revoked_at, row.expires_at) {
                    (Some(_), _) => Some("the key was revoked"),
                    (None, Some(at)) if at <= now => Some("the key has expired"),
                    _ => None,
                };
                let hash = SecretHash([0; 32]);
                (of_api_key(ApiKeyMatch::Key(Box::new(row)), hash).ok_or(UNKNOWN)?, ended)
            }
            None => {
                let row = tenant.member_with_removed(MemberId(id.0)).await?.ok_or(UNKNOWN)?;
                let ended = row.removed_at.map(|_| "the member was removed");
                factor = self.explain_second_factor(&row).await?;
                let names = tenant.principal_names([row.id.into()].into()).await?;
                (of_member(&row, names.into_values().next().unwrap_or_default()), ended)
            }
        };
        let validity = match ended {
            None => allowed("validity", "it is valid"),
            Some(detail) => RuleAnswer {
                rule: "validity",
                outcome: RuleOutcome::Refused,
                code: None,
                detail: detail.to_owned(),
            },
        };
        let answers = std::iter::once(validity).chain(factor).collect();
        Ok((
            answers,
            Caller {
                principal: principal.into(),
                source: None,
                request_id: None,
                certificate: None,
            },
        ))
    }

    /// The answer of a tenant that requires a second factor, about a person who has none.
    async fn explain_second_factor(&self, row: &member::Model) -> Result<Option<RuleAnswer>> {
        let system = self.store.system();
        let Some(user) = system.user_by_id(row.user_id).await? else { return Ok(None) };
        let is_missing = system.misses_required_factor(row.tenant_id, &user).await?;
        let refused = || RuleAnswer {
            rule: "second_factor",
            outcome: RuleOutcome::Refused,
            code: Some("second_factor_required"),
            detail: "the tenant requires a second factor, and the person has not enabled one"
                .into(),
        };
        Ok(is_missing.then(refused))
    }
}

fn of_member(row: &member::Model, name: String) -> Principal {
    let role: Role = row.role;
    Principal {
        tenant_id: row.tenant_id,
        id: row.id.into(),
        kind: PrincipalKind::AbsentMember,
        name,
        role,
        scopes: role.tenant_scopes(),
        expires_at: None,
        limits: Default::default(),
        secret_hash: None,
        lacks_second_factor: false,
    }
}

fn allowed(rule: &'static str, detail: &str) -> RuleAnswer {
    let detail = detail.to_owned();
    RuleAnswer { rule, outcome: RuleOutcome::Allowed, code: None, detail }
}

/// The answer to a question without agents.
fn depends(rule: &'static str, conditions: &str) -> RuleAnswer {
    let detail = format!("depends on the agents: {conditions}; add a target");
    RuleAnswer { rule, outcome: RuleOutcome::Depends, code: None, detail }
}

fn agent_count(count: usize) -> String {
    if count == 1 { "1 agent".to_owned() } else { format!("{count} agents") }
}

/// A decision as an answer. `if_allowed`: what holds then.
fn answer(rule: &'static str, decision: Result<()>, if_allowed: &str) -> RuleAnswer {
    match decision {
        Ok(()) => allowed(rule, if_allowed),
        Err(error) => {
            let code = match &error {
                ServiceError::Forbidden { code, .. }
                | ServiceError::Conflict { code, .. }
                | ServiceError::Invalid { code, .. } => Some(*code),
                _ => None,
            };
            let detail = match code {
                Some("no_agents") => "the target matches no agents".to_owned(),
                _ => error.to_string(),
            };
            RuleAnswer { rule, outcome: RuleOutcome::Refused, code, detail }
        }
    }
}

/// A refusal is an answer; a failure of the database is not.
fn refusals_only(decision: Result<()>) -> Result<Result<()>> {
    match decision {
        Err(ServiceError::Forbidden { code, detail }) => {
            Ok(Err(ServiceError::Forbidden { code, detail }))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Ok(())),
    }
}
