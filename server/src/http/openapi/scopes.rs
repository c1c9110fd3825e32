//! The scopes that each operation needs, in the document: `x-required-scope`, a list of lists of which a
//! caller needs one scope each, and a sentence. Bodies are read by the same table
//! ([`body_rights`](crate::http::body_rights)); the others are here.

use axum::http::Method;
use serde_json::{Value, json};

use crate::domain::access::principal::Scope;
use crate::http::body_rights;

/// Operations without a body for an API key.
const WITHOUT_BODY: &[(&str, &str, &[Scope])] = &[
    ("GET", "/metrics", &[Scope::MetricsRead]),
    ("GET", "/api/agents", &[Scope::AgentsRead]),
    ("GET", "/api/agents/connected", &[Scope::AgentsRead]),
    ("GET", "/api/agents/resolve", &[Scope::AgentsRead]),
    ("GET", "/api/agents/{id}", &[Scope::AgentsRead]),
    ("DELETE", "/api/agents/{id}", &[Scope::AgentsWrite]),
    ("GET", "/api/agents/{id}/events", &[Scope::AgentsRead]),
    ("GET", "/api/agents/{id}/facts", &[Scope::AgentsRead]),
    ("GET", "/api/facts", &[Scope::AgentsRead]),
    ("GET", "/api/agents/{id}/metrics", &[Scope::AgentsRead]),
    ("GET", "/api/agents/{id}/scripts", &[Scope::AgentsRead]),
    ("GET", "/api/agents/keys", &[Scope::AgentKeysRead]),
    ("GET", "/api/agents/keys/{id}", &[Scope::AgentKeysRead]),
    ("DELETE", "/api/agents/keys/{id}", &[Scope::AgentKeysWrite]),
    ("GET", "/api/members", &[Scope::MembersRead]),
    ("DELETE", "/api/members/{id}", &[Scope::MembersWrite]),
    ("GET", "/api/invitations", &[Scope::MembersRead]),
    ("DELETE", "/api/invitations/{id}", &[Scope::MembersWrite]),
    ("GET", "/api/access/ladder", &[Scope::CommandsRead]),
    ("GET", "/api/approvals", &[Scope::CommandsRead]),
    ("GET", "/api/approvals/{id}", &[Scope::CommandsRead]),
    ("GET", "/api/approvals/rules", &[Scope::CommandsRead]),
    ("DELETE", "/api/approvals/rules/{id}", &[Scope::ApprovalsManage]),
    ("GET", "/api/audit", &[Scope::AuditRead]),
    ("GET", "/api/audit/export", &[Scope::AuditRead]),
    ("GET", "/api/audit/head", &[Scope::AuditRead]),
    ("GET", "/api/audit/live", &[Scope::AuditRead]),
    ("GET", "/api/audit/verify", &[Scope::AuditRead]),
    ("GET", "/api/commands", &[Scope::CommandsRead]),
    ("GET", "/api/commands/{id}", &[Scope::CommandsRead]),
    ("GET", "/api/commands/{id}/output", &[Scope::CommandsRead]),
    ("GET", "/api/events", &[Scope::AgentsRead, Scope::CommandsRead]),
    ("GET", "/api/executions", &[Scope::CommandsRead]),
    ("GET", "/api/executions/{id}", &[Scope::CommandsRead]),
    ("GET", "/api/executions/{id}/output", &[Scope::CommandsRead]),
    ("GET", "/api/executions/{id}/output/live", &[Scope::CommandsRead]),
    ("GET", "/api/executions/{id}/output/search", &[Scope::CommandsRead]),
    ("GET", "/api/executions/{id}/output/times", &[Scope::CommandsRead]),
    ("GET", "/api/groups", &[Scope::AgentsRead]),
    ("GET", "/api/groups/{id}", &[Scope::AgentsRead]),
    ("DELETE", "/api/groups/{id}", &[Scope::AgentsWrite]),
    ("GET", "/api/integrations", &[Scope::IntegrationsRead]),
    ("GET", "/api/integrations/{id}", &[Scope::IntegrationsRead]),
    ("DELETE", "/api/integrations/{id}", &[Scope::IntegrationsWrite]),
    ("GET", "/api/integrations/{id}/deliveries", &[Scope::IntegrationsRead]),
    ("GET", "/api/jobs", &[Scope::CommandsRead]),
    ("GET", "/api/jobs/{id}", &[Scope::CommandsRead]),
    ("GET", "/api/jobs/{id}/executions", &[Scope::CommandsRead]),
    ("GET", "/api/keys", &[Scope::ApiKeysRead]),
    ("GET", "/api/keys/{id}", &[Scope::ApiKeysRead]),
    ("DELETE", "/api/keys/{id}", &[Scope::ApiKeysWrite]),
    ("DELETE", "/api/keys/{id}/previous-secret", &[Scope::ApiKeysWrite]),
    ("GET", "/api/releases", &[Scope::AgentsRead]),
    ("GET", "/api/releases/{version}", &[Scope::AgentsRead]),
    ("PUT", "/api/releases/{version}/{platform}/{program}", &[Scope::ReleasesManage]),
    ("GET", "/api/packages", &[Scope::ScriptsRead]),
    ("GET", "/api/packages/{id}", &[Scope::ScriptsRead]),
    ("GET", "/api/packages/{id}/archive", &[Scope::ScriptsRead]),
    ("DELETE", "/api/packages/{id}", &[Scope::ScriptsWrite]),
    ("GET", "/api/files", &[Scope::FilesWrite]),
    ("GET", "/api/files/{id}", &[Scope::FilesWrite]),
    ("DELETE", "/api/files/{id}", &[Scope::FilesWrite]),
    ("GET", "/api/assignments", &[Scope::SchedulesRead]),
    ("GET", "/api/assignments/{id}", &[Scope::SchedulesRead]),
    ("GET", "/api/assignments/{id}/agents", &[Scope::SchedulesRead]),
    ("DELETE", "/api/assignments/{id}", &[Scope::SchedulesWrite]),
    ("GET", "/api/services", &[Scope::SchedulesRead]),
    ("GET", "/api/scripts", &[Scope::ScriptsRead]),
    ("GET", "/api/scripts/{id}", &[Scope::ScriptsRead]),
    ("GET", "/api/scripts/starter", &[Scope::ScriptsRead]),
    ("DELETE", "/api/scripts/{id}", &[Scope::ScriptsWrite]),
    ("GET", "/api/scripts/{id}/diff", &[Scope::ScriptsRead]),
    ("GET", "/api/scripts/{id}/versions", &[Scope::ScriptsRead]),
    ("GET", "/api/scripts/{id}/versions/{version}", &[Scope::ScriptsRead]),
    ("GET", "/api/schedules", &[Scope::SchedulesRead]),
    ("GET", "/api/schedules/{id}", &[Scope::SchedulesRead]),
    ("DELETE", "/api/schedules/{id}", &[Scope::SchedulesWrite]),
    ("GET", "/api/schedules/{id}/fires", &[Scope::SchedulesRead]),
    ("GET", "/api/schedules/{id}/preview", &[Scope::SchedulesRead]),
    ("GET", "/api/alerts", &[Scope::IntegrationsRead]),
    ("GET", "/api/alerts/rules", &[Scope::IntegrationsRead]),
    ("GET", "/api/alerts/rules/{id}", &[Scope::IntegrationsRead]),
    ("DELETE", "/api/alerts/rules/{id}", &[Scope::IntegrationsWrite]),
    ("GET", "/api/schedules/{id}/trigger-states", &[Scope::SchedulesRead]),
    ("GET", "/api/calendars", &[Scope::SchedulesRead]),
    ("GET", "/api/calendars/{id}", &[Scope::SchedulesRead]),
    ("DELETE", "/api/calendars/{id}", &[Scope::SchedulesWrite]),
    ("GET", "/api/hooks", &[Scope::SchedulesRead]),
    ("GET", "/api/hooks/{id}", &[Scope::SchedulesRead]),
    ("DELETE", "/api/hooks/{id}", &[Scope::SchedulesWrite]),
    ("GET", "/api/hooks/{id}/deliveries", &[Scope::SchedulesRead]),
    ("GET", "/api/certificates", &[Scope::AgentsRead]),
    ("GET", "/api/certificates/status", &[Scope::AgentsRead]),
    ("GET", "/api/certificates/rollover", &[Scope::TenantsManage]),
    ("DELETE", "/api/certificates/{id}", &[Scope::AgentsWrite]),
    ("GET", "/api/storage", &[Scope::CommandsRead]),
    ("GET", "/api/tenant", &[Scope::AgentsRead]),
    ("GET", "/api/tenant/export", &[Scope::TenantManage]),
    ("GET", "/api/tenants", &[Scope::TenantsManage]),
    ("GET", "/api/tenants/{id}", &[Scope::TenantsManage]),
    ("GET", "/api/webhooks/deliveries", &[Scope::CommandsRead]),
    ("GET", "/api/webhooks/deliveries/{id}", &[Scope::CommandsRead]),
];

/// A second scope that an operation needs.
const ALSO: &[(&str, &str, &[Scope])] = &[
    ("POST", "/api/groups", &[Scope::AgentsManage]),
    ("PATCH", "/api/groups/{id}", &[Scope::AgentsManage]),
    ("DELETE", "/api/groups/{id}", &[Scope::AgentsManage]),
    ("POST", "/api/groups/{id}/pause", &[Scope::AgentsManage]),
    ("POST", "/api/groups/{id}/resume", &[Scope::AgentsManage]),
    ("POST", "/api/jobs/preview", &[Scope::AgentsRead]),
    ("POST", "/api/commands/{id}/retry", &[Scope::CommandsRead]),
    ("POST", "/api/jobs/{id}/retry", &[Scope::CommandsRead]),
    ("POST", "/api/assignments", &[Scope::CommandsRun]),
    ("PATCH", "/api/assignments/{id}", &[Scope::CommandsRun]),
    ("DELETE", "/api/assignments/{id}", &[Scope::CommandsRun]),
    ("POST", "/api/assignments/{id}/rollout/resume", &[Scope::CommandsRun]),
    ("POST", "/api/assignments/{id}/rollout/finish", &[Scope::CommandsRun]),
    ("POST", "/api/assignments/{id}/rollout/abort", &[Scope::CommandsRun]),
    ("POST", "/api/calendars", &[Scope::CommandsManage]),
    ("PATCH", "/api/calendars/{id}", &[Scope::CommandsManage]),
    ("DELETE", "/api/calendars/{id}", &[Scope::CommandsManage]),
    ("POST", "/api/schedules/{id}/snooze", &[Scope::CommandsRun, Scope::CommandsManage]),
    ("POST", "/api/hooks", &[Scope::CommandsRun]),
    ("PATCH", "/api/hooks/{id}", &[Scope::CommandsRun]),
    ("DELETE", "/api/hooks/{id}", &[Scope::CommandsRun, Scope::CommandsManage]),
    ("POST", "/api/hooks/{id}/rotate", &[Scope::CommandsRun, Scope::CommandsManage]),
    ("POST", "/api/hooks/{id}/test", &[Scope::CommandsRun]),
    ("POST", "/api/schedules", &[Scope::CommandsRun]),
    ("PATCH", "/api/schedules/{id}", &[Scope::CommandsRun]),
    ("POST", "/api/schedules/{id}/enable", &[Scope::CommandsRun]),
    ("POST", "/api/schedules/{id}/run", &[Scope::CommandsRun]),
    ("POST", "/api/schedules/{id}/disable", &[Scope::CommandsRun, Scope::CommandsManage]),
    ("DELETE", "/api/schedules/{id}", &[Scope::CommandsRun, Scope::CommandsManage]),
];

/// Operations only for a person who is signed in.
const FOR_PEOPLE: &[(&str, &str)] = &[
    ("POST", "/api/auth/confirm"),
    ("POST", "/api/auth/switch"),
    ("POST", "/api/auth/oidc/{provider}/link"),
    ("POST", "/api/auth/device/approve"),
    ("POST", "/api/auth/device/refuse"),
    ("POST", "/api/auth/device/show"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/me/sessions"),
    ("DELETE", "/api/me/sessions/{id}"),
    ("GET", "/api/me/passkeys"),
    ("POST", "/api/me/passkeys"),
    ("POST", "/api/me/passkeys/challenge"),
    ("DELETE", "/api/me/passkeys/{id}"),
    ("GET", "/api/me/identities"),
    ("DELETE", "/api/me/identities/{id}"),
    ("POST", "/api/me/password"),
    ("POST", "/api/me/email"),
    ("GET", "/api/me/totp"),
    ("POST", "/api/me/totp"),
    ("DELETE", "/api/me/totp"),
    ("POST", "/api/me/totp/confirm"),
    ("POST", "/api/me/totp/recovery-codes"),
    ("POST", "/api/me/email/verify"),
    ("PATCH", "/api/members/{id}"),
    ("DELETE", "/api/members/{id}"),
    ("POST", "/api/invitations"),
    ("DELETE", "/api/invitations/{id}"),
];

/// Adds the scopes to every operation of a document.
pub fn complete(document: &mut Value) {
    let paths = document["paths"].as_object_mut();
    for (path, operations) in paths.into_iter().flatten() {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            complete_operation(&method.to_uppercase(), path, operation);
        }
    }
}

fn complete_operation(method: &str, path: &str, operation: &mut Value) {
    let is_for_people = FOR_PEOPLE.contains(&(method, path));
    let groups = groups(method, path);
    let mut sentences = Vec::new();
    if is_for_people {
        operation["security"] = json!([{"access_token": []}, {"access_cookie": []}]);
        sentences.push("Only for a person who is signed in.".to_owned());
    }
    if !groups.is_empty() {
        let names: Vec<Vec<&str>> =
            groups.iter().map(|group| group.iter().map(|scope| scope.as_str()).collect()).collect();
        let quoted = |group: &Vec<&str>| format!("`{}`", group.join("` or `"));
        let each: Vec<_> = names.iter().map(quoted).collect();
        sentences.push(format!("Needs the scope {}.", each.join(" and ")));
        operation["x-required-scope"] = json!(names);
    }
    if sentences.is_empty() {
        return;
    }
    let known = operation["description"].as_str().unwrap_or_default();
    operation["description"] = json!(format!("{known}\n\n{}", sentences.join(" ")));
    let mut codes = Vec::new();
    if is_for_people {
        codes.push("`session_required`: the caller is no person who is signed in");
    }
    if !groups.is_empty() {
        codes.push("`missing_scope`: the caller does not have the scope");
    }
    if let Some(refusal) = operation["responses"].get_mut("403") {
        refusal["description"] = json!(format!("{}. Other codes say why.", codes.join("; ")));
    }
}

/// The scopes of an operation; a caller needs one of each list.
fn groups(method: &str, path: &str) -> Vec<&'static [Scope]> {
    let of_body = Method::from_bytes(method.as_bytes())
        .map_or(&[][..], |method| body_rights::scopes(&method, path));
    let listed = |table: &'static [(&'static str, &'static str, &'static [Scope])]| {
        let found = table.iter().find(|(of, known, _)| *of == method && *known == path);
        found.map_or(&[][..], |(_, _, scopes)| *scopes)
    };
    let all = [of_body, listed(WITHOUT_BODY), listed(ALSO)];
    all.into_iter().filter(|group| !group.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_with_a_credential_of_a_principal_names_its_scope() {
        let document = crate::http::openapi::documented();
        let mut document = serde_json::to_value(document.get_openapi()).expect("JSON");
        complete(&mut document);
        let mut known = 0;
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let is_named = operation["x-required-scope"].is_array();
                known += usize::from(is_named);
                // Any caller, or a secret of its own.
                let is_free = ["/healthz", "/readyz", "/api/setup", "/api/auth/", "/api/me"]
                    .iter()
                    .any(|free| path.starts_with(free))
                    || ["/api/access/explain", "/api/invitations/accept"].contains(&path.as_str())
                    || (method == "post" && path == "/api/certificates")
                    || operation["tags"][0] == "agent link"
                    || operation["security"] == json!([{}]);
                assert!(is_named || is_free, "{method} {path} names no scope");
            }
        }
        let tables = WITHOUT_BODY.len() + body_rights::count();
        assert_eq!(known, tables, "a table names an operation that does not exist");
    }
}
