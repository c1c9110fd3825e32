//! A number of agents, or a percentage of them.

use serde_json::Value;

use crate::domain::field_error::{FieldError, FieldErrorCode};

/// Most agents in a wave, and the highest failure limit.
pub const MAX_AMOUNT: u64 = 10_000;

/// A number, or a percentage of all agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Count(u64),
    /// At most 100.
    Percent(u64),
}

/// The value is not a valid amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a number from {least} to {MAX_AMOUNT}, or a percentage from \"{least}%\" to \"100%\""
)]
pub struct AmountError {
    least: u64,
    /// The bound that the value violates; `None` if it has another shape.
    bound: Option<(FieldErrorCode, u64)>,
}

impl AmountError {
    /// The error of the field that has the value.
    pub fn of(self, field: &str) -> FieldError {
        match self.bound {
            Some((code, limit)) => FieldError::with_limit(field, code, limit),
            None => FieldError::new(field, FieldErrorCode::Invalid),
        }
    }
}

impl Amount {
    /// Reads a number, or a text such as `25%`.
    ///
    /// # Errors
    /// [`AmountError`] if the value has another shape, is below `least`, or is above the maximum.
    pub fn read(value: &Value, least: u64) -> Result<Self, AmountError> {
        let amount = match value {
            Value::Number(number) => number.as_u64().map(Self::Count),
            Value::String(text) => percent(text).map(Self::Percent),
            _ => None,
        };
        let amount = amount.ok_or(AmountError { least, bound: None })?;
        let (number, most) = match amount {
            Self::Count(count) => (count, MAX_AMOUNT),
            Self::Percent(percent) => (percent, 100),
        };
        let bound = match number {
            _ if number < least => (FieldErrorCode::TooSmall, least),
            _ if number > most => (FieldErrorCode::TooLarge, most),
            _ => return Ok(amount),
        };
        Err(AmountError { least, bound: Some(bound) })
    }

    /// Agents in a wave, of `all`: percentages are rounded up, and a wave has at least one agent.
    pub fn wave_size(self, all: u64) -> u64 {
        let size = match self {
            Self::Count(count) => count,
            Self::Percent(percent) => all.saturating_mul(percent).div_ceil(100),
        };
        size.max(1)
    }

    /// Failures that do not halt, among `all` agents: percentages are rounded down.
    pub fn failure_limit(self, all: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => all.saturating_mul(percent) / 100,
        }
    }
}

/// Reads `25%`. Only plain digits, so that each percentage is written in one form.
fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    let is_plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if is_plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_and_percentages_are_read_and_anything_else_is_refused() {
        let read = |value| Amount::read(&value, 1);
        assert_eq!(read(json!(10)), Ok(Amount::Count(10)));
        assert_eq!(read(json!("100%")), Ok(Amount::Percent(100)));
        for wrong in ["", "%", "5", "5 %", "+5%", "5.0%", "1000%", "５%"] {
            assert!(read(json!(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(read(json!(MAX_AMOUNT)), Ok(Amount::Count(MAX_AMOUNT)));
        assert!(read(json!(MAX_AMOUNT + 1)).is_err());
        let limit = |value| read(value).expect_err("refused").of("wave_size").limit;
        assert_eq!(limit(json!(0)), Some(1.into()));
        assert_eq!(limit(json!("101%")), Some(100.into()));
        assert_eq!(limit(json!(MAX_AMOUNT + 1)), Some(MAX_AMOUNT.into()));
        assert_eq!(limit(json!(-1)), None);
        let text = read(json!(0)).expect_err("too little").to_string();
        assert_eq!(
            text,
            "must be a number from 1 to 10000, or a percentage from \"1%\" to \"100%\""
        );
    }

    proptest! {
        #[test]
        fn percentages_never_exceed_all_agents_and_wave_sizes_are_never_zero(
            percent in 1u64..=100, all in 1u64..=10_000,
        ) {
            let amount = Amount::Percent(percent);
            let (up, down) = (amount.wave_size(all), amount.failure_limit(all));
            prop_assert!(1 <= up && up <= all);
            prop_assert!(down <= up && up - down <= 1);
        }
    }
}
