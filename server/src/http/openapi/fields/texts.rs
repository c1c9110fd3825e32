//! Texts of requests: bounds and patterns from the constants that the server checks.

use muster_protocol::commands::capsule::MAX_CAPSULE_BYTES;
use muster_protocol::commands::stdin::MAX_STDIN_BYTES;
use muster_protocol::library::MAX_SIGNATURE_BYTES;
use muster_protocol::limits::{MAX_ARGV_BYTES, MAX_COMMAND_DATA_BYTES};
use muster_protocol::parameter::MAX_VALUE_BYTES;
use muster_protocol::release::MAX_DESCRIPTOR_BYTES;
use serde_json::{Value, json};

use super::super::shapes::{VERSION, or_null, reference};
use crate::domain::access::people::email::MAX_EMAIL_BYTES;
use crate::domain::access::people::passkey::MAX_PASSKEY_VALUE_BYTES;
use crate::domain::access::people::password::{MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS};
use crate::domain::commands::lock::MAX_LOCK_NAME_CHARS;
use crate::domain::integrations::integration::{MAX_TEMPLATE_BYTES, known_sites};
use crate::domain::name::MAX_NAME_CHARS;
use crate::domain::schedules::calendar::{
    MAX_CALENDAR_SCHEDULES, MAX_DATES, MAX_ENTRIES, MAX_NOTE_CHARS,
};
use crate::services::access::people::passkeys::MAX_PASSKEY_CHALLENGE_BYTES;
use crate::services::access::people::sign_in::challenge::MAX_CHALLENGE_BYTES;
use crate::services::commands::MAX_OVERRIDE_CHARS;
use crate::services::releases::MAX_SIGNATURE_BYTES as MAX_RELEASE_SIGNATURE_BYTES;

/// `local@domain`, both of parts with dots between them.
const EMAIL: &str = r"^(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$";
/// A code by mail, or of the device of a second factor.
const SIX_DIGITS: &str = "^[0-9]{6}$";
/// A code of the device, or a recovery code, with the spaces and hyphens that people type.
const SECOND_FACTOR: &str = r"^([\s-]*([0-9][\s-]*){6}|[\s-]*([A-Za-z2-7][\s-]*){16})$";
/// A user code as people type it.
const USER_CODE_PATTERN: &str = "^[ -]*([BCDFGHJKLMNPQRSTVWXZbcdfghjklmnpqrstvwxz][ -]*){8}$";
const REFRESH_TOKEN: &str = "^mst_refresh_[A-Za-z0-9_-]{108}$";
const DEVICE_CODE_PATTERN: &str = "^mst_device_[A-Za-z0-9_-]{32,128}$";
/// 32 bytes in base64.
const KEY: &str = "^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$";
/// The 64 bytes of a signature in base64.
const SIGNATURE: &str = "^[A-Za-z0-9+/]{85}[AQgw]==$";
/// Bytes as browsers write them.
const BASE64URL: &str = "^[A-Za-z0-9_-]*$";
const LOCK: &str = "^[A-Za-z0-9._-]+$";
const FINGERPRINT: &str = "^SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]$";
/// The form of the names of time zones. The server knows those of its database of zones.
const TIME_ZONE: &str = "^[A-Za-z][A-Za-z0-9_+/-]{0,63}$";
const TIME_OF_DAY: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";
/// No control characters.
const LINE: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";
/// A reason in one line, not blank.
const REASON_LINE: &str = r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f]+$";
/// A path of this server outside of its API.
const RETURN_PATH: &str =
    r"^/(?!api([/?]|$))([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?(\?[A-Za-z0-9_=&-]*)?$";
/// A word of an ad-hoc command.
const WORD: &str = r"^[^\x00]*$";
const PARAMETER_NAME: &str = "^[A-Za-z_][A-Za-z0-9_]{0,127}$";

/// A word of an ad-hoc command.
pub(in crate::http::openapi) fn word() -> Value {
    json!({"type": "string", "maxLength": MAX_ARGV_BYTES, "pattern": WORD})
}

/// A text in the data of a command, which other commands than `execute` may use for anything.
pub(in crate::http::openapi) fn command_text() -> Value {
    json!({"type": "string", "maxLength": MAX_COMMAND_DATA_BYTES})
}

/// An address of a person.
pub(super) fn email() -> Value {
    json!({"type": "string", "maxLength": MAX_EMAIL_BYTES, "pattern": EMAIL})
}

/// Schema, field, and what the field is.
pub(super) fn all() -> Vec<(&'static str, &'static str, Value)> {
    let of = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let maybe = |pattern: &str| json!({"type": ["string", "null"], "pattern": pattern});
    let most = |most: usize| json!({"type": "string", "minLength": 1, "maxLength": most});
    let name = || or_null(&reference("Name"));
    let password = json!({"type": "string", "maxLength": MAX_PASSWORD_BYTES});
    let new_password = json!({"type": "string", "minLength": MIN_PASSWORD_CHARS,
        "maxLength": MAX_PASSWORD_BYTES});
    let reason = json!({"type": ["string", "null"], "minLength": 1,
        "maxLength": MAX_OVERRIDE_CHARS, "pattern": REASON_LINE});
    let mut fields = Vec::new();
    for schema in [
        "CreateInvitation",
        "Register",
        "RequestEmailChange",
        "RequestPasswordReset",
        "SetUp",
        "SignInBody",
    ] {
        fields.push((schema, "email", email()));
    }
    for schema in ["Register", "ResetPassword", "SetUp"] {
        fields.push((schema, "password", new_password.clone()));
    }
    for schema in ["ChangeEmail", "ConfirmTotp", "VerifyRegistration"] {
        fields.push((schema, "code", of(SIX_DIGITS)));
    }
    for schema in ["CommandBody", "JobBody", "RunBody"] {
        fields.push((schema, "calendar_override", reason.clone()));
    }
    for schema in ["CreateCalendar", "UpdateCalendar"] {
        let entries = json!({"type": "array", "maxItems": MAX_ENTRIES,
            "items": reference("EntrySpec")});
        let entries = if schema == "CreateCalendar" { entries } else { or_null(&entries) };
        let schedules = json!({"type": ["array", "null"], "maxItems": MAX_CALENDAR_SCHEDULES,
            "items": reference("ScheduleId")});
        fields.extend([
            (schema, "time_zone", maybe(TIME_ZONE)),
            (schema, "entries", entries),
            (schema, "schedule_ids", schedules),
        ]);
    }
    for schema in ["JobBody", "ScheduledJob"] {
        let lock = json!({"type": ["string", "null"], "minLength": 1,
            "maxLength": MAX_LOCK_NAME_CHARS, "pattern": LOCK});
        fields.push((schema, "lock", lock));
    }
    let stdin = json!({"type": ["string", "null"], "format": "byte",
        "maxLength": MAX_STDIN_BYTES.div_ceil(3) * 4});
    fields.push(("JobBody", "stdin", stdin));
    for (schema, field) in [
        ("AddPasskey", "attestation_object"),
        ("AddPasskey", "client_data"),
        ("AddPasskey", "credential_id"),
        ("AssertionBody", "authenticator_data"),
        ("AssertionBody", "client_data"),
        ("AssertionBody", "credential_id"),
        ("AssertionBody", "signature"),
        ("AssertionBody", "user_handle"),
    ] {
        let value = json!({"type": "string", "maxLength": MAX_PASSKEY_VALUE_BYTES,
            "pattern": BASE64URL});
        fields.push((schema, field, value));
    }
    for schema in ["CreateGroup", "UpdateGroup"] {
        fields.push((schema, "desired_version", maybe(VERSION)));
    }
    for schema in ["CreateIntegration", "UpdateIntegration"] {
        let template = json!({"type": ["string", "null"], "maxLength": MAX_TEMPLATE_BYTES});
        fields.push((schema, "template", template));
    }
    let sites: Vec<Value> = known_sites().map(Value::from).chain([Value::Null]).collect();
    fields.extend([
        ("AcceptInvitation", "name", name()),
        ("AcceptInvitation", "password", password.clone()),
        ("AddPasskey", "challenge", most(MAX_PASSKEY_CHALLENGE_BYTES)),
        ("AdoptAgent", "fingerprint", of(FINGERPRINT)),
        ("AssertionBody", "challenge", most(MAX_PASSKEY_CHALLENGE_BYTES)),
        ("CapsuleBody", "document", most(MAX_CAPSULE_BYTES)),
        ("CapsuleBody", "signature", most(MAX_CAPSULE_BYTES)),
        ("ChangePassword", "current_password", password.clone()),
        ("ChangePassword", "new_password", new_password),
        ("CompleteSignIn", "challenge", most(MAX_CHALLENGE_BYTES)),
        ("CompleteSignIn", "code", of(SECOND_FACTOR)),
        ("ConfirmBody", "code", maybe(SIX_DIGITS)),
        (
            "ConfirmBody",
            "password",
            json!({"type": ["string", "null"],
            "maxLength": MAX_PASSWORD_BYTES}),
        ),
        ("DeleteTenant", "name", most(MAX_NAME_CHARS)),
        ("DraftBody", "manifest", most(MAX_DESCRIPTOR_BYTES)),
        ("DraftBody", "signature", most(MAX_RELEASE_SIGNATURE_BYTES)),
        ("FactorProof", "code", maybe(SECOND_FACTOR)),
        ("IntegrationSettings", "site", json!({"type": ["string", "null"], "enum": sites})),
        ("KeyChangeBody", "new", of(KEY)),
        ("KeyChangeBody", "old", of(KEY)),
        ("KeyChangeBody", "signature", of(SIGNATURE)),
        ("LinkIdentity", "code", maybe(SECOND_FACTOR)),
        ("LinkIdentity", "return_to", return_path(true)),
        ("RedeemDeviceLogin", "device_code", of(DEVICE_CODE_PATTERN)),
        ("RefreshBody", "refresh_token", maybe(REFRESH_TOKEN)),
        ("Register", "name", name()),
        ("Register", "tenant_name", name()),
        ("RuleSpec", "time_zone", maybe(TIME_ZONE)),
        (
            "ScriptParameterView",
            "default",
            json!({"type": ["string", "null"],
            "maxLength": MAX_VALUE_BYTES}),
        ),
        ("ScriptParameterView", "name", of(PARAMETER_NAME)),
        ("ScriptSignatureBody", "signature", most(MAX_SIGNATURE_BYTES)),
        ("ScriptSignatureBody", "statement", most(MAX_SIGNATURE_BYTES)),
        ("SetUp", "name", name()),
        ("SignInBody", "password", password),
        ("TotpProof", "code", maybe(SECOND_FACTOR)),
        (
            "UserCodeBody",
            "user_code",
            json!({"type": "string", "maxLength": 32,
            "pattern": USER_CODE_PATTERN}),
        ),
        (
            "WeeklySpan",
            "days",
            json!({"type": "array", "items": reference("Day"), "minItems": 1,
            "maxItems": 7}),
        ),
        ("WeeklySpan", "from", of(TIME_OF_DAY)),
        ("WeeklySpan", "until", of(TIME_OF_DAY)),
    ]);
    fields
}

/// Where a browser goes after single sign-on.
pub(in crate::http::openapi) fn return_path(is_nullable: bool) -> Value {
    let kind = if is_nullable { json!(["string", "null"]) } else { json!("string") };
    json!({"type": kind, "maxLength": 512, "pattern": RETURN_PATH})
}

/// The entry of a calendar: one schema for each of its three forms, because programs that generate
/// clients ignore a choice between required fields.
pub(in crate::http::openapi) fn calendar_entry() -> [(&'static str, Value); 4] {
    let timestamp = || reference("Timestamp");
    let dates = json!({"type": "array", "items": {"type": "string", "format": "date"},
        "minItems": 1, "maxItems": MAX_DATES,
        "description": "Whole days in the zone of the calendar, `YYYY-MM-DD`."});
    let form = |about: &str, fields: &[(&str, Value)]| {
        let mut properties = json!({
            "kind": reference("EntryKind"),
            "note": {"type": ["string", "null"], "maxLength": MAX_NOTE_CHARS, "pattern": LINE,
                "description": "Shown where work is refused."},
        });
        for other in ["starts_at", "ends_at", "dates", "weekly"] {
            properties[other] = json!({"type": "null"});
        }
        let mut required = vec!["kind"];
        for (name, schema) in fields {
            properties[*name] = schema.clone();
            required.push(*name);
        }
        json!({"type": "object", "description": about, "properties": properties,
            "required": required, "additionalProperties": false})
    };
    let forms = ["SpanEntry", "DatesEntry", "WeeklyEntry"].map(reference);
    let span = [("starts_at", timestamp()), ("ends_at", timestamp())];
    [
        ("SpanEntry", form("A span, without the instant at its end.", &span)),
        ("DatesEntry", form("Whole days.", &[("dates", dates)])),
        (
            "WeeklyEntry",
            form(
                "A span of local time on days of the week.",
                &[("weekly", reference("WeeklySpan"))],
            ),
        ),
        (
            "EntrySpec",
            json!({"description": "An entry of a calendar.", "oneOf":
                forms}),
        ),
    ]
}
