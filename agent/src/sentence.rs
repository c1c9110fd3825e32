//! Errors as people are told them.

use std::error::Error;

/// An error with all that lies behind it, in one line.
pub fn of(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", of(source)),
        None => error.to_string(),
    }
}
