//! Promises that this program can be made to break, so that the chaos suite can show that it would
//! notice. Only debug builds look for `MUSTER_FAULT`; in any other every answer is no.

use std::time::Duration;

const VARIABLE: &str = "MUSTER_FAULT";

/// A promise to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `early_ack`: a result is acknowledged before it is committed, [`DELAY`] later.
    EarlyAck,
    /// `repeated_delivery`: every durable command is sent once more, [`DELAY`] later. Agents have to
    /// bear it.
    RepeatedDelivery,
}

/// How much later, so that something can happen in between.
pub const DELAY: Duration = Duration::from_millis(700);

impl Fault {
    /// True if this guarantee must be broken.
    pub fn is_on(self) -> bool {
        let name = match self {
            Self::EarlyAck => "early_ack",
            Self::RepeatedDelivery => "repeated_delivery",
        };
        named().is_some_and(|names| names.split(',').any(|it| it == name))
    }
}

/// Says loudly that promises are broken, if they are.
pub fn warn() {
    if let Some(faults) = named() {
        tracing::warn!(faults, "{VARIABLE} is set: this program breaks its promises on purpose");
    }
}

fn named() -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(VARIABLE).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_broken_unless_it_is_asked_for() {
        assert!(!Fault::EarlyAck.is_on() && !Fault::RepeatedDelivery.is_on());
    }
}
