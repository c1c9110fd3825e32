//! Why a use case was not carried out, in words for whoever asked.

use std::ops::RangeInclusive;

use crate::domain::access::credential::NoRandomness;
use crate::domain::access::principal::Scope;
use crate::domain::field_error::{FieldError, FieldErrorCode};
use crate::domain::fleet::target::TargetError;
use crate::domain::secret_box::Unsealable;
use crate::store::StoreError;

/// A refusal or a failure. `code` is stable and for programs; `detail` is a sentence that says
/// what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The caller's credential does not hold.
    #[error("{detail}")]
    Unauthenticated { code: &'static str, detail: &'static str },
    /// The caller, or the agent's key, is not allowed to.
    #[error("{detail}")]
    Forbidden { code: &'static str, detail: String },
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// The state of things is against it.
    #[error("{detail}")]
    Conflict { code: &'static str, detail: String },
    /// The request makes no sense.
    #[error("{detail}")]
    Invalid { code: &'static str, detail: String },
    /// A field of the request does not fit.
    #[error("{detail}")]
    InvalidField { detail: String, error: FieldError },
    #[error(transparent)]
    InvalidTarget(#[from] TargetError),
    /// It was here and is no more, for good.
    #[error("{detail}")]
    Gone { code: &'static str, detail: &'static str },
    /// An agent did not answer in time.
    #[error("{detail}")]
    Timeout { code: &'static str, detail: String },
    /// A bound is reached; later it may not be.
    #[error("{detail}")]
    Busy { code: &'static str, detail: &'static str },
    /// The caller has as much of something under way as it may; later it may not.
    #[error("{detail}")]
    TooMany { code: &'static str, detail: &'static str },
    /// Storage failed. The cause is logged, never told.
    #[error("the database can't be used now; try again")]
    Store(#[from] StoreError),
    #[error("the system's source of random numbers failed")]
    Randomness(#[from] NoRandomness),
    #[error("failed to {0}")]
    Sealing(#[from] Unsealable),
}

impl ServiceError {
    /// The scope a principal lacks.
    pub fn missing_scope(scope: Scope) -> Self {
        Self::Forbidden {
            code: "missing_scope",
            detail: format!("this API key lacks the scope `{scope}`; use one that has it"),
        }
    }

    /// A field that does not fit.
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

    fn field(error: FieldError, problem: &str) -> Self {
        Self::InvalidField { detail: format!("`{}` {problem}", error.field), error }
    }
}

/// Short for every use case.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// An error and its causes, in one line for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}
