//! Every operation of the API, with what it needs and how it treats another tenant.

use muster_tests::PASSWORD;
use serde_json::{Value, json};

/// What a caller must present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// An API key with any scopes.
    AnyKey,
    /// An agent key.
    AgentKey,
    /// A secret of its own, which no key replaces.
    Own(&'static str),
    /// A person who is signed in, with one scope of each group.
    Person(&'static [&'static [&'static str]]),
    /// An API key with one scope of each group.
    Scopes(&'static [&'static [&'static str]]),
}

/// What a caller of another tenant gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// 404 for the ids of this tenant.
    NotFound,
    /// A list without anything of this tenant.
    Hidden,
    /// The request names nothing of a tenant.
    Unrelated,
    /// What belongs to the whole server, and every tenant may read.
    Shared,
    /// What belongs to the operator of the server, and to no tenant.
    Operators,
}

/// One operation, or one of its variants that needs other scopes.
#[derive(Debug)]
pub struct Operation {
    pub method: &'static str,
    /// As in the OpenAPI document.
    pub path: &'static str,
    /// What distinguishes the variant; empty for the only one.
    pub variant: &'static str,
    pub query: &'static str,
    /// A valid body.
    pub body: Option<Value>,
    pub needs: Needs,
    pub foreign: Foreign,
}

impl Operation {
    fn new(
        method: &'static str,
        path: &'static str,
        needs: &'static [&'static [&'static str]],
        foreign: Foreign,
    ) -> Self {
        let needs = Needs::Scopes(needs);
        Self { method, path, variant: "", query: "", body: None, needs, foreign }
    }

    fn needing(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn variant(self, variant: &'static str) -> Self {
        Self { variant, ..self }
    }

    fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    /// The name in the matrix.
    pub fn name(&self) -> String {
        let variant = match self.variant {
            "" => String::new(),
            variant => format!(" ({variant})"),
        };
        format!("`{} {}`{variant}", self.method, self.path)
    }
}

/// Of no key pair.
const FINGERPRINT: &str = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
const AGENTS_READ: &[&[&str]] = &[&["agents:read"]];
const AGENTS_WRITE: &[&[&str]] = &[&["agents:write"]];
const AGENTS_MANAGE: &[&[&str]] = &[&["agents:manage"]];
const GROUPS: &[&[&str]] = &[&["agents:write"], &["agents:manage"]];
const AGENT_KEYS_READ: &[&[&str]] = &[&["agent_keys:read"]];
const AGENT_KEYS_WRITE: &[&[&str]] = &[&["agent_keys:write"]];
const COMMANDS_READ: &[&[&str]] = &[&["commands:read"]];
const RUN: &[&[&str]] = &[&["commands:run"]];
const PREVIEW: &[&[&str]] = &[&["agents:read"], &["commands:run"]];
const SHELL: &[&[&str]] = &[&["commands:run"], &["commands:shell"]];
const RETRY: &[&[&str]] = &[&["commands:read"], &["commands:run"]];
/// For `execute`. For life-cycle commands it must be `agents:manage`.
const RETRY_COMMAND: &[&[&str]] = &[&["commands:read"], &["commands:run", "agents:manage"]];
/// For the work of the caller's own key. For that of others it must be `commands:manage`.
const CONTROL: &[&[&str]] = &[&["commands:run", "commands:manage"]];
const API_KEYS_READ: &[&[&str]] = &[&["api_keys:read"]];
const API_KEYS_WRITE: &[&[&str]] = &[&["api_keys:write"]];
const DECIDE: &[&[&str]] = &[&["approvals:decide"]];
const MANAGE_RULES: &[&[&str]] = &[&["approvals:manage"]];
const AUDIT_READ: &[&[&str]] = &[&["audit:read"]];
const SCHEDULES_READ: &[&[&str]] = &[&["schedules:read"]];
/// For the schedules of the caller. For those of others it must be `commands:manage`.
const SCHEDULES_CONTROL: &[&[&str]] = &[&["schedules:write"], &["commands:run", "commands:manage"]];
const SCHEDULES_RUN: &[&[&str]] = &[&["schedules:write"], &["commands:run"]];
const SCRIPTS_READ: &[&[&str]] = &[&["scripts:read"]];
const SCRIPTS_WRITE: &[&[&str]] = &[&["scripts:write"]];
const FILES_WRITE: &[&[&str]] = &[&["files:write"]];
const PUSH: &[&[&str]] = &[&["commands:run"], &["files:write"]];
const CALENDARS_WRITE: &[&[&str]] = &[&["schedules:write"], &["commands:manage"]];
const INTEGRATIONS_READ: &[&[&str]] = &[&["integrations:read"]];
const INTEGRATIONS_WRITE: &[&[&str]] = &[&["integrations:write"]];
const MEMBERS_READ: &[&[&str]] = &[&["members:read"]];
const MEMBERS_WRITE: &[&[&str]] = &[&["members:write"]];
const WEBHOOKS_WRITE: &[&[&str]] = &[&["webhooks:write"]];
const METRICS_READ: &[&[&str]] = &[&["metrics:read"]];
const RELEASES_MANAGE: &[&[&str]] = &[&["releases:manage"]];
const TENANT_MANAGE: &[&[&str]] = &[&["tenant:manage"]];
const TENANTS_MANAGE: &[&[&str]] = &[&["tenants:manage"]];

/// The table. An operation of the OpenAPI document without an entry fails the test.
pub fn operations() -> Vec<Operation> {
    use Foreign::{Hidden, NotFound, Operators, Shared, Unrelated};
    let get = |path, needs, foreign| Operation::new("GET", path, needs, foreign);
    let delete = |path, needs| Operation::new("DELETE", path, needs, NotFound);
    let patch = |path, needs, body| Operation::new("PATCH", path, needs, NotFound).with(body);
    let post = |path, needs, foreign, body| Operation::new("POST", path, needs, foreign).with(body);
    let act = |path, needs| Operation::new("POST", path, needs, NotFound).with(json!({}));
    let by_person = |operation: Operation, scopes| operation.needing(Needs::Person(scopes));
    let open = |path| get(path, &[], Unrelated).needing(Needs::Nothing);
    let by_agent = |operation: Operation| operation.needing(Needs::AgentKey);
    let nobody = json!({"tags": ["of-no-agent"]});
    let new_script = json!({"name": "matrix", "body": "true\n", "interpreter": "sh"});
    let new_version = json!({"body": "true\n", "interpreter": "sh"});
    let signature = json!({"statement": "{}", "signature": "x"});
    let heartbeat = json!({"status": {}});
    let nothing = "00000000-0000-7000-8000-000000000000";
    let result = json!({"command_id": nothing, "result": {}});
    let ping = json!({"command": "ping", "wait_ms": 1});
    let restart = json!({"command": "restart"});
    let new_group = json!({"name": "new", "target": nobody});
    let argv = json!({"argv": ["true"], "target": nobody});
    let rule = json!({"cron": "0 9 * * *"});
    let new_integration = json!({"kind": "slack", "name": "new", "event_types": ["job.failed"],
        "settings": {"url": "https://hooks.invalid/x"}});
    let new_schedule =
        json!({"name": "new", "rule": rule, "job": {"script": "hi", "target": nobody}});
    let new_rule = json!({"name": "new", "metric": "disk_percent", "threshold": 90});
    let new_assignment = json!({"name": "new", "script": "package:task",
        "target": {"tags": ["none"]}});
    let new_file = json!({"name": "new", "sha256": "1".repeat(64), "bytes": 1});
    let pushed = json!({"script": "file:push", "file": {"path": "/srv/a", "sha256": "0".repeat(64)},
        "target": nobody});
    let new_calendar = json!({"name": "new", "entries": []});
    let new_hook = json!({"name": "new", "authentication": "signature",
        "job": {"script": "hi", "target": nobody}});
    let setup = json!({"email": "ada@example.com", "password": "correct horse battery"});
    let setup_again = setup.clone();
    let wrong_code = json!({"registration_id": nothing, "code": "000000"});
    let wrong_login = json!({"email": "nobody@example.com", "password": "wrong horse battery"});
    let password = json!({"password": PASSWORD});
    let passkey = json!({"passkey": {"challenge": "", "credential_id": "", "user_handle": "", "client_data": "",
        "authenticator_data": "", "signature": ""}});
    let made = json!({"challenge": "", "name": "new", "credential_id": "", "client_data": "", "attestation_object": ""});
    let new_password = json!({"current_password": PASSWORD, "new_password": PASSWORD});
    let invited = json!({"email": "grace@example.com", "role": "auditor"});
    let key_change = json!({"old": "", "new": "", "signature": ""});
    vec![
        open("/healthz"),
        open("/readyz"),
        get("/metrics", METRICS_READ, Operators),
        get("/api/agents", AGENTS_READ, Hidden),
        get("/api/agents/connected", AGENTS_READ, Hidden),
        get("/api/agents/{id}", AGENTS_READ, NotFound),
        patch("/api/agents/{id}", AGENTS_WRITE, json!({"name": "renamed"})),
        delete("/api/agents/{id}", AGENTS_WRITE),
        post(
            "/api/agents/{id}/adopt",
            AGENTS_MANAGE,
            NotFound,
            json!({"fingerprint": FINGERPRINT}),
        ),
        post("/api/agents/{id}/command", RUN, NotFound, ping.clone()),
        post("/api/agents/{id}/command", AGENTS_MANAGE, NotFound, restart.clone())
            .variant("life cycle"),
        get("/api/agents/{id}/events", AGENTS_READ, NotFound),
        get("/api/agents/{id}/metrics", AGENTS_READ, NotFound),
        post("/api/agents/{id}/ping", RUN, NotFound, json!({"wait_ms": 1})),
        get("/api/agents/{id}/scripts", AGENTS_READ, NotFound),
        get("/api/agents/{id}/facts", AGENTS_READ, NotFound),
        get("/api/facts", AGENTS_READ, Hidden),
        get("/api/agents/resolve", AGENTS_READ, NotFound).query("?name=one"),
        get("/api/agents/keys", AGENT_KEYS_READ, Hidden),
        post("/api/agents/keys", AGENT_KEYS_WRITE, Unrelated, json!({"name": "new"})),
        get("/api/agents/keys/{id}", AGENT_KEYS_READ, NotFound),
        patch("/api/agents/keys/{id}", AGENT_KEYS_WRITE, json!({"name": "renamed"})),
        delete("/api/agents/keys/{id}", AGENT_KEYS_WRITE),
        post("/api/agents/keys/{id}/command", RUN, NotFound, ping),
        post("/api/agents/keys/{id}/command", AGENTS_MANAGE, NotFound, restart)
            .variant("life cycle"),
        post("/api/agents/keys/{id}/ping", RUN, NotFound, json!({"wait_ms": 1})),
        act("/api/agents/keys/{id}/regenerate", AGENT_KEYS_WRITE),
        post("/api/setup", &[], Unrelated, setup).needing(Needs::Own("set-up token")),
        post("/api/auth/login", &[], Unrelated, wrong_login).needing(Needs::Own("password")),
        post("/api/auth/login/code", &[], Unrelated, json!({"challenge": "", "code": "000000"}))
            .needing(Needs::Own("challenge")),
        by_person(get("/api/me/totp", &[], Hidden), &[]),
        by_person(post("/api/me/totp", &[], Unrelated, json!({})), &[]),
        by_person(post("/api/me/totp/confirm", &[], Unrelated, json!({"code": "000000"})), &[]),
        by_person(post("/api/me/totp/recovery-codes", &[], Unrelated, json!({})), &[]),
        by_person(delete("/api/me/totp", &[]), &[]),
        post("/api/auth/refresh", &[], Unrelated, json!({"refresh_token": "mst_refresh_"}))
            .needing(Needs::Own("refresh token")),
        post("/api/auth/register", &[], Unrelated, setup_again).needing(Needs::Nothing),
        post("/api/auth/register/resend", &[], Unrelated, json!({"registration_id": nothing}))
            .needing(Needs::Nothing),
        post("/api/auth/register/verify", &[], Unrelated, wrong_code)
            .needing(Needs::Own("code by mail")),
        post("/api/auth/password-reset", &[], Unrelated, json!({"email": "nobody@example.com"}))
            .needing(Needs::Nothing),
        post("/api/auth/password-reset/complete", &[], Unrelated, json!({"password": PASSWORD}))
            .needing(Needs::Own("token by mail")),
        by_person(post("/api/me/email", &[], Unrelated, json!({"email": "new@example.com"})), &[]),
        by_person(post("/api/me/email/verify", &[], Unrelated, json!({"code": "000000"})), &[]),
        post("/api/auth/device", &[], Unrelated, json!({})).needing(Needs::Nothing),
        by_person(post("/api/auth/device/approve", &[], Unrelated, user_code()), &[]),
        by_person(post("/api/auth/device/refuse", &[], Unrelated, user_code()), &[]),
        by_person(post("/api/auth/device/show", &[], Unrelated, user_code()), &[]),
        post("/api/auth/device/token", &[], Unrelated, json!({"device_code": "mst_device_"}))
            .needing(Needs::Own("device code")),
        get("/api/auth/oidc/providers", &[], Unrelated).needing(Needs::Nothing),
        get("/api/auth/oidc/{provider}/start", &[], Unrelated).needing(Needs::Own("provider")),
        get("/api/auth/oidc/{provider}/callback", &[], Unrelated).needing(Needs::Own("provider")),
        by_person(post("/api/auth/oidc/{provider}/link", &[], Unrelated, json!({})), &[]),
        by_person(post("/api/auth/confirm", &[], Unrelated, password), &[]),
        by_person(post("/api/auth/switch", &[], Unrelated, json!({"tenant_id": nothing})), &[]),
        by_person(post("/api/auth/logout", &[], Unrelated, json!({})), &[]),
        get("/api/me", &[], Hidden),
        by_person(get("/api/me/sessions", &[], Hidden), &[]),
        by_person(delete("/api/me/sessions/{id}", &[]), &[]),
        post("/api/auth/passkey/challenge", &[], Unrelated, json!({})).needing(Needs::Nothing),
        post("/api/auth/passkey", &[], Unrelated, passkey).needing(Needs::Own("passkey")),
        by_person(get("/api/me/passkeys", &[], Hidden), &[]),
        by_person(post("/api/me/passkeys/challenge", &[], Unrelated, json!({})), &[]),
        by_person(post("/api/me/passkeys", &[], Unrelated, made), &[]),
        by_person(delete("/api/me/passkeys/{id}", &[]), &[]),
        by_person(get("/api/me/identities", &[], Hidden), &[]),
        by_person(delete("/api/me/identities/{id}", &[]), &[]),
        by_person(post("/api/me/password", &[], Unrelated, new_password), &[]),
        get("/api/members", MEMBERS_READ, Hidden),
        by_person(patch("/api/members/{id}", &[], json!({"role": "member"})), MEMBERS_WRITE),
        by_person(delete("/api/members/{id}", &[]), MEMBERS_WRITE),
        get("/api/invitations", MEMBERS_READ, Hidden),
        by_person(post("/api/invitations", &[], Unrelated, invited), MEMBERS_WRITE),
        by_person(delete("/api/invitations/{id}", &[]), MEMBERS_WRITE),
        post("/api/invitations/accept", &[], Unrelated, json!({"password": PASSWORD}))
            .needing(Needs::Own("invitation")),
        by_agent(get("/api/agents/desired-release", &[], Unrelated))
            .query("?platform=linux-x86_64&version=0.1.0"),
        by_agent(post("/api/agents/exchange", &[], Unrelated, json!({}))),
        by_agent(post("/api/agents/heartbeat", &[], Unrelated, heartbeat)),
        by_agent(get("/api/agents/poll", &[], Unrelated)),
        by_agent(get("/api/agents/packages/{sha256}", &[], Unrelated)),
        by_agent(get("/api/agents/files/{sha256}", &[], Unrelated)),
        by_agent(post("/api/agents/result", &[], Unrelated, result)),
        get("/api/access/explain", &[], Unrelated).query("?operation=ping").needing(Needs::AnyKey),
        get("/api/access/ladder", COMMANDS_READ, Hidden),
        Operation::new("PUT", "/api/access/ladder", MANAGE_RULES, Unrelated)
            .with(json!({"steps": []})),
        // Before the rules of approval: an assignment can't wait for one.
        get("/api/assignments", SCHEDULES_READ, Hidden),
        post("/api/assignments", SCHEDULES_RUN, Unrelated, new_assignment),
        get("/api/assignments/{id}", SCHEDULES_READ, NotFound),
        patch("/api/assignments/{id}", SCHEDULES_RUN, json!({"name": "renamed"})),
        delete("/api/assignments/{id}", SCHEDULES_RUN),
        get("/api/assignments/{id}/agents", SCHEDULES_READ, NotFound),
        act("/api/assignments/{id}/rollout/resume", SCHEDULES_RUN),
        act("/api/assignments/{id}/rollout/finish", SCHEDULES_RUN),
        act("/api/assignments/{id}/rollout/abort", SCHEDULES_RUN),
        get("/api/services", SCHEDULES_READ, Hidden),
        post("/api/services/{id}/start", RUN, NotFound, json!({})),
        post("/api/services/{id}/stop", RUN, NotFound, json!({})),
        post("/api/services/{id}/restart", RUN, NotFound, json!({})),
        get("/api/approvals", COMMANDS_READ, Hidden),
        get("/api/approvals/{id}", COMMANDS_READ, NotFound),
        post("/api/approvals/{id}/approve", DECIDE, NotFound, json!({})),
        post("/api/approvals/{id}/refuse", DECIDE, NotFound, json!({"reason": "no"})),
        get("/api/approvals/rules", COMMANDS_READ, Hidden),
        post("/api/approvals/rules", MANAGE_RULES, Unrelated, json!({"name": "new"})),
        delete("/api/approvals/rules/{id}", MANAGE_RULES),
        get("/api/audit", AUDIT_READ, Hidden),
        get("/api/audit/export", AUDIT_READ, Hidden),
        get("/api/audit/head", AUDIT_READ, Hidden),
        get("/api/audit/live", AUDIT_READ, Unrelated),
        get("/api/audit/verify", AUDIT_READ, Hidden),
        get("/api/commands", COMMANDS_READ, Hidden),
        get("/api/commands/{id}", COMMANDS_READ, NotFound),
        act("/api/commands/{id}/cancel", CONTROL),
        post("/api/commands/{id}/retry", RETRY_COMMAND, NotFound, json!({})),
        get("/api/commands/{id}/output", COMMANDS_READ, NotFound),
        get("/api/events", AGENTS_READ, Unrelated).variant("agents").query("?types=agent"),
        get("/api/events", COMMANDS_READ, Unrelated).variant("jobs").query("?types=job"),
        get("/api/events", INTEGRATIONS_READ, Unrelated).variant("alerts").query("?types=alert"),
        get("/api/executions", COMMANDS_READ, Hidden),
        get("/api/executions/{id}", COMMANDS_READ, NotFound),
        act("/api/executions/{id}/cancel", CONTROL),
        get("/api/executions/{id}/output", COMMANDS_READ, NotFound),
        get("/api/executions/{id}/output/live", COMMANDS_READ, NotFound),
        get("/api/executions/{id}/output/search", COMMANDS_READ, NotFound).query("?q=x"),
        get("/api/executions/{id}/output/times", COMMANDS_READ, NotFound),
        get("/api/certificates", AGENTS_READ, Hidden),
        get("/api/certificates/status", AGENTS_READ, Hidden),
        post("/api/certificates", &[], Unrelated, json!({"request": ""})),
        delete("/api/certificates/{id}", AGENTS_WRITE).unrelated(),
        get("/api/certificates/rollover", TENANTS_MANAGE, Operators),
        post(
            "/api/certificates/rollover",
            TENANTS_MANAGE,
            Operators,
            json!({"action": "announce"}),
        ),
        get("/api/groups", AGENTS_READ, Hidden),
        post("/api/groups", GROUPS, Unrelated, new_group),
        get("/api/groups/{id}", AGENTS_READ, NotFound),
        patch("/api/groups/{id}", GROUPS, json!({"name": "renamed"})),
        delete("/api/groups/{id}", GROUPS),
        act("/api/groups/{id}/pause", GROUPS),
        act("/api/groups/{id}/resume", GROUPS),
        get("/api/integrations", INTEGRATIONS_READ, Hidden),
        post("/api/integrations", INTEGRATIONS_WRITE, Unrelated, new_integration),
        get("/api/integrations/{id}", INTEGRATIONS_READ, NotFound),
        patch("/api/integrations/{id}", INTEGRATIONS_WRITE, json!({"name": "renamed"})),
        delete("/api/integrations/{id}", INTEGRATIONS_WRITE),
        get("/api/integrations/{id}/deliveries", INTEGRATIONS_READ, NotFound),
        act("/api/integrations/{id}/deliveries/{delivery_id}/resend", INTEGRATIONS_WRITE),
        act("/api/integrations/{id}/test", INTEGRATIONS_WRITE),
        get("/api/jobs", COMMANDS_READ, Hidden),
        post("/api/jobs", RUN, Unrelated, json!({"script": "hi", "target": nobody})),
        post("/api/jobs", SHELL, Unrelated, argv).variant("ad hoc"),
        post("/api/jobs", PUSH, Unrelated, pushed).variant("push of a file"),
        post("/api/jobs/preview", PREVIEW, Unrelated, json!({"script": "hi", "target": nobody})),
        get("/api/jobs/{id}", COMMANDS_READ, NotFound),
        act("/api/jobs/{id}/abort", CONTROL),
        act("/api/jobs/{id}/cancel", CONTROL),
        get("/api/jobs/{id}/executions", COMMANDS_READ, NotFound),
        act("/api/jobs/{id}/pause", CONTROL),
        act("/api/jobs/{id}/resume", CONTROL),
        post("/api/jobs/{id}/retry", RETRY, NotFound, json!({"executions": "all"})),
        get("/api/keys", API_KEYS_READ, Hidden),
        post("/api/keys", API_KEYS_WRITE, Unrelated, json!({"name": "new", "scopes": []})),
        get("/api/keys/{id}", API_KEYS_READ, NotFound),
        patch("/api/keys/{id}", API_KEYS_WRITE, json!({"name": "renamed"})),
        delete("/api/keys/{id}", API_KEYS_WRITE),
        delete("/api/keys/{id}/previous-secret", API_KEYS_WRITE),
        act("/api/keys/{id}/rotate", API_KEYS_WRITE),
        get("/api/releases", AGENTS_READ, Shared),
        post("/api/releases", RELEASES_MANAGE, Operators, json!({"manifest": "", "signature": ""})),
        post("/api/releases/key-changes", RELEASES_MANAGE, Operators, key_change),
        get("/api/releases/{version}", AGENTS_READ, Shared),
        act("/api/releases/{version}/publish", RELEASES_MANAGE).operators(),
        act("/api/releases/{version}/withdraw", RELEASES_MANAGE).operators(),
        Operation::new(
            "PUT",
            "/api/releases/{version}/{platform}/{program}",
            RELEASES_MANAGE,
            Operators,
        )
        .with(json!({})),
        get("/api/packages", SCRIPTS_READ, Hidden),
        post("/api/packages", SCRIPTS_WRITE, Unrelated, json!({})),
        get("/api/packages/{id}", SCRIPTS_READ, NotFound),
        get("/api/packages/{id}/archive", SCRIPTS_READ, NotFound),
        delete("/api/packages/{id}", SCRIPTS_WRITE),
        post("/api/packages/{id}/signatures", SCRIPTS_WRITE, NotFound, signature.clone()),
        get("/api/files", FILES_WRITE, Hidden),
        post("/api/files", FILES_WRITE, Unrelated, new_file),
        get("/api/files/{id}", FILES_WRITE, NotFound),
        Operation::new("PUT", "/api/files/{id}/content", FILES_WRITE, NotFound)
            .query("?offset_bytes=0")
            .with(json!({})),
        delete("/api/files/{id}", FILES_WRITE),
        get("/api/scripts", SCRIPTS_READ, Hidden),
        get("/api/scripts/starter", SCRIPTS_READ, Unrelated),
        post("/api/scripts", SCRIPTS_WRITE, Unrelated, new_script.clone()),
        get("/api/scripts/{id}", SCRIPTS_READ, NotFound),
        patch("/api/scripts/{id}", SCRIPTS_WRITE, json!({"folder": "moved"})),
        delete("/api/scripts/{id}", SCRIPTS_WRITE),
        get("/api/scripts/{id}/diff", SCRIPTS_READ, NotFound).query("?from=1&to=1"),
        get("/api/scripts/{id}/versions", SCRIPTS_READ, NotFound),
        post("/api/scripts/{id}/versions", SCRIPTS_WRITE, NotFound, new_version),
        get("/api/scripts/{id}/versions/{version}", SCRIPTS_READ, NotFound),
        post("/api/scripts/{id}/versions/{version}/signatures", SCRIPTS_WRITE, NotFound, signature),
        get("/api/schedules", SCHEDULES_READ, Hidden),
        post("/api/schedules", SCHEDULES_RUN, Unrelated, new_schedule),
        get("/api/schedules/{id}", SCHEDULES_READ, NotFound),
        patch("/api/schedules/{id}", SCHEDULES_RUN, json!({"name": "renamed"})),
        delete("/api/schedules/{id}", SCHEDULES_CONTROL),
        act("/api/schedules/{id}/disable", SCHEDULES_CONTROL),
        act("/api/schedules/{id}/enable", SCHEDULES_RUN),
        get("/api/schedules/{id}/fires", SCHEDULES_READ, NotFound),
        get("/api/schedules/{id}/preview", SCHEDULES_READ, NotFound),
        act("/api/schedules/{id}/run", SCHEDULES_RUN),
        get("/api/schedules/{id}/trigger-states", SCHEDULES_READ, NotFound),
        post("/api/schedules/preview", SCHEDULES_READ, Unrelated, json!({"rule": rule})),
        act("/api/schedules/{id}/snooze", SCHEDULES_CONTROL),
        post("/api/schedules/simulate", SCHEDULES_READ, Unrelated, json!({"for_ms": 1})),
        get("/api/alerts", INTEGRATIONS_READ, Hidden),
        get("/api/alerts/rules", INTEGRATIONS_READ, Hidden),
        post("/api/alerts/rules", INTEGRATIONS_WRITE, Unrelated, new_rule),
        get("/api/alerts/rules/{id}", INTEGRATIONS_READ, NotFound),
        patch("/api/alerts/rules/{id}", INTEGRATIONS_WRITE, json!({"name": "renamed"})),
        delete("/api/alerts/rules/{id}", INTEGRATIONS_WRITE),
        act("/api/alerts/rules/{id}/silence", INTEGRATIONS_WRITE),
        get("/api/calendars", SCHEDULES_READ, Hidden),
        post("/api/calendars", CALENDARS_WRITE, Unrelated, new_calendar),
        get("/api/calendars/{id}", SCHEDULES_READ, NotFound),
        patch("/api/calendars/{id}", CALENDARS_WRITE, json!({"name": "renamed"})),
        delete("/api/calendars/{id}", CALENDARS_WRITE),
        get("/api/hooks", SCHEDULES_READ, Hidden),
        post("/api/hooks", SCHEDULES_RUN, Unrelated, new_hook),
        get("/api/hooks/{id}", SCHEDULES_READ, NotFound),
        patch("/api/hooks/{id}", SCHEDULES_RUN, json!({"name": "renamed"})),
        delete("/api/hooks/{id}", SCHEDULES_CONTROL),
        get("/api/hooks/{id}/deliveries", SCHEDULES_READ, NotFound),
        act("/api/hooks/{id}/rotate", SCHEDULES_CONTROL),
        act("/api/hooks/{id}/test", SCHEDULES_RUN),
        post("/hooks/{id}", &[], Unrelated, json!({})).needing(Needs::Own("hook secret")),
        get("/api/storage", COMMANDS_READ, Hidden),
        post("/api/storage/purge", TENANT_MANAGE, Unrelated, json!({"older_than_ms": 86_400_000})),
        post("/api/storage/purge/preview", TENANT_MANAGE, Unrelated, json!({"older_than_ms": 0})),
        get("/api/tenant", AGENTS_READ, Hidden),
        patch("/api/tenant", TENANT_MANAGE, json!({})).unrelated(),
        delete("/api/tenant", TENANT_MANAGE).with(json!({"name": "another"})).unrelated(),
        get("/api/tenant/export", TENANT_MANAGE, Hidden),
        post("/api/tenant/restore", TENANT_MANAGE, Unrelated, json!({})),
        get("/api/tenants", TENANTS_MANAGE, Operators),
        post("/api/tenants", TENANTS_MANAGE, Operators, json!({"name": "new"})),
        get("/api/tenants/{id}", TENANTS_MANAGE, Operators),
        patch("/api/tenants/{id}", TENANTS_MANAGE, json!({})).operators(),
        delete("/api/tenants/{id}", TENANTS_MANAGE).with(json!({"name": "another"})).operators(),
        act("/api/tenants/{id}/restore", TENANTS_MANAGE).operators(),
        post("/api/targets/preview", AGENTS_READ, Hidden, json!({"expression": "all"})),
        get("/api/webhooks/deliveries", COMMANDS_READ, Hidden),
        get("/api/webhooks/deliveries/{id}", COMMANDS_READ, NotFound),
        act("/api/webhooks/deliveries/{id}/resend", RUN),
        post(
            "/api/webhooks/secret",
            WEBHOOKS_WRITE,
            Unrelated,
            json!({"url": "https://hooks.example/x"}),
        ),
        act("/api/webhooks/secret/rotate", WEBHOOKS_WRITE).unrelated(),
    ]
}

/// The code of no program.
fn user_code() -> Value {
    json!({"user_code": "BCDF-GHJK"})
}

impl Operation {
    fn operators(self) -> Self {
        Self { foreign: Foreign::Operators, ..self }
    }

    fn unrelated(self) -> Self {
        Self { foreign: Foreign::Unrelated, ..self }
    }
}
