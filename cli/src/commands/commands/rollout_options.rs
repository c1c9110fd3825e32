//! The options that roll a job out in waves.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::input::quantities::{count_or_percentage, milliseconds};

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Rollout in waves (with --on or --tag)")]
pub struct RolloutOptions {
    /// Agents in a wave: a number, or a percentage such as 10%
    ///
    /// The next wave starts after all executions of the wave have ended.
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage)]
    wave: Option<Value>,
    /// Wait this long between two waves, such as 30s, 5m or 1h [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    pause: Option<u64>,
    /// Halt after more failures than this: a number, or a percentage of all agents [default: no limit]
    ///
    /// Running executions count as possible failures, so that a wave may start in parts; see --whole-waves.
    #[arg(long, value_name = "N|N%", value_parser = count_or_percentage, requires = "wave")]
    max_failures: Option<Value>,
    /// Start all executions of a wave at once, even if all of them could fail
    #[arg(long, requires = "max_failures")]
    whole_waves: bool,
    /// Start the next wave only after each agent of the wave was online for this long
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "wave")]
    healthy_for: Option<u64>,
    /// Halt if the agents are not healthy within this time [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = milliseconds, requires = "healthy_for")]
    healthy_within: Option<u64>,
    /// What to do with offline agents [default: they keep their place in the waves]
    #[arg(long, value_enum, requires = "wave")]
    offline: Option<Offline>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Offline {
    /// Move them to the last wave
    LastWave,
    /// Leave them out
    Skip,
}

impl RolloutOptions {
    /// The `rollout` of a job; none without `--wave`.
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
