//! Whether the limits of a key allow the work that it wants to start, by the rule that also decides
//! when the work is sent. Pure: the caller passes in ids and tags of the agents.
//!
//! Limits concern work and changes of agents, not reading. Targets of limits use ids and tags only,
//! because hosts report everything else themselves.

use muster_protocol::commands::file_transfer::{PULL, PUSH};
use muster_protocol::commands::probe::PROBE;
use muster_protocol::commands::step::parts_of;

use crate::domain::access::keys::key_limits::KeyLimits;
use crate::domain::access::keys::key_rights::KeyRights;
use crate::domain::access::principal::Scope;
use crate::domain::fleet::target::expression::Expression;
use crate::domain::ids::AgentId;

/// What is to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind<'a> {
    /// `ping`, `info`, `echo`, `scripts`: changes nothing on the host.
    Question,
    Script(&'a str),
    AdHoc,
    /// Several of both, by the [title](muster_protocol::commands::step::title) of the steps. A rule about scripts or
    /// ad-hoc commands concerns it if it concerns one of them.
    Steps(&'a str),
    /// `restart`, `update`, `redeploy`, `shutdown`.
    LifeCycle,
    /// Cancels, pauses, resumes or aborts work of another key.
    Control,
    /// Changes the agent itself: its name, its tags, its identity, or deletes it.
    AgentChange,
}

/// The rule of a limit that refuses the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBreach {
    /// These agents do not match the target.
    Target { target: String, outside: Vec<AgentId> },
    /// The key runs only listed scripts.
    Script,
    /// The request has more agents than the key may reach at once.
    FanOut { agents: usize, most: u32 },
}

impl<'a> WorkKind<'a> {
    /// The kind of a stored command. `script` is empty for an ad-hoc command, and the title of steps.
    pub fn of_command(command: &str, script: Option<&'a str>) -> Self {
        match (command, script) {
            (_, Some("")) => Self::AdHoc,
            // A part of an update: it runs nothing but the agent itself.
            (_, Some(PROBE)) => Self::LifeCycle,
            (_, Some(title)) if parts_of(title).is_some() => Self::Steps(title),
            (_, Some(script)) => Self::Script(script),
            ("ping" | "info" | "echo" | "scripts", None) => Self::Question,
            _ => Self::LifeCycle,
        }
    }

    /// The scopes that it needs.
    pub fn scopes(self) -> &'static [Scope] {
        match self {
            Self::Steps(_) if self.parts().any(|part| part.is_none()) => Self::AdHoc.scopes(),
            Self::Steps(_) => &[Scope::CommandsRun],
            Self::Script(PUSH) => &[Scope::CommandsRun, Scope::FilesWrite],
            Self::Script(PULL) => &[Scope::CommandsRun, Scope::FilesRead],
            Self::Question | Self::Script(_) => &[Scope::CommandsRun],
            Self::AdHoc => &[Scope::CommandsRun, Scope::CommandsShell],
            Self::LifeCycle => &[Scope::AgentsManage],
            Self::Control => &[Scope::CommandsManage],
            Self::AgentChange => &[Scope::AgentsWrite],
        }
    }

    /// The scripts that it runs, and `None` for each ad-hoc command. Nothing for work without any.
    pub fn parts(self) -> impl Iterator<Item = Option<&'a str>> {
        let (one, title) = match self {
            Self::Script(script) => (Some(Some(script)), None),
            Self::AdHoc => (Some(None), None),
            Self::Steps(title) => (None, Some(title)),
            Self::Question | Self::LifeCycle | Self::Control | Self::AgentChange => (None, None),
        };
        one.into_iter().chain(title.and_then(parts_of).into_iter().flatten())
    }

    fn is_in(self, limits: &KeyLimits) -> bool {
        let Some(scripts) = &limits.scripts else { return true };
        match self {
            Self::Question | Self::Control | Self::AgentChange => true,
            Self::Script(_) | Self::AdHoc | Self::Steps(_) => {
                self.parts().all(|part| part.is_some_and(|script| scripts.contains(script)))
            }
            Self::LifeCycle => false,
        }
    }
}

/// The scopes that a reader of the output of a command needs. The output of a pull is a file.
pub fn output_scopes(script: Option<&str>) -> &'static [Scope] {
    match script {
        Some(PULL) => &[Scope::CommandsRead, Scope::FilesRead],
        _ => &[Scope::CommandsRead],
    }
}

/// Finds the limit that refuses the work, if one does. `agents`: all agents of the request, with their
/// tags as the server knows them.
///
/// # Errors
/// [`LimitBreach`], the first in the order script, fan-out, target.
pub fn check_limits(
    limits: &KeyLimits,
    kind: WorkKind<'_>,
    agents: &[(AgentId, &[String])],
) -> Result<(), LimitBreach> {
    if !kind.is_in(limits) {
        return Err(LimitBreach::Script);
    }
    // To stop work is never too large.
    if let Some(most) = limits.max_fan_out.filter(|_| kind != WorkKind::Control)
        && agents.len() > most as usize
    {
        return Err(LimitBreach::FanOut { agents: agents.len(), most });
    }
    check_target(limits, agents)
}

/// What is decided again for each command before it is sent: whether its key still has the scopes, and the
/// part of [`check_limits`] that concerns one command.
pub fn may_be_sent(
    rights: &KeyRights,
    kind: WorkKind<'_>,
    agent_id: AgentId,
    tags: &[String],
) -> bool {
    kind.scopes().iter().all(|scope| rights.scopes.contains(scope))
        && kind.is_in(&rights.limits)
        && check_target(&rights.limits, &[(agent_id, tags)]).is_ok()
}

fn check_target(limits: &KeyLimits, agents: &[(AgentId, &[String])]) -> Result<(), LimitBreach> {
    let Some(target) = limits.target() else { return Ok(()) };
    // A text that does not parse was not stored by this server, and matches nothing.
    let targets: Option<Vec<Expression>> =
        limits.targets.iter().map(|text| text.parse().ok()).collect();
    let is_inside = |(id, tags): &&(AgentId, &[String])| {
        targets.as_ref().is_some_and(|all| all.iter().all(|one| one.matches_tags(*id, tags)))
    };
    let outside: Vec<_> =
        agents.iter().filter(|agent| !is_inside(agent)).map(|(id, _)| *id).collect();
    if outside.is_empty() { Ok(()) } else { Err(LimitBreach::Target { target, outside }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(targets: &[&str], scripts: Option<&[&str]>, max_fan_out: Option<u32>) -> KeyLimits {
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        KeyLimits { targets: set(targets), scripts: scripts.map(set), max_fan_out }
    }

    #[test]
    fn every_agent_must_match_every_target() {
        let (one, two) = (AgentId::new(), AgentId::new());
        let (web, web_eu) = (vec!["web".to_owned()], vec!["web".to_owned(), "eu".to_owned()]);
        let agents: [(AgentId, &[String]); 2] = [(one, &web_eu), (two, &web)];
        let check = |targets: &[&str]| {
            check_limits(&limits(targets, None, None), WorkKind::Script("deploy"), &agents)
        };
        assert_eq!(check(&["tag:web"]), Ok(()));
        assert_eq!(check(&["tag:web", &format!("id:{one} | id:{two}")]), Ok(()));
        let Err(LimitBreach::Target { outside, .. }) = check(&["tag:web", "tag:eu"]) else {
            panic!("an agent without the tag is inside");
        };
        assert_eq!(outside, [two]);
        assert!(check(&["tag:web", "not an expression ("]).is_err());
    }

    #[test]
    fn a_list_of_scripts_excludes_every_other_way_to_run_something() {
        let limits = limits(&[], Some(&["deploy"]), None);
        let allowed = |kind| check_limits(&limits, kind, &[]).is_ok();
        assert!(allowed(WorkKind::Script("deploy")) && allowed(WorkKind::Question));
        assert!(allowed(WorkKind::Steps("steps:deploy")));
        for kind in [
            WorkKind::Script("other"),
            WorkKind::AdHoc,
            WorkKind::LifeCycle,
            WorkKind::Steps("steps:deploy,other"),
            WorkKind::Steps("steps:deploy,(argv)"),
        ] {
            assert!(!allowed(kind), "{kind:?}");
        }
    }

    #[test]
    fn fan_out_counts_agents_and_never_keeps_anybody_from_stopping_work() {
        let limits = limits(&[], None, Some(1));
        let none: &[String] = &[];
        let two = [(AgentId::new(), none), (AgentId::new(), none)];
        assert!(check_limits(&limits, WorkKind::Script("x"), &two[..1]).is_ok());
        assert_eq!(
            check_limits(&limits, WorkKind::Script("x"), &two),
            Err(LimitBreach::FanOut { agents: 2, most: 1 })
        );
        assert!(check_limits(&limits, WorkKind::Control, &two).is_ok());
    }

    #[test]
    fn stored_commands_are_of_the_kind_that_was_submitted() {
        assert_eq!(WorkKind::of_command("execute", Some("deploy")), WorkKind::Script("deploy"));
        assert_eq!(WorkKind::of_command("execute", Some("")), WorkKind::AdHoc);
        let steps = "steps:deploy,(argv)";
        assert_eq!(WorkKind::of_command("execute", Some(steps)), WorkKind::Steps(steps));
        assert_eq!(WorkKind::Steps(steps).scopes(), WorkKind::AdHoc.scopes());
        assert_eq!(WorkKind::Steps("steps:deploy").scopes(), WorkKind::Script("x").scopes());
        assert_eq!(WorkKind::of_command("update", None), WorkKind::LifeCycle);
        assert_eq!(WorkKind::of_command("ping", None), WorkKind::Question);
        // A command of a later version is treated as the strictest kind.
        assert_eq!(WorkKind::of_command("later", None), WorkKind::LifeCycle);
    }
}
