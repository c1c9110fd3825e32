//! Why a schedule is refused.

use crate::domain::field_error::{FieldError, FieldErrorCode, FieldLimit};

/// A field of a schedule is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {problem}", error.field)]
pub struct RuleError {
    pub error: FieldError,
    pub problem: String,
}

impl RuleError {
    pub(super) fn new(field: &str, code: FieldErrorCode, problem: impl Into<String>) -> Self {
        Self { error: FieldError::new(field, code), problem: problem.into() }
    }

    pub(super) fn with_limit(mut self, limit: impl Into<FieldLimit>) -> Self {
        self.error.limit = Some(limit.into());
        self
    }
}
