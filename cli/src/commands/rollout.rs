//! How a run on many agents is rolled out, as it stands on the command line.

use clap::ValueEnum;
use serde_json::{Value, json};

/// In waves, instead of on all agents at once.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "In waves, with --on or --tag")]
pub struct Waves {
    /// Agents of a wave: a number, or a share of all such as 10%. The next wave starts when the one
    /// before has ended.
    #[arg(long, value_name = "N|N%", value_parser = amount)]
    wave: Option<Value>,
    /// Wait this long between two waves, such as 30s, 5m or 1h.
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    pause: Option<u64>,
    /// Halt when more than these have failed: a number, or a share of all such as 5%. Each run in
    /// flight counts as one that may fail.
    #[arg(long, value_name = "N|N%", value_parser = amount, requires = "wave")]
    max_failures: Option<Value>,
    /// Start each wave as a whole, though all of it may fail.
    #[arg(long, requires = "max_failures")]
    whole_waves: bool,
    /// Before the next wave, each agent has to be online for this long after its own.
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    healthy_for: Option<u64>,
    /// Halt if it is not so within this time (10m).
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "healthy_for")]
    healthy_within: Option<u64>,
    /// What becomes of agents that are offline. Without it they keep their place.
    #[arg(long, value_enum, requires = "wave")]
    offline: Option<Offline>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Offline {
    /// They form the last wave.
    LastWave,
    /// They are left out.
    Skip,
}

impl Waves {
    /// The `rollout` of a job; none if it is not to go in waves.
    pub fn body(&self) -> Option<Value> {
        let mut body = json!({ "wave_size": self.wave.as_ref()? });
        if let Some(pause_ms) = self.pause {
            body["pause_ms"] = pause_ms.into();
        }
        if let Some(max_failures) = &self.max_failures {
            body["max_failures"] = max_failures.clone();
        }
        if self.whole_waves {
            body["count_in_flight"] = false.into();
        }
        if let Some(for_ms) = self.healthy_for {
            body["health_gate"] = json!({ "online": true, "for_ms": for_ms });
        }
        if let Some(within_ms) = self.healthy_within {
            body["health_gate"]["within_ms"] = within_ms.into();
        }
        if let Some(offline) = self.offline {
            body["offline"] = match offline {
                Offline::LastWave => "last_wave".into(),
                Offline::Skip => "skip".into(),
            };
        }
        Some(body)
    }
}

/// A number, or a share; whether it fits the server says.
pub fn amount(text: &str) -> Result<Value, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    match digits.parse::<u64>() {
        Ok(number) if digits == text => Ok(number.into()),
        Ok(_) => Ok(text.into()),
        Err(_) => Err("write a number such as 10, or a share such as 10%".into()),
    }
}

/// A time with its unit.
pub fn milliseconds(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number and its unit: 500ms, 30s, 5m or 1h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a number before the unit".to_owned())?;
    number.checked_mul(unit_ms).ok_or_else(|| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_amounts_may_be_shares() {
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("30s"), Ok(30_000));
        assert_eq!(milliseconds("5m"), Ok(300_000));
        assert_eq!(milliseconds("1h"), Ok(3_600_000));
        for wrong in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999999s", "1 s"] {
            assert!(milliseconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(amount("10"), Ok(json!(10)));
        assert_eq!(amount("10%"), Ok(json!("10%")));
        assert!(amount("ten").is_err());
    }
}
