//! Turns refusals of the API into messages that name options of the command line.
//!
//! The server names fields, but users type options. Each command lists its fields with their options, and
//! this module builds messages from a problem's `code` and `errors`. Where it has no message of its own, it
//! shows the server's `detail` unchanged. Pure.

use serde_json::Value;

use crate::error::CliError;
use crate::error::problem::{FieldError, Problem};
use crate::input::quantities::format_milliseconds;

/// A field of the API, and the option or argument that sets it.
#[derive(Debug, Clone, Copy)]
pub struct OptionName {
    /// The JSON path in a body, or the name of a query parameter.
    pub field: &'static str,
    /// As users type it; two that set the same field are joined by ` or `.
    pub option: &'static str,
    /// What a valid value is.
    format: Option<&'static str>,
}

/// The options of one command.
pub type OptionNames = &'static [OptionName];

/// Names the option that sets `field`.
pub const fn option(field: &'static str, option: &'static str) -> OptionName {
    OptionName { field, option, format: None }
}

impl OptionName {
    /// States what a valid value is: `an id`.
    pub const fn expects(self, format: &'static str) -> Self {
        Self { format: Some(format), ..self }
    }
}

/// Codes of the preflight: hosts would refuse the script or command. Their detail names the hosts.
const PREFLIGHT_CODES: [&str; 10] = [
    "unknown_script",
    "invalid_parameters",
    "argv_not_allowed",
    "library_not_allowed",
    "library_unsupported",
    "packages_unsupported",
    "files_unsupported",
    "steps_unsupported",
    "stdin_not_allowed",
    "hosts_would_refuse",
];

/// Codes of refusals that are shown with the server's own `detail`, because it reads well at a terminal:
/// it names the reason and what to do, without fields or paths of the API. A test compares this list with
/// the server's codes.
#[cfg(test)]
const SHOWN_AS_ANSWERED: [&str; 216] = [
    "access_denied",
    "account_changed",
    "agent_busy",
    "agent_count_unconfirmed",
    "agent_offline",
    "agent_online",
    "agent_timeout",
    "agents_offline",
    "agents_unconfirmed",
    "alert_rule_changed",
    "alert_rule_exists",
    "all_agents_skipped",
    "already_adopted",
    "already_member",
    "ambiguous_successor",
    "api_key_changed",
    "approval_ended",
    "approval_needed",
    "approval_outdated",
    "assignment_changed",
    "assignment_exists",
    "authorization_pending",
    "basic_agent",
    "body_too_large",
    "calendar_changed",
    "calendar_exists",
    "cancel_unsupported",
    "certificate_exists",
    "certificate_key_taken",
    "certificate_mismatch",
    "certificate_missing",
    "certificate_required",
    "certificate_revoked",
    "code_required",
    "command_running",
    "cross_origin",
    "data_dir_not_writable",
    "deleted_by_operator",
    "expired_access_token",
    "expired_api_key",
    "expired_token",
    "fan_out_exceeded",
    "file_complete",
    "files_full",
    "files_unusable",
    "fire_overlaps",
    "first_tenant",
    "forbidden_by_policy",
    "frozen",
    "group_changed",
    "group_exists",
    "hash_mismatch",
    "hook_changed",
    "hook_disabled",
    "hook_exists",
    "hook_not_authenticated",
    "hook_owner_invalid",
    "idempotency_key_reused",
    "identity_not_linked",
    "identity_taken",
    "incomplete_release",
    "integration_changed",
    "integration_disabled",
    "integration_exists",
    "integration_unreadable",
    "invalid_access_token",
    "invalid_api_key",
    "invalid_argv",
    "invalid_body",
    "invalid_bootstrap_key",
    "invalid_challenge",
    "invalid_code",
    "invalid_delivery",
    "invalid_field",
    "invalid_invitation",
    "invalid_key_change",
    "invalid_package",
    "invalid_passkey",
    "invalid_query",
    "invalid_refresh_token",
    "invalid_release",
    "invalid_reset_token",
    "invalid_setup_token",
    "invalid_state",
    "invalid_target",
    "invalid_webhook",
    "job_running",
    "key_changed",
    "key_has_limits",
    "key_not_held",
    "last_owner",
    "last_publisher",
    "last_way_in",
    "library_full",
    "limit_not_held",
    "mail_not_configured",
    "maker_not_permitted",
    "malformed_json",
    "member_removed",
    "method_not_allowed",
    "missing_api_key",
    "missing_host",
    "missing_scope",
    "no_certificates",
    "no_former_version",
    "no_receivers",
    "no_release",
    "no_rollout",
    "no_rollout",
    "no_space",
    "not_found",
    "not_invited",
    "nothing_to_retry",
    "output_damaged",
    "output_dropped",
    "output_removed",
    "outside_key_target",
    "outside_window",
    "own_request",
    "package_assigned",
    "package_exists",
    "packages_full",
    "packages_unusable",
    "passkey_taken",
    "password_not_hashed",
    "password_required",
    "permission_denied",
    "plan_limit",
    "previous_secret",
    "program_unreadable",
    "provider_denied",
    "provider_refused",
    "provider_unavailable",
    "public_url_required",
    "range_not_satisfiable",
    "refused_by_ladder",
    "registration_closed",
    "release_changed",
    "release_published",
    "releases_unusable",
    "role_not_held",
    "rollout_under_way",
    "rollover_state",
    "schedule_changed",
    "schedule_ended",
    "schedule_exists",
    "scope_not_held",
    "script_changed",
    "script_exists",
    "script_in_use",
    "script_not_in_key",
    "second_factor_missing",
    "secret_of_another",
    "secrets_gone",
    "secrets_unreadable",
    "secrets_unsupported",
    "server_busy",
    "server_stopping",
    "session_ended",
    "session_required",
    "setup_closed",
    "slow_down",
    "storage_quota_reached",
    "storage_unavailable",
    "successor_changed",
    "tags_are_guarded",
    "tenant_closed",
    "too_many_alert_rules",
    "too_many_assignments",
    "too_many_attempts",
    "too_many_calendars",
    "too_many_certificates",
    "too_many_deliveries",
    "too_many_device_logins",
    "too_many_drafts",
    "too_many_exports",
    "too_many_files",
    "too_many_hooks",
    "too_many_identities",
    "too_many_integrations",
    "too_many_invitations",
    "too_many_mails",
    "too_many_packages",
    "too_many_passkeys",
    "too_many_registrations",
    "too_many_requests",
    "too_many_rules",
    "too_many_schedules",
    "too_many_scripts",
    "too_many_sign_ins",
    "too_many_signatures",
    "too_many_streams",
    "too_many_unknown_keys",
    "too_many_uploads",
    "too_many_versions",
    "totp_enabled",
    "unknown_file",
    "unknown_host",
    "unknown_library_script",
    "unknown_package",
    "unknown_version",
    "unsupported_command",
    "unsupported_media_type",
    "untrusted_release_key",
    "upload_in_progress",
    "wave_not_started",
    "webhook_key_unreadable",
    "wrong_code",
    "wrong_offset",
    "wrong_passkey",
    "wrong_password",
    "wrong_second_factor",
    "wrong_sign_in",
    "wrong_size",
    "wrong_state",
    "wrong_sum",
];

/// Returns the error with a message that names `options` instead of fields. Errors that are not refusals
/// are returned unchanged, and so is every error if `options` is empty.
pub fn explain(error: CliError, options: OptionNames) -> CliError {
    match error {
        CliError::Refused(problem) if !options.is_empty() => {
            let message = message(&problem, options);
            CliError::Refused(Box::new(Problem { message, ..*problem }))
        }
        error => error,
    }
}

fn message(problem: &Problem, options: OptionNames) -> String {
    if let Some(sentence) = sentence(&problem.code) {
        return sentence.to_owned();
    }
    if problem.code == "agent_count_unconfirmed"
        && let Some(error) = problem.errors.first()
        && let (Some(name), Some(count)) = (find(&error.field, options), error.limit.as_u64())
    {
        let option = name.option;
        return format!(
            "this reaches {count} agents; check the target, and repeat the command with {option} {count}"
        );
    }
    if let [error] = problem.errors.as_slice()
        && let (Some(reason), Some(name)) = (&error.reason, find(&error.field, options))
    {
        return format!("{} {reason}", name.option);
    }
    let is_preflight = PREFLIGHT_CODES.contains(&problem.code.as_str());
    let phrases: Option<Vec<_>> =
        problem.errors.iter().map(|error| phrase(error, options)).collect();
    if let Some(phrases) = phrases.filter(|phrases| !phrases.is_empty() && !is_preflight) {
        return phrases.join("; ");
    }
    let mut message = problem.message.clone();
    let mut named: Vec<_> =
        problem.errors.iter().filter_map(|error| find(&error.field, options)).collect();
    named.dedup_by_key(|name| name.option);
    if !named.is_empty() {
        let named: Vec<_> = named.iter().map(|name| name.option).collect();
        message.push_str(&format!(" [{}]", named.join(", ")));
    }
    if is_preflight && find("on_mismatch", options).is_some() {
        message.push_str("\nUse --on-mismatch send to send it anyway and let each host decide, or --on-mismatch skip to \
             leave these hosts out.");
    }
    message
}

/// The whole message for a code that needs no further data.
fn sentence(code: &str) -> Option<&'static str> {
    Some(match code {
        "no_agents" => {
            "no agent matches the target; `muster agents list` shows all agents and their tags"
        }
        "secrets_need_ids_or_tags" => {
            "secrets can't go to agents chosen by what hosts report; use --tag, an agent id, or a name \
             that a person gave with `muster agents rename`"
        }
        "secrets_not_given_again" => {
            "this schedule has secret parameters: with another job give them again with --secret, or remove them with \
             --secret none"
        }
        "confirmation_required" => {
            "this needs your password again; run `muster confirm`, or `muster confirm --code` with a code of your second \
             factor, then repeat the command"
        }
        "second_factor_required" => {
            "this tenant requires a second factor; run `muster account totp enable`, then `muster account totp confirm` with \
             the first code, and repeat the command"
        }
        "ambiguous_agent" => "the name matches more than one agent; use an id from `muster agents`",
        _ => return None,
    })
}

/// The problem with one option; `None` if only the server's detail describes it.
fn phrase(error: &FieldError, options: OptionNames) -> Option<String> {
    let name = find(&error.field, options)?;
    let option = name.option;
    let limit = || limit(name, &error.limit);
    Some(match error.code.as_str() {
        "required" => format!("{option} is required"),
        "too_small" => format!("{option} must be at least {}", limit()?),
        "too_large" => format!("{option} must be at most {}", limit()?),
        "too_many" => format!("{option} has too many values; the limit is {}", limit()?),
        "unknown_field" => format!("the server does not support {option}; update the server"),
        "unknown_value" if error.limit.is_string() => {
            format!("{option} must be one of: {}", limit()?)
        }
        "invalid" | "unknown_value" => format!("{option} must be {}", name.format?),
        "conflict" => {
            let other = find(error.limit.as_str()?, options)?;
            format!("{option} conflicts with {}", other.option)
        }
        _ => return None,
    })
}

/// A bound as users type it: times with their unit.
fn limit(name: OptionName, limit: &Value) -> Option<String> {
    match limit {
        Value::Number(number) => {
            let is_time = name.field.ends_with("_ms");
            let milliseconds = number.as_u64().filter(|_| is_time);
            Some(milliseconds.map_or_else(|| number.to_string(), format_milliseconds))
        }
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// The option that sets a field. A command has its fields below `data`; an item of a list or an object
/// belongs to the option that sets the whole.
fn find(field: &str, options: OptionNames) -> Option<OptionName> {
    let mut path = field.strip_prefix("data.").unwrap_or(field);
    loop {
        if let Some(name) = options.iter().find(|name| name.field == path) {
            return Some(*name);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}

#[cfg(test)]
mod tests;
