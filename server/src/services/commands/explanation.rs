//! Explains whether a key or a member may do something: it asks the functions that decide, in their order,
//! and reports what each of them says. It has no rules of its own.

use muster_protocol::CommandName;

use super::Commands;
use super::request::scope_of;
use crate::domain::access::credential::SecretHash;
use crate::domain::access::principal::{Principal, PrincipalKind, Role, Scope};
use crate::domain::commands::work::WorkKind;
use crate::domain::fleet::target::{Target, TargetSpec};
use crate::domain::ids::{AgentId, ApiKeyId, MemberId, PrincipalId};
use crate::domain::name::{MAX_NAME_CHARS, clean};
use crate::services::access::authentication::of_api_key;
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::entities::access::member;
use crate::store::queries::ApiKeyMatch;

/// Most agents whose own rules are asked; the others are counted as allowed.
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
    /// `validity`, `scope`, `limits`, `ladder`, `approval` or `agent`.
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

/// A parsed operation.
enum Operation<'a> {
    Scope(Scope),
    Command(CommandName),
    Script(&'a str),
    AdHoc,
}

impl AccessExplanation {
    /// The worst of all outcomes.
    pub fn outcome(&self) -> RuleOutcome {
        let is = |outcome| self.answers.iter().any(|answer| answer.outcome == outcome);
        match () {
            () if is(RuleOutcome::Refused) => RuleOutcome::Refused,
            () if is(RuleOutcome::NeedsApproval) => RuleOutcome::NeedsApproval,
            () if is(RuleOutcome::NeedsConfirmation) => RuleOutcome::NeedsConfirmation,
            () => RuleOutcome::Allowed,
        }
    }
}

impl Commands {
    /// Explains what a request of somebody would be answered. Everybody may ask about themselves; about
    /// others with `api_keys:read`.
    ///
    /// # Errors
    /// 403 with a target without `agents:read`; 404 for a principal of another tenant; 422 for an unknown
    /// operation or an invalid target.
    pub async fn explain(
        &self,
        caller: &Caller,
        question: AccessQuestion,
    ) -> Result<AccessExplanation> {
        let (validity, subject) = match question.principal {
            Some(id) if id != caller.principal.id => {
                caller.require(Scope::ApiKeysRead)?;
                self.find_subject(caller, id).await?
            }
            _ => (allowed("validity", "the caller is valid"), caller.clone()),
        };
        let operation = read(&question.operation)?;
        let agents = match question.target {
            // What matches a target, and what its hosts take, is about agents.
            Some(spec) => {
                caller.require(Scope::AgentsRead)?;
                self.agents_of(caller, spec).await?
            }
            None => Vec::new(),
        };
        let mut answers = vec![validity];
        let mut has_scopes = true;
        for scope in operation.scopes() {
            let has = format!("it has the scope `{scope}`");
            answers.push(answer("scope", subject.require(scope), &has));
            has_scopes = subject.principal.may(scope);
            if !has_scopes {
                break;
            }
        }
        if let Some(kind) = operation.kind().filter(|_| has_scopes) {
            answers.extend(self.explain_work(caller, &subject, kind, &agents).await?);
        }
        if let Some(name) = operation.command().filter(|_| has_scopes) {
            answers.extend(self.explain_agents(&subject, name, &agents).await?);
        }
        let principal = (*subject.principal).clone();
        let agent_count = agents.len();
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
                        "it waits until somebody else approves it, because of {}",
                        needed.rules.join(", ")
                    ),
                    false => "it waits until somebody else approves it".to_owned(),
                },
            },
        };
        Ok(vec![limits, ladder, approval])
    }

    /// The permissions of the agents' keys, the policies of their hosts, and what they support.
    async fn explain_agents(
        &self,
        subject: &Caller,
        name: CommandName,
        agents: &[AgentId],
    ) -> Result<Vec<RuleAnswer>> {
        let mut refusal = None;
        let mut refused_count = 0;
        for agent_id in agents.iter().take(MAX_ASKED) {
            let target = self.find_target(subject, *agent_id).await?;
            if let Err(error) = target.check(name) {
                refused_count += 1;
                refusal.get_or_insert(error);
            }
        }
        let asked = agents.len().min(MAX_ASKED);
        Ok(match refusal {
            None if asked == 0 => Vec::new(),
            None => {
                let detail = format!(
                    "{asked} of {} agents were asked, and take it by their last report; a host decides again when it gets the command",
                    agents.len()
                );
                vec![allowed("agent", &detail)]
            }
            Some(error) => {
                let first = answer("agent", Err(error), "");
                let detail = format!("{refused_count} of {asked} agents: {}", first.detail);
                vec![RuleAnswer { detail, ..first }]
            }
        })
    }

    async fn agents_of(&self, caller: &Caller, spec: TargetSpec) -> Result<Vec<AgentId>> {
        let target = Target::try_from(spec)?;
        let tenant = self.store.tenant(caller.principal.tenant_id);
        let chosen = tenant.resolve(&target, |id| self.hub.is_connected(id)).await?;
        Ok(chosen.agents.into_iter().map(|facts| facts.id).collect())
    }

    /// Somebody else of the tenant, as authentication would make it.
    async fn find_subject(&self, caller: &Caller, id: PrincipalId) -> Result<(RuleAnswer, Caller)> {
        let tenant = self.store.tenant(caller.principal.tenant_id);
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
                (of_member(&row), ended)
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
        Ok((validity, Caller { principal: principal.into(), source: None }))
    }
}

fn of_member(row: &member::Model) -> Principal {
    let role: Role = row.role;
    Principal {
        tenant_id: row.tenant_id,
        id: row.id.into(),
        kind: PrincipalKind::AbsentMember,
        name: "member".to_owned(),
        role,
        scopes: role.tenant_scopes(),
        expires_at: None,
        limits: Default::default(),
        secret_hash: None,
    }
}

fn read(text: &str) -> Result<Operation<'_>> {
    if let Ok(scope) = text.parse() {
        return Ok(Operation::Scope(scope));
    }
    if let Some(script) = text.strip_prefix("run:").filter(|script| !script.is_empty()) {
        return Ok(Operation::Script(script));
    }
    if text == "shell" {
        return Ok(Operation::AdHoc);
    }
    match text.parse() {
        Ok(CommandName::Execute) | Err(_) => Err(ServiceError::invalid_field(
            "operation",
            &format!(
                "`{}` is not known; use a scope such as agents:write, a command such as restart, `shell`, or `run:` and the name of a script",
                clean(text, MAX_NAME_CHARS)
            ),
        )),
        Ok(name) => Ok(Operation::Command(name)),
    }
}

impl Operation<'_> {
    fn scopes(&self) -> Vec<Scope> {
        match self {
            Self::Scope(scope) => vec![*scope],
            Self::Command(name) => vec![scope_of(*name)],
            Self::Script(_) => vec![scope_of(CommandName::Execute)],
            Self::AdHoc => vec![scope_of(CommandName::Execute), Scope::CommandsShell],
        }
    }

    fn kind(&self) -> Option<WorkKind<'_>> {
        Some(match self {
            Self::Scope(_) => return None,
            Self::Command(name) => WorkKind::of_command(name.as_str(), None),
            Self::Script(script) => WorkKind::Script(script),
            Self::AdHoc => WorkKind::AdHoc,
        })
    }

    fn command(&self) -> Option<CommandName> {
        match self {
            Self::Scope(_) => None,
            Self::Command(name) => Some(*name),
            Self::Script(_) | Self::AdHoc => Some(CommandName::Execute),
        }
    }
}

fn allowed(rule: &'static str, detail: &str) -> RuleAnswer {
    let detail = detail.to_owned();
    RuleAnswer { rule, outcome: RuleOutcome::Allowed, code: None, detail }
}

/// A decision as an answer. `if_allowed`: what holds then.
fn answer(rule: &'static str, decision: Result<()>, if_allowed: &str) -> RuleAnswer {
    match decision {
        Ok(()) => allowed(rule, if_allowed),
        Err(error) => {
            let code = match &error {
                ServiceError::Forbidden { code, .. } | ServiceError::Conflict { code, .. } => {
                    Some(*code)
                }
                _ => None,
            };
            let detail = error.to_string();
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
