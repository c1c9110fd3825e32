//! Errors as RFC 9457 problem documents. The only file that knows HTTP status codes.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muster_protocol::CloseCode;
use serde::Serialize;

use crate::domain::access::allowance::Allowance;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::agent::AgentCandidate;
use crate::services::error::ServiceError;

/// A problem document: `application/problem+json`.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// Always `about:blank`; `code` identifies the problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable, for programs.
    code: &'static str,
    /// A sentence that says what to do.
    #[schema(value_type = String)]
    detail: Box<str>,
    /// With `invalid_target`, for an expression: the character, counted from 1, at which it goes
    /// wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u16>,
    /// The fields that do not fit, for programs that word their own message.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>)]
    errors: Box<[FieldError]>,
    /// With `ambiguous_agent`, for a name: the first 10 agents that it matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<AgentCandidate>, required = false)]
    candidates: Option<Box<CandidateList>>,
    /// The id of the request, as in the header `x-request-id`. Name it when you report the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    request_id: Option<Box<RequestIdText>>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    #[serde(skip)]
    allowance: Option<Box<Allowance>>,
}

/// A list that takes little space in the many problems without one.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct CandidateList(Vec<AgentCandidate>);

/// A text that takes little space in a problem.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
struct RequestIdText(String);

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Problem");
        let detail = detail.into().into_boxed_str();
        Self {
            kind: "about:blank",
            title,
            status: status.as_u16(),
            code,
            detail,
            column: None,
            errors: Box::default(),
            candidates: None,
            request_id: None,
            retry_after_s: None,
            allowance: None,
        }
    }

    /// With the id of its request.
    pub(super) fn with_request_id(mut self, id: &str) -> Self {
        self.request_id = Some(Box::new(RequestIdText(id.to_owned())));
        self
    }

    /// A browser sent its cookie for a page of another site.
    pub fn cross_origin() -> Self {
        let detail = "a request with a cookie that changes something must come from a page of this server; if this one did, check the setting `public_url`";
        Self::new(StatusCode::FORBIDDEN, "cross_origin", detail)
    }

    /// No credential, or one that can't be read.
    pub fn unauthenticated(detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "missing_api_key", detail)
    }

    /// The request names a host that can't be one.
    pub fn unknown_host() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unknown_host",
            "the request's Host names no host; ask by the server's name",
        )
    }

    /// The request has no `Host`, or more than one.
    pub fn missing_host() -> Self {
        let detail = "send exactly one Host header, as HTTP/1.1 requires";
        Self::new(StatusCode::BAD_REQUEST, "missing_host", detail)
    }

    /// The server stops before the request has a result.
    pub fn stopping() -> Self {
        let detail = "the server is stopping; try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_stopping", detail);
        Self { retry_after_s: Some(5), ..problem }
    }

    /// The body is not JSON.
    pub fn malformed(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", detail)
    }

    /// The body is JSON, but a field does not fit.
    pub fn invalid_body(detail: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail)
    }

    /// Names the field that does not fit.
    pub fn with_error(mut self, error: FieldError) -> Self {
        self.errors = [self.errors.into_vec(), vec![error]].concat().into();
        self
    }

    /// A query parameter does not fit.
    pub fn invalid_query(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
    }

    /// The body is larger than the bytes that this endpoint takes at the most.
    pub fn too_large(most_bytes: usize) -> Self {
        let detail = format!("the body is larger than the {most_bytes} bytes that are taken here");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }

    /// The body is of another kind than this endpoint takes.
    pub fn media_type(expected: &str) -> Self {
        let detail = format!("send the body as `{expected}`");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// Nothing is here.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// Something is here, but not for this method.
    pub fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; see /docs";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// The start of a range is behind the end of what there is.
    pub fn range_not_satisfiable(length_bytes: u64) -> Self {
        let detail = format!("the output has {length_bytes} bytes so far");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail)
    }

    /// The session of a posted exchange is not known, or its sequence is out of order.
    pub fn unknown_session() -> Self {
        let detail = "this session is not open here; open a new one with sequence 0";
        Self::new(StatusCode::CONFLICT, "unknown_session", detail)
    }

    /// A report of a command that is not open for the agent.
    pub fn unknown_command() -> Self {
        let detail = "no such command is open for this agent; it has ended, or was never its own";
        Self::new(StatusCode::NOT_FOUND, "unknown_command", detail)
    }

    /// A key whose requests can't be told apart by agent.
    pub fn ambiguous_agent() -> Self {
        let detail =
            "keys with several agents can't use this endpoint; use a key with max_agents 1";
        Self::new(StatusCode::CONFLICT, "ambiguous_agent", detail)
    }

    /// Too much of something is under way here.
    pub fn busy(detail: &'static str) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_busy", detail);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// The agents of a key, of a tenant, or of all keys, send more than the server takes at once.
    pub fn too_many_bytes() -> Self {
        Self::busy("the sessions of this agent key hold too many bytes; try again later")
    }

    /// The bodies of an API key, of a tenant, or of all, take more memory than they may.
    pub fn too_many_body_bytes() -> Self {
        Self::busy("the requests of this API key hold too many bytes; try again later")
    }

    /// Storage does not answer.
    pub fn storage() -> Self {
        let detail = "the database can't be used now; try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", detail);
        Self { retry_after_s: Some(5), ..problem }
    }

    /// The source of a request presents too many unknown agent keys.
    pub fn too_many_unknown_keys() -> Self {
        let detail = "too many unknown keys were sent from this address; try again later";
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_unknown_keys", detail);
        Self { retry_after_s: Some(5), ..problem }
    }

    /// What a WebSocket would have been closed with.
    pub fn of_close(close: CloseCode) -> Self {
        let (status, detail) = match close {
            CloseCode::KeyMissing => {
                (StatusCode::UNAUTHORIZED, "send the agent key as `Authorization: Bearer`")
            }
            CloseCode::KeyDeleted => (
                StatusCode::UNAUTHORIZED,
                "the agent key was deleted; install the agent with a new key",
            ),
            CloseCode::KeyRegenerated => (
                StatusCode::UNAUTHORIZED,
                "the agent key was replaced; install the agent with the new one",
            ),
            CloseCode::KeyUnknown => (
                StatusCode::UNAUTHORIZED,
                "the agent key is not known here; check key and server address",
            ),
            CloseCode::KeyDisabled => {
                (StatusCode::FORBIDDEN, "the agent key is disabled; enable it to let its agents in")
            }
            CloseCode::KeyExpired => {
                (StatusCode::FORBIDDEN, "the agent key has expired; extend it to let its agents in")
            }
            CloseCode::TenantClosed => (
                StatusCode::FORBIDDEN,
                "the tenant of the agent key is being deleted; until then its owner can restore it",
            ),
            CloseCode::AgentLimit => (
                StatusCode::CONFLICT,
                "the agent key has as many agents as it may; raise max_agents or delete an agent",
            ),
            CloseCode::PlanLimit => (
                StatusCode::CONFLICT,
                "the plan of the tenant allows no more agents; delete an agent, or ask the operator of the server for a larger plan",
            ),
            CloseCode::SessionReplaced => {
                (StatusCode::CONFLICT, "a newer session of this agent has taken over")
            }
            CloseCode::IdentityConflict => {
                (StatusCode::CONFLICT, "two hosts present one identity; reinstall one of them")
            }
            CloseCode::CertificateMissing => (
                StatusCode::FORBIDDEN,
                "this server requires a certificate of the agent, and received none that is valid; a proxy between them must not end TLS",
            ),
            CloseCode::CertificateMismatch => {
                (StatusCode::FORBIDDEN, "the connection shows the certificate of another key pair")
            }
            CloseCode::CertificateRevoked => (
                StatusCode::FORBIDDEN,
                "the certificate of this key pair was revoked; delete the agent and install it again",
            ),
            CloseCode::Deregistered => {
                (StatusCode::GONE, "the agent has asked to be deleted, and is")
            }
            CloseCode::FrameTooBig => {
                (StatusCode::PAYLOAD_TOO_LARGE, "a frame is larger than 1 MiB")
            }
            CloseCode::PolicyViolation => {
                (StatusCode::BAD_REQUEST, "the frames break the protocol")
            }
            CloseCode::HeartbeatsMissed => {
                (StatusCode::CONFLICT, "the agent was silent for too long; open a new session")
            }
            CloseCode::GoingAway | CloseCode::TryAgainLater => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server can't take the session now; try again",
            ),
        };
        let problem = Self::new(status, close.reason(), detail);
        let retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(5);
        Self { retry_after_s, ..problem }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let detail = error.to_string();
        match error {
            ServiceError::Unauthenticated { code, .. } => {
                Self::new(StatusCode::UNAUTHORIZED, code, detail)
            }
            ServiceError::Forbidden { code, .. } => Self::new(StatusCode::FORBIDDEN, code, detail),
            ServiceError::NotFound(what) => Self::not_found(what),
            ServiceError::Conflict { code, .. } => Self::new(StatusCode::CONFLICT, code, detail),
            ServiceError::PlanLimit(reached) => {
                let field = reached.resource.to_string();
                let error = FieldError::with_limit(field, FieldErrorCode::TooMany, reached.limit);
                Self::new(StatusCode::CONFLICT, "plan_limit", detail).with_error(error)
            }
            ServiceError::StorageQuota(reached) => {
                let (field, code) = ("storage_bytes", FieldErrorCode::TooLarge);
                let error = FieldError::with_limit(field, code, reached.limit_bytes);
                Self::new(StatusCode::CONFLICT, "storage_quota_reached", detail).with_error(error)
            }
            ServiceError::AmbiguousAgent { candidates, .. } => {
                let problem = Self::new(StatusCode::CONFLICT, "ambiguous_agent", detail);
                Self { candidates: Some(Box::new(CandidateList(candidates))), ..problem }
            }
            ServiceError::Invalid { code, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
            }
            ServiceError::InvalidField { error, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", detail)
                    .with_error(error)
            }
            ServiceError::Unconfirmed { error, .. } => {
                Self::new(StatusCode::CONFLICT, "agent_count_unconfirmed", detail).with_error(error)
            }
            ServiceError::InvalidTarget(source) => {
                let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_target", detail);
                Self {
                    column: source.column().and_then(|column| column.try_into().ok()),
                    ..problem
                }
                .with_error(source.field_error())
            }
            ServiceError::Gone { code, .. } => Self::new(StatusCode::GONE, code, detail),
            ServiceError::Timeout { code, .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, code, detail)
            }
            ServiceError::Busy { code, .. } => {
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
                Self { retry_after_s: Some(1), ..problem }
            }
            ServiceError::TooMany { code, .. } => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
                Self { retry_after_s: Some(5), ..problem }
            }
            ServiceError::RateLimited { code, allowance, .. } => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
                let retry_after_s = Some(u32::try_from(allowance.wait_s).unwrap_or(u32::MAX));
                Self { retry_after_s, allowance: Some(Box::new(allowance)), ..problem }
            }
            ServiceError::Unready => Self::storage(),
            ServiceError::Store(source) => {
                tracing::error!(error = %muster_protocol::error_chain(&source), "failed to answer a request");
                Self::storage()
            }
            // Nothing else keeps a secret from being sealed.
            ServiceError::Randomness(_) | ServiceError::Sealing(_) => {
                tracing::error!("failed to draw random numbers");
                Self::busy("the server has no random numbers now; try again")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allowance) = self.allowance.as_deref() {
            rate_limit_headers(headers, *allowance);
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For the id of the request, which is not known here.
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Shows what is left of a limit on attempts.
pub fn rate_limit_headers(headers: &mut HeaderMap, allowance: Allowance) {
    headers.insert("ratelimit-limit", HeaderValue::from(allowance.limit));
    headers.insert("ratelimit-remaining", HeaderValue::from(allowance.remaining));
    headers.insert("ratelimit-reset", HeaderValue::from(allowance.wait_s));
}

/// What a handler returns.
pub type ApiResult<T> = Result<T, Problem>;
