//! A number of agents, or a share of them.

use serde_json::Value;

/// So many, or so many of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Count(u64),
    /// At most 100.
    Percent(u64),
}

/// Where a share of agents goes that is no whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    Up,
    Down,
}

/// Why something is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from {least} to {most}, or a share from \"{least}%\" to \"100%\"")]
pub struct AmountError {
    least: u64,
    most: u64,
}

impl Amount {
    /// Reads a number, or a text such as `25%`.
    ///
    /// # Errors
    /// [`AmountError`] if it is neither, or out of bounds.
    pub fn read(value: &Value, least: u64, most: u64) -> Result<Self, AmountError> {
        let amount = match value {
            Value::Number(number) => number.as_u64().map(Self::Count),
            Value::String(text) => percent(text).map(Self::Percent),
            _ => None,
        };
        let fits = |amount: &Self| match amount {
            Self::Count(count) => (least..=most).contains(count),
            Self::Percent(percent) => (least..=100).contains(percent),
        };
        amount.filter(fits).ok_or(AmountError { least, most })
    }

    /// How many it is of `all`.
    pub fn of(self, all: u64, rounding: Rounding) -> u64 {
        match (self, rounding) {
            (Self::Count(count), _) => count,
            (Self::Percent(percent), Rounding::Up) => all.saturating_mul(percent).div_ceil(100),
            (Self::Percent(percent), Rounding::Down) => all.saturating_mul(percent) / 100,
        }
    }
}

/// `25%`; digits alone, so that there is one way to write it.
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
    fn numbers_and_shares_are_read() {
        let read = |value| Amount::read(&value, 1, 10);
        assert_eq!(read(json!(10)), Ok(Amount::Count(10)));
        assert_eq!(read(json!("100%")), Ok(Amount::Percent(100)));
        for wrong in ["", "%", "5", "5 %", "+5%", "5.0%", "1000%", "５%"] {
            assert!(read(json!(wrong)).is_err(), "{wrong}");
        }
        assert!(read(json!(11)).is_err());
        let text = read(json!(0)).expect_err("too little").to_string();
        assert_eq!(text, "must be a number from 1 to 10, or a share from \"1%\" to \"100%\"");
    }

    proptest! {
        #[test]
        fn a_share_is_never_more_than_all_and_rounded_up_never_nothing(
            percent in 1u64..=100, all in 1u64..=10_000,
        ) {
            let amount = Amount::Percent(percent);
            let (up, down) = (amount.of(all, Rounding::Up), amount.of(all, Rounding::Down));
            prop_assert!(1 <= up && up <= all);
            prop_assert!(down <= up && up - down <= 1);
        }
    }
}
