//! Errors of use cases, with messages for callers.

use std::ops::RangeInclusive;

use crate::domain::access::allowance::Allowance;
use crate::domain::access::credential::NoRandomness;
use crate::domain::access::principal::{ActorKind, Principal, Scope};
use crate::domain::access::tenants::plan::PlanLimitReached;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::agent::AgentCandidate;
use crate::domain::fleet::target::TargetError;
use crate::domain::operations::storage::quota::StorageQuotaReached;
use crate::domain::secret_box::Unsealable;
use crate::store::StoreError;

/// A refusal or a failure. `code` is stable, for programs. `detail` is a sentence that explains to
/// the caller what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The caller's credential is invalid.
    #[error("{detail}")]
    Unauthenticated { code: &'static str, detail: &'static str },
    /// The caller or the agent key lacks the permission.
    #[error("{detail}")]
    Forbidden { code: &'static str, detail: String },
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The current state does not allow it.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    /// The plan of the tenant allows no more of it.
    #[error(transparent)]
    PlanLimit(#[from] PlanLimitReached),
    /// History and output of the tenant take as much as its quota allows.
    #[error(transparent)]
    StorageQuota(#[from] StorageQuotaReached),
    /// A name matches several agents.
    #[error("{detail}")]
    AmbiguousAgent { detail: String, candidates: Vec<AgentCandidate> },
    /// The request is invalid.
    #[error("{detail}")]
    Invalid { code: &'static str, detail: String },
    /// A field of the request is invalid.
    #[error("{detail}")]
    InvalidField { detail: String, error: FieldError },
    /// The request must repeat the number of its agents.
    #[error("{detail}")]
    Unconfirmed { detail: String, error: FieldError },
    #[error(transparent)]
    InvalidTarget(#[from] TargetError),
    /// It was deleted permanently.
    #[error("{detail}")]
    Gone { code: &'static str, detail: &'static str },
    /// An agent did not answer in time.
    #[error("{detail}")]
    Timeout { code: &'static str, detail: String },
    /// The server is at a limit. A later attempt may succeed.
    #[error("{detail}")]
    Busy { code: &'static str, detail: &'static str },
    /// The caller is at its own limit. A later attempt may succeed.
    #[error("{detail}")]
    TooMany { code: &'static str, detail: &'static str },
    /// Too many attempts of one kind in a time.
    #[error("{detail}")]
    RateLimited { code: &'static str, detail: &'static str, allowance: Allowance },
    /// The database cannot be read and written now. The cause was logged.
    #[error("the database can't be used now; try again")]
    Unready,
    /// Storage failed. The cause is logged and never sent to the caller.
    #[error("the database can't be used now; try again")]
    Store(#[source] StoreError),
    #[error("the system's source of random numbers failed")]
    Randomness(#[from] NoRandomness),
    #[error(transparent)]
    Sealing(#[from] Unsealable),
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            // It was valid when the request began.
            StoreError::KeyInvalid => Self::Unauthenticated {
                code: "invalid_api_key",
                detail: "the API key was revoked or has expired; ask an owner for a new one",
            },
            StoreError::SessionEnded => Self::Unauthenticated {
                code: "session_ended",
                detail: "the session has ended; sign in again",
            },
            StoreError::PreviousSecret => Self::Forbidden {
                code: "previous_secret",
                detail: "this API key was rotated, and its previous secret can't manage API keys; use the new one".into(),
            },
            StoreError::TargetChanged(of) => Self::Forbidden {
                code: "tags_are_guarded",
                detail: format!(
                    "with these tags the agent would enter or leave the target of {of}, which needs the scope `{}`; ask an owner",
                    Scope::ApprovalsManage
                ),
            },
            StoreError::TooManyMails => Self::Busy {
                code: "too_many_mails",
                detail: "too many mails wait to be sent; try again later",
            },
            error => Self::Store(error),
        }
    }
}

impl ServiceError {
    /// The principal lacks this scope.
    pub fn missing_scope(principal: &Principal, scope: Scope) -> Self {
        if principal.lacks_second_factor {
            return Self::second_factor_required();
        }
        let (name, role) = (&principal.name, principal.role.as_str());
        let detail = match principal.actor_kind() {
            _ if scope.is_operators() => {
                "only the server's operator may do this: use the first API key (`bootstrap_key`)"
                    .to_owned()
            }
            ActorKind::ApiKey => {
                format!("the API key `{name}` lacks the scope `{scope}`; use one that has it")
            }
            _ => {
                let roles: Vec<_> =
                    scope.roles().map(|role| format!("{}s", role.as_str())).collect();
                format!("{name} ({role}) lacks `{scope}`, which {} have", roles.join(" and "))
            }
        };
        Self::Forbidden { code: "missing_scope", detail }
    }

    /// The tenant requires a second factor that the person does not have.
    pub fn second_factor_required() -> Self {
        Self::Forbidden {
            code: "second_factor_required",
            detail: "this tenant requires a second factor; enable yours, and everything else works again"
                .into(),
        }
    }

    /// The field is invalid.
    pub fn invalid_field(field: &str, problem: &str) -> Self {
        Self::field(FieldError::new(field, FieldErrorCode::Invalid), problem)
    }

    /// A number outside of its bounds.
    pub fn out_of_range(field: &str, value: u64, bounds: RangeInclusive<u64>) -> Self {
        let (least, most) = (*bounds.start(), *bounds.end());
        let (code, limit) = if value < least {
            (FieldErrorCode::TooSmall, least)
        } else {
            (FieldErrorCode::TooLarge, most)
        };
        let problem = format!("must be {least} to {most}");
        Self::field(FieldError::with_limit(field, code, limit), &problem)
    }

    /// A field that is missing.
    pub fn required(field: &str) -> Self {
        Self::field(FieldError::new(field, FieldErrorCode::Required), "is required")
    }

    /// A field that contradicts another one.
    pub fn conflicting(field: &str, other: &str, problem: &str) -> Self {
        Self::field(FieldError::with_limit(field, FieldErrorCode::Conflict, other), problem)
    }

    /// An error of a field, with its problem.
    pub fn field(mut error: FieldError, problem: &str) -> Self {
        if error.code == FieldErrorCode::Invalid {
            error.reason = Some(problem.into());
        }
        Self::InvalidField { detail: format!("`{}` {problem}", error.field), error }
    }

    /// The same error for a request that has the field elsewhere: its path without `old`, behind `new`.
    pub fn moved(self, old: &str, new: &str) -> Self {
        match self {
            Self::InvalidField { detail, mut error } => {
                let field =
                    format!("{new}{}", error.field.strip_prefix(old).unwrap_or(&error.field));
                let detail =
                    detail.replacen(&format!("`{}`", error.field), &format!("`{field}`"), 1);
                error.field = field;
                Self::InvalidField { detail, error }
            }
            error => error,
        }
    }
}

/// The result of every use case.
pub type Result<T> = std::result::Result<T, ServiceError>;
