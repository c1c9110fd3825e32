//! The actions of the audit log.

/// How alike a typed action must be to one that is suggested.
const LIKENESS: f64 = 0.75;

/// Every action, `<resource>.<verb>`. A test compares this list with the entries that services write.
pub const AUDIT_ACTIONS: [&str; 130] = [
    "agent.adopt",
    "agent.delete",
    "agent.deregister",
    "agent.update",
    "agent_key.create",
    "agent_key.delete",
    "agent_key.limit",
    "agent_key.regenerate",
    "agent_key.update",
    "alert_rule.create",
    "alert_rule.delete",
    "alert_rule.silence",
    "alert_rule.update",
    "api_key.create",
    "api_key.revoke",
    "api_key.rotate",
    "api_key.update",
    "approval.approve",
    "approval.expire",
    "approval.refuse",
    "approval.withdraw",
    "approval_rule.create",
    "approval_rule.delete",
    "assignment.abort",
    "assignment.create",
    "assignment.delete",
    "assignment.finish",
    "assignment.halt",
    "assignment.resume",
    "assignment.update",
    "audit.change_key",
    "audit.remove",
    "authority.abort",
    "authority.announce",
    "authority.retire",
    "authority.switch",
    "calendar.create",
    "calendar.delete",
    "calendar.update",
    "certificate.create",
    "certificate.revoke",
    "command.cancel",
    "command.run",
    "command.send",
    "command.submit",
    "device_login.approve",
    "device_login.refuse",
    "file.delete",
    "file.upload",
    "group.create",
    "group.delete",
    "group.halt",
    "group.pause",
    "group.resume",
    "group.update",
    "hook.create",
    "hook.delete",
    "hook.deliver",
    "hook.rotate",
    "hook.test",
    "hook.update",
    "identity.create",
    "identity.delete",
    "integration.create",
    "integration.delete",
    "integration.resend",
    "integration.test",
    "integration.update",
    "invitation.accept",
    "invitation.create",
    "invitation.revoke",
    "job.abort",
    "job.cancel",
    "job.halt",
    "job.pause",
    "job.resume",
    "job.submit",
    "ladder.update",
    "master_key.rotate",
    "member.create",
    "member.delete",
    "member.update",
    "package.delete",
    "package.sign",
    "package.upload",
    "passkey.create",
    "passkey.delete",
    "release.change_key",
    "release.draft",
    "release.publish",
    "release.upload",
    "release.withdraw",
    "schedule.create",
    "schedule.delete",
    "schedule.disable",
    "schedule.enable",
    "schedule.pass_on",
    "schedule.run",
    "schedule.snooze",
    "schedule.stop",
    "schedule.update",
    "script.create",
    "script.delete",
    "script.save",
    "script.sign",
    "script.update",
    "server.purge",
    "server.restore",
    "service.restart",
    "service.start",
    "service.stop",
    "session.confirm",
    "session.create",
    "session.refuse",
    "session.revoke",
    "tenant.create",
    "tenant.delete",
    "tenant.export",
    "tenant.limit",
    "tenant.purge",
    "tenant.restore",
    "tenant.update",
    "totp.create",
    "totp.disable",
    "totp.enable",
    "totp.reset",
    "totp.update",
    "webhook.resend",
    "webhook_secret.read",
    "webhook_secret.rotate",
];

/// True for the name of an action.
pub fn is_audit_action(text: &str) -> bool {
    AUDIT_ACTIONS.contains(&text)
}

/// The action most similar to the typed text, if one is similar enough.
pub fn nearest_audit_action(typed: &str) -> Option<&'static str> {
    let typed = typed.to_ascii_lowercase();
    let likeness = |known: &str| strsim::jaro_winkler(known, &typed);
    let nearest =
        AUDIT_ACTIONS.into_iter().max_by(|one, two| likeness(one).total_cmp(&likeness(two)));
    nearest.filter(|known| likeness(known) >= LIKENESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_that_is_alike_is_suggested() {
        assert_eq!(nearest_audit_action("tenant.updated"), Some("tenant.update"));
        assert_eq!(nearest_audit_action("Agent.Delete"), Some("agent.delete"));
        assert_eq!(nearest_audit_action("zzz"), None);
        assert!(AUDIT_ACTIONS.into_iter().all(is_audit_action) && !is_audit_action("agent"));
    }
}
