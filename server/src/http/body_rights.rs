//! Which right a request with a body needs, known from its head: a body is read only for a caller
//! that may send it. The services check the rights again, and more precisely.

use axum::http::Method;

use crate::domain::access::principal::Scope;

/// The operations whose caller needs at least one of the scopes, and the one that a refusal names.
const RIGHTS: &[(&str, &str, &[Scope])] = &[
    ("POST", "/api/keys", &[Scope::ApiKeysWrite]),
    ("PATCH", "/api/keys/{id}", &[Scope::ApiKeysWrite]),
    ("POST", "/api/keys/{id}/rotate", &[Scope::ApiKeysWrite]),
    ("POST", "/api/agents/keys", &[Scope::AgentKeysWrite]),
    ("PATCH", "/api/agents/keys/{id}", &[Scope::AgentKeysWrite]),
    ("POST", "/api/agents/keys/{id}/regenerate", &[Scope::AgentKeysWrite]),
    ("POST", "/api/agents/keys/{id}/ping", &[Scope::CommandsRun]),
    ("POST", "/api/agents/keys/{id}/command", SEND),
    ("PATCH", "/api/agents/{id}", &[Scope::AgentsWrite]),
    ("POST", "/api/agents/{id}/adopt", &[Scope::AgentsManage]),
    ("POST", "/api/agents/{id}/ping", &[Scope::CommandsRun]),
    ("POST", "/api/agents/{id}/command", SEND),
    ("PATCH", "/api/members/{id}", &[Scope::MembersWrite]),
    ("POST", "/api/invitations", &[Scope::MembersWrite]),
    ("POST", "/api/targets/preview", &[Scope::AgentsRead]),
    ("POST", "/api/commands/{id}/cancel", CONTROL),
    ("POST", "/api/commands/{id}/retry", SEND),
    ("POST", "/api/executions/{id}/cancel", CONTROL),
    ("POST", "/api/jobs", &[Scope::CommandsRun]),
    ("POST", "/api/jobs/preview", &[Scope::CommandsRun]),
    ("POST", "/api/jobs/{id}/cancel", CONTROL),
    ("POST", "/api/jobs/{id}/pause", CONTROL),
    ("POST", "/api/jobs/{id}/resume", CONTROL),
    ("POST", "/api/jobs/{id}/abort", CONTROL),
    ("POST", "/api/jobs/{id}/retry", &[Scope::CommandsRun]),
    ("PUT", "/api/access/ladder", &[Scope::ApprovalsManage]),
    ("POST", "/api/approvals/rules", &[Scope::ApprovalsManage]),
    ("POST", "/api/approvals/{id}/approve", &[Scope::ApprovalsDecide]),
    ("POST", "/api/approvals/{id}/refuse", &[Scope::ApprovalsDecide]),
    ("POST", "/api/webhooks/deliveries/{id}/resend", &[Scope::CommandsRun]),
    ("POST", "/api/webhooks/secret", &[Scope::WebhooksWrite]),
    ("POST", "/api/webhooks/secret/rotate", &[Scope::WebhooksWrite]),
    ("POST", "/api/alerts/rules", &[Scope::IntegrationsWrite]),
    ("PATCH", "/api/alerts/rules/{id}", &[Scope::IntegrationsWrite]),
    ("POST", "/api/alerts/rules/{id}/silence", &[Scope::IntegrationsWrite]),
    ("POST", "/api/integrations", &[Scope::IntegrationsWrite]),
    ("PATCH", "/api/integrations/{id}", &[Scope::IntegrationsWrite]),
    ("POST", "/api/integrations/{id}/test", &[Scope::IntegrationsWrite]),
    ("POST", "/api/integrations/{id}/deliveries/{delivery_id}/resend", &[Scope::IntegrationsWrite]),
    ("POST", "/api/groups", &[Scope::AgentsWrite]),
    ("PATCH", "/api/groups/{id}", &[Scope::AgentsWrite]),
    ("POST", "/api/groups/{id}/pause", &[Scope::AgentsWrite]),
    ("POST", "/api/groups/{id}/resume", &[Scope::AgentsWrite]),
    ("POST", "/api/schedules", &[Scope::SchedulesWrite]),
    ("POST", "/api/schedules/preview", &[Scope::SchedulesRead]),
    ("PATCH", "/api/schedules/{id}", &[Scope::SchedulesWrite]),
    ("POST", "/api/schedules/{id}/disable", &[Scope::SchedulesWrite]),
    ("POST", "/api/schedules/{id}/enable", &[Scope::SchedulesWrite]),
    ("POST", "/api/schedules/{id}/run", &[Scope::SchedulesWrite]),
    ("POST", "/api/scripts", &[Scope::ScriptsWrite]),
    ("PATCH", "/api/scripts/{id}", &[Scope::ScriptsWrite]),
    ("POST", "/api/scripts/{id}/versions", &[Scope::ScriptsWrite]),
    ("POST", "/api/scripts/{id}/versions/{version}/signatures", &[Scope::ScriptsWrite]),
    ("POST", "/api/packages/{id}/signatures", &[Scope::ScriptsWrite]),
    ("POST", "/api/packages", &[Scope::ScriptsWrite]),
    ("POST", "/api/files", &[Scope::FilesWrite]),
    ("PUT", "/api/files/{id}/content", &[Scope::FilesWrite]),
    ("POST", "/api/assignments", &[Scope::SchedulesWrite]),
    ("PATCH", "/api/assignments/{id}", &[Scope::SchedulesWrite]),
    ("POST", "/api/assignments/{id}/rollout/resume", &[Scope::SchedulesWrite]),
    ("POST", "/api/assignments/{id}/rollout/finish", &[Scope::SchedulesWrite]),
    ("POST", "/api/assignments/{id}/rollout/abort", &[Scope::SchedulesWrite]),
    ("POST", "/api/services/{id}/start", &[Scope::CommandsRun]),
    ("POST", "/api/services/{id}/stop", &[Scope::CommandsRun]),
    ("POST", "/api/services/{id}/restart", &[Scope::CommandsRun]),
    ("POST", "/api/calendars", &[Scope::SchedulesWrite]),
    ("PATCH", "/api/calendars/{id}", &[Scope::SchedulesWrite]),
    ("POST", "/api/schedules/simulate", &[Scope::SchedulesRead]),
    ("POST", "/api/schedules/{id}/snooze", &[Scope::SchedulesWrite]),
    ("POST", "/api/hooks", &[Scope::SchedulesWrite]),
    ("PATCH", "/api/hooks/{id}", &[Scope::SchedulesWrite]),
    ("POST", "/api/hooks/{id}/rotate", &[Scope::SchedulesWrite]),
    ("POST", "/api/hooks/{id}/test", &[Scope::SchedulesWrite]),
    ("POST", "/api/releases", &[Scope::ReleasesManage]),
    ("POST", "/api/releases/{version}/publish", &[Scope::ReleasesManage]),
    ("POST", "/api/releases/{version}/withdraw", &[Scope::ReleasesManage]),
    ("POST", "/api/releases/key-changes", &[Scope::ReleasesManage]),
    ("POST", "/api/storage/purge", &[Scope::TenantManage]),
    ("POST", "/api/storage/purge/preview", &[Scope::TenantManage]),
    ("PATCH", "/api/tenant", &[Scope::TenantManage]),
    ("DELETE", "/api/tenant", &[Scope::TenantManage]),
    ("POST", "/api/tenant/restore", &[Scope::TenantManage]),
    ("POST", "/api/certificates/rollover", &[Scope::TenantsManage]),
    ("POST", "/api/tenants", &[Scope::TenantsManage]),
    ("PATCH", "/api/tenants/{id}", &[Scope::TenantsManage]),
    ("DELETE", "/api/tenants/{id}", &[Scope::TenantsManage]),
    ("POST", "/api/tenants/{id}/restore", &[Scope::TenantsManage]),
];

/// The command in the body decides which of them.
const SEND: &[Scope] = &[Scope::CommandsRun, Scope::AgentsManage];
/// Whose work it is decides which of them.
const CONTROL: &[Scope] = &[Scope::CommandsRun, Scope::CommandsManage];

/// The scopes of which a caller needs at least one; none if any caller may send the body.
pub(super) fn scopes(method: &Method, route: &str) -> &'static [Scope] {
    let found = RIGHTS.iter().find(|(of, path, _)| *of == method.as_str() && *path == route);
    found.map_or(&[], |(_, _, scopes)| scopes)
}

/// The number of operations in the table.
#[cfg(test)]
pub(super) fn count() -> usize {
    RIGHTS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_that_reads_a_body_for_an_api_key_has_its_right() {
        let document = crate::http::openapi::documented();
        let document = serde_json::to_value(document.get_openapi()).expect("JSON");
        let mut known = 0;
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let is_change = ["post", "patch", "put"].contains(&method.as_str())
                    || (method == "delete" && operation["requestBody"].is_object());
                // Agents have rights of their own, programs are not held in memory, and people sign in
                // with what the body holds, or change what is their own.
                let is_own =
                    ["/api/setup", "/api/auth/", "/api/me/", "/api/invitations/accept", "/hooks/"]
                        .iter()
                        .any(|own| path.starts_with(own))
                        || path == "/api/certificates"
                        || path.ends_with("/{program}");
                if !is_change || operation["tags"][0] == "agent link" || is_own {
                    continue;
                }
                let method =
                    Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                assert!(!scopes(&method, path).is_empty(), "{method} {path} is not in the table");
                known += 1;
            }
        }
        assert_eq!(known, RIGHTS.len(), "the table names an operation that does not exist");
    }
}
