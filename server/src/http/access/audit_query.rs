//! The filter of an audit log in a query.

use uuid::Uuid;

use crate::domain::access::audit::{AuditFilter, AuditPosition};
use crate::domain::access::audit_actions::{is_audit_action, nearest_audit_action};
use crate::domain::access::principal::ActorKind;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::time::Timestamp;
use crate::http::problem::{ApiResult, Problem};

/// The largest number of a link that a request may name.
pub(in crate::http) const MAX_LINK: u64 = 999_999_999_999_999_999;
/// Longest name of an action or of a kind of subject.
const MAX_WORD_BYTES: usize = 64;

/// Reads a filter.
///
/// # Errors
/// A problem that names the parameter.
pub(super) fn filter(
    (actor_kind, actor_id): (Option<ActorKind>, Option<Uuid>),
    action: Option<String>,
    (subject_kind, subject_id): (Option<String>, Option<Uuid>),
    (after, before): (Option<&str>, Option<&str>),
) -> ApiResult<AuditFilter> {
    if let Some(unknown) = action.as_deref().filter(|text| !is_audit_action(text)) {
        let hint = match nearest_audit_action(unknown) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "such as `agent.update`; the API document lists them".to_owned(),
        };
        return Err(invalid("action", &format!("must be the name of an action ({hint})")));
    }
    if subject_kind.as_deref().is_some_and(|text| !is_word(text)) {
        return Err(invalid("subject_kind", "must be a kind of subject, such as `agent`"));
    }
    let after = instant("created_after", after)?;
    let before = instant("created_before", before)?;
    if after.zip(before).is_some_and(|(after, before)| after >= before) {
        let error =
            FieldError::with_limit("created_after", FieldErrorCode::Conflict, "created_before");
        let detail = "`created_after` must be before `created_before`";
        return Err(Problem::invalid_query(detail.into()).with_error(error));
    }
    Ok(AuditFilter { actor_kind, actor_id, action, subject_kind, subject_id, after, before })
}

/// Reads a position that a list, an export or a stream gave out.
///
/// # Errors
/// A problem that names the parameter.
pub(super) fn position(name: &str, text: Option<&str>) -> ApiResult<Option<AuditPosition>> {
    let parsed = text.map(|text| text.parse::<AuditPosition>().ok());
    match parsed {
        None => Ok(None),
        Some(Some(position)) if position.link <= MAX_LINK => Ok(Some(position)),
        Some(_) => Err(invalid(name, "is not one that the audit log gave out")),
    }
}

fn instant(name: &str, text: Option<&str>) -> ApiResult<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let problem = "must be an RFC 3339 instant such as 2026-01-31T12:00:00Z";
    Timestamp::parse(text).map(Some).ok_or_else(|| invalid(name, problem))
}

fn is_word(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(is_letter)
}

fn invalid(name: &str, problem: &str) -> Problem {
    let error = FieldError::invalid(name, problem);
    Problem::invalid_query(format!("`{name}` {problem}")).with_error(error)
}
